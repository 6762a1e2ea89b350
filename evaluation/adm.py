"""ADM's evaluator: generated images against the moments and images of its reference batch.

Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", 2021 (https://arxiv.org/abs/2105.05233);
https://github.com/openai/guided-diffusion, evaluations/evaluator.py. A reference batch is an .npz file: `mu` and
`sigma` of the 2,048 pooled features, `mu_s` and `sigma_s` of the 2,023 spatial ones, and images in `arr_0`.

Intervals are delete-a-group jackknives over the judged images; the reference is part of the protocol and stays.
"""

import dataclasses
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from evaluation import arrays, features, frechet, images, sets, statistics, weights
from evaluation.errors import TooFew
from evaluation.images import Images
from evaluation.protocols import protocol_id
from evaluation.reconstruction import Judgement, Settings
from evaluation.records import Interval, Value, empty, measured
from latticebench.errors import BadInput
from latticebench.files import sha256

EXTRACTOR = "inception-tf1"
SPLIT = 5000
"""Images of a split of the inception score."""
NEIGHBOURS = 3
_COLUMNS = 4096
_MOMENTS = {"pool": ("mu", "sigma", 2048), "spatial": ("mu_s", "sigma_s", 2023)}


@dataclasses.dataclass(frozen=True)
class Reference:
    """A reference batch. gaussians: of the heads whose moments the file states. images: None where it has none."""

    path: Path
    sha256: str
    gaussians: dict[str, frechet.Gaussian]
    images: Images | None


def load(path: Path) -> Reference:
    """Reads a reference batch. Raises BadInput naming the file and the array that is not what it should be."""
    names = arrays.keys(path)
    gaussians = {}
    for head, (mean, covariance, dim) in _MOMENTS.items():
        if mean not in names or covariance not in names:
            continue
        m, c = (np.asarray(arrays.opened(path, key), dtype=np.float64) for key in (mean, covariance))
        if m.shape != (dim,) or c.shape != (dim, dim):
            raise BadInput(f"{path}: {mean} and {covariance} must have {dim} dimensions, got {m.shape} and {c.shape}")
        if not (np.isfinite(m).all() and np.isfinite(c).all()):
            raise BadInput(f"{path}: {mean} or {covariance} is not finite")
        gaussians[head] = frechet.Gaussian(m, (c + c.T) / 2)
    if "arr_0" not in names and not gaussians:
        raise BadInput(f"{path} holds neither mu and sigma nor arr_0; there are: {', '.join(names)}")
    batch = images.load(path) if "arr_0" in names else None
    return Reference(path, sha256(path), gaussians, batch)


def measure(samples: Images, reference: Reference, settings: Settings) -> Judgement:
    """gFID, sFID, inception score, precision and recall of generated images in their stored order.

    Raises Missing without the Inception weights.
    """
    judgement = Judgement()
    judgement.weights[EXTRACTOR] = features.build(EXTRACTOR, settings.weights, settings.device).sha256
    judgement.weights["adm-reference"] = reference.sha256
    heads = ("pool", "spatial", "logits")
    found = _features(samples, heads, settings)
    cut = statistics.blocks(len(samples))
    theirs = None
    if reference.images is not None:
        theirs = _features(reference.images, ("pool", "spatial"), settings)
    for metric, head in (("gfid", "pool"), ("sfid", "spatial")):
        gaussian = reference.gaussians.get(head)
        if gaussian is None and theirs is not None:
            judgement.notes.append(f"{metric}: the reference states no moments; they are those of its images")
            gaussian = frechet.moments(theirs[head])
        judgement.values[metric] = distance(metric, found[head], gaussian, cut, settings, judgement)
    judgement.values["is_adm"] = inception_score(found["logits"], cut)
    if theirs is None:
        for metric in ("precision_adm", "recall_adm"):
            reason = "the reference batch holds no images (arr_0)"
            judgement.values[metric] = empty(protocol_id(metric), reason, n=len(samples))
    else:
        judgement.values.update(precision_recall(found["pool"], theirs["pool"], cut, settings.device))
        judgement.notes.append(f"precision and recall: against {len(theirs['pool'])} images of the reference")
    return judgement


def reconstruction_distance(
    judgement: Judgement, reconstructions: Images, reference: Reference, groups: object, settings: Settings
) -> None:
    """Adds rfid_adm: reconstructions against the reference's moments. groups: (N,) scene ids or None."""
    built = features.build(EXTRACTOR, settings.weights, settings.device)
    judgement.weights.update({EXTRACTOR: built.sha256, "adm-reference": reference.sha256})
    found = _features(reconstructions, ("pool",), settings)["pool"]
    cut = statistics.blocks(len(reconstructions), groups)  # type: ignore[arg-type]
    gaussian = reference.gaussians.get("pool")
    judgement.values["rfid_adm"] = distance("rfid_adm", found, gaussian, cut, settings, judgement)


def _features(of: Images, heads: tuple[str, ...], settings: Settings) -> dict[str, np.ndarray]:
    return features.of(
        of,
        EXTRACTOR,
        heads,
        paths=settings.weights,
        store=settings.store,
        device=settings.device,
        processes=settings.processes,
    )


def distance(
    metric: str,
    found: np.ndarray,
    reference: frechet.Gaussian | frechet.Moments | None,
    cut: statistics.Blocks | None,
    settings: Settings,
    judgement: Judgement,
) -> Value:
    """A Fréchet distance of features (N, d) from a fixed reference, and its interval."""
    n, dim = found.shape
    if reference is None:
        return empty(protocol_id(metric), "the reference batch states no moments of these features", n=n)
    own = frechet.moments(found)
    try:
        value = frechet.between(own, reference, settings.allow_few)
    except TooFew as error:
        return empty(protocol_id(metric), str(error), n=n)
    if n <= dim:
        judgement.notes.append(f"{metric}: {n} images for {dim} dimensions, asked for; mostly bias")
    around = None
    if cut is not None and (settings.allow_few or n - np.bincount(cut.labels).max() > dim):
        left_out = []
        for group in tqdm(range(cut.count), f"{metric} jackknife", unit="group", delay=3):
            without = own.without(frechet.moments(found, np.flatnonzero(cut.labels == group)))
            left_out.append(frechet.quick_distance(reference, without))
        around = statistics.jackknife(value, left_out, cut, (0.0, math.inf))
    return measured(value, protocol_id(metric), n=n, interval=around)


def inception_score(logits: np.ndarray, cut: statistics.Blocks | None) -> Value:
    """Inception score of logits without the bias (N, 1008): the mean over consecutive splits of 5,000 images."""
    splits = np.arange(len(logits)) // SPLIT
    value, around = sets.split_scores(logits, splits, cut)
    return measured(value, protocol_id("is_adm"), n=len(logits), interval=around)


def precision_recall(
    judged: np.ndarray, reference: np.ndarray, cut: statistics.Blocks | None, device: str = "cpu"
) -> dict[str, Value]:
    """ADM's precision and recall of features (N, d) and (M, d); Kynkäänniemi et al. 2019 (arXiv:1904.06991).

    Distances are squared and in half precision, as ADM's evaluator has them. Memory is a block of rows by N or M.
    """
    n, m = len(judged), len(reference)
    keys = ("precision_adm", "recall_adm")
    if min(n, m) <= NEIGHBOURS:
        reason = f"needs more than {NEIGHBOURS} images on both sides; there are {min(n, m)}"
        return {key: empty(protocol_id(key), reason, n=n) for key in keys}
    labels = np.zeros(n, dtype=int) if cut is None else cut.labels
    # Sorted by group, each group is a slice of the columns.
    order = np.argsort(labels, kind="stable")
    groups = torch.from_numpy(labels[order]).to(device)
    sizes = np.bincount(labels).tolist()
    x = torch.from_numpy(np.asarray(judged[order], dtype=np.float32)).to(device)
    y = torch.from_numpy(np.array(reference, dtype=np.float32)).to(device)
    whole = len(sizes)  # the last row of radii: nobody left out
    radii = _radii(x, sizes)
    reference_radii = _radii(y, [m])[-1]
    inside = torch.zeros(n, dtype=torch.bool, device=device)
    covered = torch.zeros(whole + 1, m, dtype=torch.bool, device=device)
    for start in tqdm(range(0, n, sets.ROWS), "precision and recall", unit="block", delay=3):
        rows = slice(start, start + sets.ROWS)
        block = squared(x[rows], y)
        inside[rows] = (block <= reference_radii).any(dim=1)
        for left_out in range(whole + 1):
            kept = groups[rows] != left_out
            covered[left_out] |= (block[kept] <= radii[left_out, rows][kept, None]).any(dim=0)
    recalls = covered.float().mean(dim=1).tolist()
    hits = torch.zeros(whole, dtype=torch.float64, device=device).index_add_(0, groups, inside.double()).tolist()
    values = dict(zip(keys, (sum(hits) / n, recalls[-1]), strict=True))
    around: dict[str, Interval | None] = dict.fromkeys(keys)
    if cut is not None and n - max(sizes) > NEIGHBOURS:
        precisions = [(sum(hits) - hit) / (n - size) for hit, size in zip(hits, sizes, strict=True)]
        for key, left in zip(keys, (precisions, recalls[:-1]), strict=True):
            around[key] = statistics.jackknife(values[key], left, cut, (0.0, 1.0))
    return {key: measured(values[key], protocol_id(key), n=n, interval=around[key]) for key in keys}


def _radii(x: Tensor, sizes: list[int]) -> Tensor:
    """(groups + 1, N): squared distance to the third neighbour without each group, and, last, among all.

    x: (N, d), sorted by group. sizes: images of each group.
    """
    result = torch.empty(len(sizes) + 1, len(x), device=x.device)
    for start in tqdm(range(0, len(x), sets.ROWS), "neighbours", unit="block", delay=3):
        block = squared(x[start : start + sets.ROWS], x)
        # The few nearest of each group say who is third when any one of them is left out; the image itself is first.
        nearest = [
            part.topk(min(NEIGHBOURS + 1, part.shape[1]), largest=False).values for part in block.split(sizes, 1)
        ]
        for left_out in range(len(sizes) + 1):
            kept = torch.cat([part for g, part in enumerate(nearest) if g != left_out] or nearest, dim=1)
            smallest = min(NEIGHBOURS + 1, kept.shape[1])
            result[left_out, start : start + sets.ROWS] = kept.kthvalue(smallest, dim=1).values
    return result


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (A, B) of rows in half precision; in float32 where half precision overflows, as ADM does.

    Products are summed in float32 and each step is rounded, so a CPU gives what a GPU gives but for the sums' order.
    """
    return torch.cat([_squared(a, part) for part in b.split(_COLUMNS)], dim=1)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """`squared` of a block."""

    def rounded(x: Tensor) -> Tensor:
        return x.half().float()

    x, y = rounded(a), rounded(b)
    xx, yy = rounded((x * x).sum(dim=1)), rounded((y * y).sum(dim=1))
    result = rounded(rounded(xx[:, None] - rounded(2 * (x @ y.T))) + yy).clamp_(min=0)
    if bool(torch.isfinite(result).all()):
        return result
    return ((a * a).sum(dim=1)[:, None] - 2 * (a @ b.T) + (b * b).sum(dim=1)).clamp_(min=0)


def default_reference(settings: Settings) -> Path:
    """ADM's ImageNet 256 batch in checkpoints/. Raises Missing with the command that fetches it."""
    return weights.find("adm-reference", settings.weights).path
