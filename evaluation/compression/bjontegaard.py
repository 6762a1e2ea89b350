"""Bjøntegaard's differences between two rate-distortion curves.

Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001, with the piecewise cubic
(PCHIP) interpolation of JCTVC-L1100, 2013: a cubic polynomial through all points, as in the first document,
overshoots between points that lie far apart.
"""

from collections.abc import Sequence

import numpy as np

LEAST_POINTS = 4


class NoOverlap(ValueError):
    """The two curves cannot be compared; the text says why, for an empty cell."""


def bd_rate(
    rate: Sequence[float], quality: Sequence[float], other_rate: Sequence[float], other_quality: Sequence[float]
) -> float:
    """Mean difference in rate at equal quality, in percent: how many more bits the second curve needs.

    Raises NoOverlap where a curve has fewer than four points, is not increasing, or the qualities do not overlap.
    """
    mean = _mean_difference(
        *_sorted(quality, np.log10(rate)), *_sorted(other_quality, np.log10(other_rate)), "qualities"
    )
    return float((10**mean - 1) * 100)


def bd_psnr(
    rate: Sequence[float], quality: Sequence[float], other_rate: Sequence[float], other_quality: Sequence[float]
) -> float:
    """Mean difference in quality at equal rate, in the quality's unit: how much the second curve gains.

    Raises NoOverlap as `bd_rate`, for rates instead of qualities.
    """
    return _mean_difference(*_sorted(np.log10(rate), quality), *_sorted(np.log10(other_rate), other_quality), "rates")


def at_rate(rate: Sequence[float], quality: Sequence[float], wanted: float) -> float:
    """Quality of a curve at a rate, in the quality's unit.

    Raises NoOverlap where the curve does not reach the rate, or as `bd_rate`.
    """
    from scipy.interpolate import PchipInterpolator

    x, y = _sorted(np.log10(rate), quality)
    if not x[0] <= np.log10(wanted) <= x[-1]:
        raise NoOverlap(f"the curve does not reach {wanted:g} bits per pixel")
    return float(PchipInterpolator(x, y)(np.log10(wanted)))


def _sorted(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < LEAST_POINTS:
        raise NoOverlap(f"a curve has {len(x)} of the {LEAST_POINTS} points that are needed")
    order = np.argsort(x)
    x, y = x[order], y[order]
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise NoOverlap("a curve has a point that is not finite")
    if (np.diff(x) <= 0).any() or (np.diff(y) <= 0).any():
        raise NoOverlap("a curve does not rise: more bits must give more quality")
    return x, y


def _mean_difference(x: np.ndarray, y: np.ndarray, other_x: np.ndarray, other_y: np.ndarray, what: str) -> float:
    from scipy.interpolate import PchipInterpolator

    low, high = max(x[0], other_x[0]), min(x[-1], other_x[-1])
    if low >= high:
        raise NoOverlap(f"the curves' {what} do not overlap")
    areas = [PchipInterpolator(*curve).integrate(low, high) for curve in ((x, y), (other_x, other_y))]
    return float((areas[1] - areas[0]) / (high - low))
