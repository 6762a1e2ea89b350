"""Reconstruction: pairs of images -> values with intervals, per-image samples, and reasons for empty cells."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from evaluation import chunks, features, frechet, pair_metrics, perceptual, pixels, sets, statistics, weights
from evaluation.errors import TooFew
from evaluation.images import Images
from evaluation.metrics import METRICS
from evaluation.protocols import protocol_id
from evaluation.records import Interval, Value, empty, measured
from latticebench.errors import Missing

PIXEL_CHUNK = 16


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the user may choose about judging. weights: paths by the names of evaluation.weights.ENTRIES.

    store: folder of stored features, None to keep none. allow_few: compute Fréchet distances even where the
    images are too few for their covariance.
    """

    weights: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    store: Path | None = None
    device: str = "cpu"
    processes: int = 1
    allow_few: bool = False


@dataclasses.dataclass
class Judgement:
    """What was measured: values and per-image samples by metric, hashes of weights, notes."""

    values: dict[str, Value] = dataclasses.field(default_factory=dict)
    samples: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    weights: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _PixelJob:
    """Per-image metrics of a chunk of pairs; NaN marks an image that is too small for a metric."""

    originals: Images
    reconstructions: Images
    perceptual: tuple[str, ...]
    settings: Settings

    def __call__(self, chunk: chunks.Chunk) -> dict[str, np.ndarray]:
        a, b = self.originals.read(chunk), self.reconstructions.read(chunk)
        psnr = pixels.psnr(a, b)
        result = {
            "psnr": psnr,
            "psnr_gain": psnr - pixels.psnr(a, pixels.mean_colour(a)),
            "ssim": _or_nan(pixels.ssim, a, b),
            "ms_ssim": _or_nan(pixels.ms_ssim, a, b),
            "identical": pixels.identical(a, b),
        }
        options = {"paths": self.settings.weights, "device": self.settings.device}
        for metric in self.perceptual:
            result[metric] = _or_nan(functools.partial(perceptual.distances, metric, **options), a, b)
        for metric, function in pair_metrics.registered().items():
            result[metric] = _or_nan(function, a, b)
        return result


def _or_nan(metric: Callable[[np.ndarray, np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    try:
        return metric(a, b)
    except ValueError:
        return np.full(len(a), np.nan)


_TOO_SMALL = {
    "ssim": "needs sides of at least 11 px",
    "ms_ssim": "needs sides above 160 px",
    "lpips_alex": "needs sides of at least 32 px",
    "lpips_vgg": "needs sides of at least 16 px",
}


def measure(
    originals: Images,
    reconstructions: Images,
    groups: Sequence[int] | None,
    settings: Settings,
    content: str | None = None,
    with_sets: bool = False,
    floats: Images | None = None,
) -> Judgement:
    """Every reconstruction metric of pairs of images of equal sizes.

    groups: (N,) scene ids, None where every image is its own scene. content: the originals' hash, if known.
    with_sets: also KID, inception score, precision, recall and DINOv2's distance of the reconstructions. floats: the
    reconstructions before rounding, for the protocol that takes them.
    """
    judgement = Judgement()
    _pixel_metrics(judgement, originals, reconstructions, groups, settings)
    cut = statistics.blocks(len(originals), groups)
    _frechet(judgement, "rfid", "inception-pytorch-fid", "pool", originals, reconstructions, cut, settings, content)
    if floats is None:
        judgement.values["rfid_float"] = empty(protocol_id("rfid_float"), _no_floats(settings))
    else:
        _frechet(judgement, "rfid_float", "inception-pytorch-fid", "pool", originals, floats, cut, settings, content)
    _frechet(judgement, "fd_insuite", "insuite", "features", originals, reconstructions, cut, settings, content)
    if with_sets:
        _frechet(judgement, "fd_dinov2", "dinov2", "features", originals, reconstructions, cut, settings, content)
        _sets(judgement, originals, reconstructions, cut, settings, content)
    return judgement


def _no_floats(settings: Settings) -> str:
    """Why there is no distance of un-rounded reconstructions: they were not given, or could not be used anyway."""
    try:
        weights.find("inception", settings.weights)
    except Missing as error:
        return str(error)
    return "needs the reconstructions before rounding (--floats)"


def _pixel_metrics(
    judgement: Judgement,
    originals: Images,
    reconstructions: Images,
    groups: Sequence[int] | None,
    settings: Settings,
) -> None:
    available = []
    for metric, trunk in perceptual.TRUNKS.items():
        try:
            judgement.weights[f"lpips-{trunk}"] = weights.find(f"lpips-{trunk}", settings.weights).sha256
            available.append(metric)
        except Missing as error:
            judgement.values[metric] = empty(protocol_id(metric), str(error))
    job = _PixelJob(originals, reconstructions, tuple(available), settings)
    pieces = chunks.cut(originals.shapes, PIXEL_CHUNK)
    parts = list(chunks.run(job, pieces, settings.processes, "pixel metrics"))
    columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    same = int(columns.pop("identical").sum())
    if same:
        judgement.notes.append(
            f"{same} of {len(originals)} reconstructions equal their original; their PSNR is infinite and counts as "
            "one grey level of error in a single sample"
        )
    for metric, values in columns.items():
        if np.isnan(values).any():
            sides = sorted({min(shape) for shape in originals.shapes})
            needs = _TOO_SMALL.get(metric, "it has no value for some image")
            judgement.values[metric] = empty(protocol_id(metric), f"{needs}; the shortest side here is {sides[0]} px")
            continue
        mean, interval = statistics.mean_interval(values, groups)
        judgement.values[metric] = measured(
            mean, protocol_id(metric), unit=METRICS[metric].unit, interval=interval, n=len(values)
        )
        judgement.samples[metric] = values.tolist()


def _frechet(
    judgement: Judgement,
    metric: str,
    extractor: str,
    head: str,
    originals: Images,
    reconstructions: Images,
    cut: statistics.Blocks | None,
    settings: Settings,
    content: str | None,
) -> None:
    also_infinite = f"{metric}_infinite" in METRICS
    keys = [metric, f"{metric}_infinite"] if also_infinite else [metric]
    try:
        built = features.build(extractor, settings.weights, settings.device)
    except Missing as error:
        judgement.values.update({key: empty(protocol_id(key), str(error)) for key in keys})
        return
    judgement.weights[extractor] = built.sha256
    n = len(originals)
    options = {"paths": settings.weights, "device": settings.device, "processes": settings.processes}
    a = features.of(originals, extractor, (head,), store=settings.store, content=content, **options)[head]
    b = features.of(reconstructions, extractor, (head,), **options)[head]
    identity = [protocol_id(key, built.sha256) for key in keys]
    try:
        value, around = frechet_interval(a, b, cut, settings.allow_few)
    except TooFew as error:
        judgement.values.update({key: empty(p, str(error), n=n) for key, p in zip(keys, identity, strict=True)})
        return
    if n <= a.shape[1]:
        judgement.notes.append(f"{metric}: {n} images for {a.shape[1]} dimensions, asked for; mostly bias")
    judgement.values[metric] = measured(value, identity[0], interval=around, n=n)
    if also_infinite:
        judgement.values[keys[1]] = _infinite(a, b, identity[1])


def frechet_interval(
    a: np.ndarray, b: np.ndarray, cut: statistics.Blocks | None, allow_few: bool = False
) -> tuple[float, Interval | None]:
    """Fréchet distance of paired features (N, d) twice, and its jackknife interval; a pair stays together.

    One group's sums are held at a time, so memory depends on d and not on N.
    """
    all_a, all_b = frechet.moments(a), frechet.moments(b)
    value = frechet.between(all_a, all_b, allow_few)
    if cut is None:
        return value, None
    members = [np.flatnonzero(cut.labels == group) for group in range(cut.count)]
    if all_a.n - max(map(len, members)) <= a.shape[1] and not allow_few:
        return value, None
    left_out = []
    for rows in tqdm(members, "jackknife", unit="group", delay=3):
        without = (whole.without(frechet.moments(side, rows)) for whole, side in ((all_a, a), (all_b, b)))
        left_out.append(frechet.quick_distance(*without))
    return value, statistics.jackknife(value, left_out, cut, (0.0, math.inf))


def _infinite(a: np.ndarray, b: np.ndarray, protocol: str) -> Value:
    """The distance extrapolated to infinitely many images, from subsets of at least twice as many as dimensions."""
    n, smallest = len(a), max(2 * a.shape[1], len(a) // 4)
    if n < 1.5 * smallest:
        return empty(protocol, f"needs at least {int(1.5 * smallest)} images to extrapolate; there are {n}", n=n)
    value = statistics.infinite(
        lambda kept: frechet.between(frechet.moments(a, kept), frechet.moments(b, kept)), n, smallest
    )
    return measured(value, protocol, n=n)


def _sets(
    judgement: Judgement,
    originals: Images,
    reconstructions: Images,
    cut: statistics.Blocks | None,
    settings: Settings,
    content: str | None,
) -> None:
    """KID, precision and recall against the originals, and the reconstructions' inception score."""
    name = "inception-tf1"
    try:
        judgement.weights[name] = features.build(name, settings.weights, settings.device).sha256
    except Missing as error:
        keys = ("kid", "inception_score", "precision", "recall")
        judgement.values.update({key: empty(protocol_id(key), str(error)) for key in keys})
        return
    options = {"paths": settings.weights, "device": settings.device, "processes": settings.processes}
    heads = ("pool", "logits")
    a = features.of(originals, name, heads, store=settings.store, content=content, **options)
    b = features.of(reconstructions, name, heads, **options)
    judgement.values["kid"] = sets.kid(b["pool"], a["pool"], cut)
    judgement.values["inception_score"] = sets.inception_score(b["logits"], cut)
    judgement.values.update(sets.precision_recall(b["pool"], a["pool"], cut))
