"""Set metrics besides the Fréchet distance, computed by torch-fidelity from stored features.

Intervals are delete-a-group jackknives (see `statistics`). `judged` is always the first side, `reference` the
second: precision is the share of judged images inside the reference's manifold.
"""

import math
from typing import Any

import numpy as np
from tqdm import tqdm

from evaluation.protocols import protocol_id
from evaluation.records import Interval, Value, empty, measured
from evaluation.statistics import Blocks, jackknife

KID_SUBSETS, KID_SUBSET_SIZE, SEED = 100, 1000, 2020
NEIGHBOURS = 3
IS_SPLITS = 10
ROWS = 1000
"""Images at once where one pass is made over all of them."""
MANIFOLD_LIMIT = 5000
"""Above this many images precision and recall carry no interval: it takes all distances at once."""


def inception_score(logits: np.ndarray, cut: Blocks | None) -> Value:
    """Inception score of logits without the bias (N, classes). Its interval is about the score at this N."""
    protocol, n = protocol_id("inception_score"), len(logits)
    if n < IS_SPLITS:
        return empty(protocol, f"needs at least {IS_SPLITS} images, one a split; there are {n}", n=n)
    import torch
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    features = torch.from_numpy(np.array(logits))
    value = isc_features_to_metric(features, splits=IS_SPLITS, shuffle=True, rng_seed=SEED)[KEY_METRIC_ISC_MEAN]
    return measured(value, protocol, n=n, interval=split_scores(logits, shuffled_splits(n), cut)[1])


def shuffled_splits(n: int) -> np.ndarray:
    """(N,) the split of each image, as torch-fidelity shuffles and cuts."""
    bounds = [i * n // IS_SPLITS for i in range(1, IS_SPLITS)]
    splits = np.empty(n, dtype=np.int64)
    splits[np.random.RandomState(SEED).permutation(n)] = np.searchsorted(bounds, np.arange(n), side="right")
    return splits


def split_scores(logits: np.ndarray, splits: np.ndarray, cut: Blocks | None) -> tuple[float, Interval | None]:
    """Mean over splits of exp(mean KL(p | mean p)), and its interval; splits: (N,) the number of each image's split.

    A split's score is a function of the sums of p and of p log p alone, so leaving a group out subtracts its sums.
    There is no interval where a split lies within one group.
    """
    import torch

    labels = np.zeros(len(logits), dtype=np.int64) if cut is None else cut.labels
    shape = (int(splits.max()) + 1, int(labels.max()) + 1)
    count, own = np.zeros(shape), np.zeros(shape)
    total = np.zeros((*shape, logits.shape[1]))
    for start in range(0, len(logits), ROWS):
        x = torch.from_numpy(np.array(logits[start : start + ROWS], dtype=np.float64))
        log_p = x.log_softmax(dim=1)
        p = log_p.exp().numpy()
        where = splits[start : start + ROWS], labels[start : start + ROWS]
        np.add.at(total, where, p)
        np.add.at(own, where, (p * log_p.numpy()).sum(axis=1))
        np.add.at(count, where, 1)

    def score(kept: np.ndarray) -> float:
        n = count[:, kept].sum(axis=1)
        mean = total[:, kept].sum(axis=1) / n[:, None]
        crossed = np.sum(mean * np.log(np.where(mean > 0, mean, 1)), axis=1)
        return float(np.mean(np.exp(own[:, kept].sum(axis=1) / n - crossed)))

    everything = np.arange(shape[1])
    value = score(everything)
    if cut is None or (count.sum(axis=1, keepdims=True) == count).any():
        return value, None
    return value, jackknife(value, [score(np.delete(everything, group)) for group in everything], cut, (1.0, math.inf))


def kid(judged: np.ndarray, reference: np.ndarray, cut: Blocks | None) -> Value:
    """Kernel distance of features (N, d): the mean over subsets, with the interval of the whole set's estimate."""
    protocol, n = protocol_id("kid"), min(len(judged), len(reference))
    if n < KID_SUBSET_SIZE:
        return empty(protocol, f"needs at least {KID_SUBSET_SIZE} images, a subset's size; there are {n}", n=n)
    from torch_fidelity.metric_kid import kernel_mmd

    # torch-fidelity's subsets in its order, but each in float64: the kernel is a cube, and it computes in whatever
    # it is given.
    rng = np.random.RandomState(SEED)
    found = []
    for _ in tqdm(range(KID_SUBSETS), "KID", unit="subset", delay=3):
        rows = [rng.choice(len(side), KID_SUBSET_SIZE, replace=False) for side in (judged, reference)]
        x, y = (np.asarray(side[row], dtype=np.float64) for side, row in zip((judged, reference), rows, strict=True))
        found.append(kernel_mmd(x, y))
    value = float(np.mean(found))
    return measured(value, protocol, n=n, interval=None if cut is None else kid_interval(judged, reference, cut, value))


def kid_interval(judged: np.ndarray, reference: np.ndarray, cut: Blocks, centre: float) -> Interval | None:
    """Jackknife of the unbiased squared MMD of the whole sets; pairs (N, d) twice stay together.

    The kernel is summed by pairs of groups once; leaving a group out subtracts its row and column.
    """
    members = [np.flatnonzero(cut.labels == group) for group in range(cut.count)]
    sizes = np.array([len(rows) for rows in members])
    xx, yy, xy = (
        _kernel_sums(a, b, members) for a, b in ((judged, judged), (reference, reference), (judged, reference))
    )
    dx, dy = (np.array([_diagonal(side, rows) for rows in members]) for side in (judged, reference))
    left_out = []
    for group in range(cut.count):
        kept = np.arange(cut.count) != group
        m = int(sizes[kept].sum())
        within = sum(k[kept][:, kept].sum() - diag[kept].sum() for k, diag in ((xx, dx), (yy, dy))) / (m * (m - 1))
        left_out.append(within - 2 * xy[kept][:, kept].sum() / m**2)
    return jackknife(centre, left_out, cut)


def _kernel(products: np.ndarray, dim: int) -> np.ndarray:
    """The cubic kernel of inner products; numpy's ** 3 takes ten times longer."""
    k = products / dim + 1
    return k * k * k


def _kernel_sums(a: np.ndarray, b: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    """(G, G) sums of the kernel of features (N, d) over pairs of groups, whose members' indices are given.

    A block of rows and a group are in float64 at a time: 50,000 features twice would take 1.6 GB.
    """
    result = np.zeros((len(members), len(members)))
    for i, rows in enumerate(members):
        for start in range(0, len(rows), ROWS):
            left = np.asarray(a[rows[start : start + ROWS]], dtype=np.float64)
            for j, columns in enumerate(members):
                right = np.asarray(b[columns], dtype=np.float64)
                result[i, j] += _kernel(left @ right.T, a.shape[1]).sum()
    return result


def _diagonal(features: np.ndarray, rows: np.ndarray) -> float:
    """The sum of the kernel of each of some features with itself."""
    x = np.asarray(features[rows], dtype=np.float64)
    return float(_kernel((x * x).sum(axis=1), features.shape[1]).sum())


def precision_recall(judged: np.ndarray, reference: np.ndarray, cut: Blocks | None) -> dict[str, Value]:
    """Precision and recall of features (N, d) and (M, d) with k = 3, by torch-fidelity."""
    import torch
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    n = min(len(judged), len(reference))
    keys = {"precision": KEY_METRIC_PRECISION, "recall": KEY_METRIC_RECALL}
    if n <= NEIGHBOURS:
        reason = f"needs more than {NEIGHBOURS} images on both sides; there are {n}"
        return {key: empty(protocol_id(key), reason, n=n) for key in keys}
    sides = [torch.from_numpy(np.array(side)) for side in (judged, reference)]
    found = prc_features_to_metric(
        *sides, prc_neighborhood=NEIGHBOURS, prc_batch_size=ROWS, save_cpu_ram=True, verbose=False
    )
    around = (
        _manifold_intervals(*sides, cut, [found[key] for key in keys.values()]) if cut is not None else [None, None]
    )
    return {
        key: measured(found[theirs], protocol_id(key), n=n, interval=interval)
        for (key, theirs), interval in zip(keys.items(), around, strict=True)
    }


def _manifold_intervals(judged: Any, reference: Any, cut: Blocks, centres: list[float]) -> list[Interval | None]:
    """Jackknife intervals of precision and recall from the distances of all pairs; both sides lose the group."""
    import torch

    if len(judged) > MANIFOLD_LIMIT or len(reference) != len(judged):
        return [None, None]
    within_judged, within_reference = torch.cdist(judged, judged), torch.cdist(reference, reference)
    across = torch.cdist(judged, reference)
    kept_values: list[tuple[float, float]] = []
    for group in range(cut.count):
        kept = torch.from_numpy(np.flatnonzero(cut.labels != group))
        if len(kept) <= NEIGHBOURS:
            return [None, None]
        both = across[kept][:, kept]
        radius_judged, radius_reference = (
            d[kept][:, kept].kthvalue(NEIGHBOURS + 1).values for d in (within_judged, within_reference)
        )
        precision = (both <= radius_reference).any(dim=1).float().mean().item()
        recall = (radius_judged >= both.T).any(dim=1).float().mean().item()
        kept_values.append((precision, recall))
    return [jackknife(c, [v[i] for v in kept_values], cut, (0.0, 1.0)) for i, c in enumerate(centres)]
