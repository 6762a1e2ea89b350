"""Intervals and comparisons: what a number would have been on other images of the same kind.

Means of per-image metrics take a t interval whose unit is the scene: crops of one photograph are not
independent, so the standard error is the delete-one-scene jackknife (for scenes of one image each it is
the ordinary one, s/sqrt(n)) with scenes − 1 degrees of freedom.

Set metrics (Fréchet distances, KID, IS, precision, recall, codes used, entropy) are functions of the
whole set, biased in N. The usual bootstrap is wrong for them: drawing with replacement repeats images,
which adds a bias of the size of the one that is there already, so its percentiles miss the value. The
delete-a-group jackknife (Shao and Wu, Ann. Statist. 17(3), 1989) never repeats an image, and the shift
of the leave-out values is the same for every group and cancels in their spread. Its interval is about
the value expected at this N, so two values are comparable only at equal N; `infinite` extrapolates.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from evaluation.records import Interval

LEVEL = 0.95
GROUPS = 20
"""Groups of a jackknife; t with 19 degrees of freedom is 2.09, near enough to 1.96."""
ENOUGH_SCENES = 10
"""With fewer scenes than this, a set metric without one of them is another metric: the groups are then
runs of neighbouring images in scene order and the interval says that it holds for these scenes."""


def t_quantile(degrees: int, level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + level / 2))


def mean_interval(values: Sequence[float], groups: Sequence[int] | None = None) -> tuple[float, Interval | None]:
    """Mean over images and its t interval clustered by scene; the interval is None for fewer than two scenes.

    values: (N,) one number an image. groups: (N,) scene ids, None where every image is its own scene.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise ValueError("the mean of no values")
    scenes = np.arange(x.size) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if scenes.shape != x.shape:
        raise ValueError(f"{x.size} values and {scenes.size} groups")
    mean = float(x.mean())
    clusters = int(scenes.max()) + 1
    if clusters < 2:
        return mean, None
    sizes = np.bincount(scenes)
    sums = np.bincount(scenes, weights=x - mean)
    left_out = -sums / (x.size - sizes)
    error = math.sqrt((clusters - 1) / clusters * float(np.sum((left_out - left_out.mean()) ** 2)))
    what = f"t over {clusters} images" if clusters == x.size else f"t, clustered by scene ({clusters} scenes)"
    return mean, _around(mean, error, clusters - 1, what)


def _around(value: float, error: float, degrees: int, method: str) -> Interval:
    half = t_quantile(degrees) * error
    return Interval(low=value - half, high=value + half, method=method, level=LEVEL)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The mean of a − b on the same images, its interval, and whether zero lies outside it."""

    difference: float
    interval: Interval | None
    real: bool


def paired(a: Sequence[float], b: Sequence[float], groups: Sequence[int] | None = None) -> Comparison:
    """Compares two subjects on the same images (N,), clustered by scene.

    Images on which both agree exactly everywhere give difference 0 and `real` False.
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    mean, interval = mean_interval(difference.tolist(), groups)
    real = interval is not None and not interval.low <= 0.0 <= interval.high
    return Comparison(mean, interval, real)


def seeds_summary(values: Sequence[float]) -> tuple[float, float | None, int]:
    """Mean, standard deviation (n − 1; None for one seed) and number of seeds."""
    x = np.asarray(values, dtype=np.float64)
    return float(x.mean()), (float(x.std(ddof=1)) if x.size > 1 else None), int(x.size)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Which jackknife group each image is in. labels: (N,) in [0, count); scope says what the interval covers."""

    labels: np.ndarray
    count: int
    scope: str


def blocks(n: int, groups: Sequence[int] | None = None, count: int = GROUPS) -> Blocks | None:
    """Cuts n images into jackknife groups of whole scenes, or, with few scenes, of neighbours in scene order.

    None where there are fewer than four images. Every image is in one group and the cut is fixed, so that two
    subjects judged on the same images are cut alike.
    """
    if n < 4:
        return None
    scenes = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    if scenes.shape != (n,):
        raise ValueError(f"{n} images and {scenes.size} groups")
    number = int(scenes.max()) + 1
    if number >= ENOUGH_SCENES:
        count = min(count, number)
        # A fixed shuffle of the scenes: neighbours in a sorted folder may be of one class.
        labels = (np.random.default_rng(0).permutation(number) % count)[scenes]
        return Blocks(labels, count, f"{number} images" if number == n else f"by scene, {number} scenes")
    count = min(count, n // 2)
    order = np.argsort(scenes, kind="stable")
    labels = np.empty(n, dtype=np.int64)
    labels[order] = np.arange(n) * count // n
    return Blocks(labels, count, f"given these {number} scenes" if number > 1 else "given this scene")


def jackknife(
    value: float, left_out: Sequence[float], cut: Blocks, within: tuple[float, float] = (-math.inf, math.inf)
) -> Interval | None:
    """Interval of a set metric from its values without each group of `cut`.

    value: the metric of the whole set, at the interval's centre. left_out: (cut.count,) the metric without
    group g, in order; None is returned if one of them is not finite. within: values that the metric can have; the
    interval is cut to them.
    """
    x = np.asarray(left_out, dtype=np.float64)
    if x.shape != (cut.count,):
        raise ValueError(f"{cut.count} groups and {x.size} leave-out values")
    if not np.isfinite(x).all() or not math.isfinite(value):
        return None
    error = math.sqrt((cut.count - 1) / cut.count * float(np.sum((x - x.mean()) ** 2)))
    method = f"delete-a-group jackknife, {cut.count} groups ({cut.scope}), at this N"
    around = _around(value, error, cut.count - 1, method)
    return around.model_copy(update={"low": max(around.low, within[0]), "high": min(around.high, within[1])})


def infinite(metric: Callable[[np.ndarray], float], n: int, smallest: int, points: int = 8, draws: int = 4) -> float:
    """A set metric extrapolated to infinite N: the intercept of a least-squares line in 1/N.

    Chong and Forsyth, "Effectively Unbiased FID and Inception Score", CVPR 2020 (https://arxiv.org/abs/1911.07023):
    the bias of a Fréchet distance is linear in 1/N to first order. Subsets are drawn without replacement from a
    fixed seed; their sizes are even in 1/N from `smallest` to n.

    metric: a function of the images' indices (k,). Raises ValueError unless 1 < smallest < n.
    """
    if not 1 < smallest < n:
        raise ValueError(f"subsets from {smallest} to {n} images cannot be drawn")
    inverse = np.linspace(1 / n, 1 / smallest, points)
    rng = np.random.default_rng(0)
    x, y = [], []
    for size in np.unique(np.round(1 / inverse).astype(int)):
        values = [metric(np.sort(rng.choice(n, size, replace=False))) for _ in range(1 if size == n else draws)]
        x.append(1 / size)
        y.append(float(np.mean(values)))
    slope_and_intercept = np.polyfit(x, y, 1)
    return float(slope_and_intercept[1])
