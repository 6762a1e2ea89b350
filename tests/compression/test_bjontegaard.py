"""Bjøntegaard differences: known shifts, signs, and reasons instead of numbers."""

import numpy as np
import pytest

from evaluation.compression.bjontegaard import NoOverlap, at_rate, bd_psnr, bd_rate

RATE = np.array([0.1, 0.2, 0.4, 0.8])
PSNR = np.array([25.0, 28.0, 31.0, 34.0])


def test_a_scaled_rate_is_its_percentage() -> None:
    assert bd_rate(RATE, PSNR, RATE * 1.25, PSNR) == pytest.approx(25.0)
    assert bd_rate(RATE, PSNR, RATE * 0.5, PSNR) == pytest.approx(-50.0)


def test_a_shifted_quality_is_its_shift() -> None:
    assert bd_psnr(RATE, PSNR, RATE, PSNR + 0.7) == pytest.approx(0.7)
    assert bd_psnr(RATE[::-1], PSNR[::-1], RATE, PSNR - 2) == pytest.approx(-2.0)


def test_straight_lines_need_no_interpolation() -> None:
    """On lines in log rate the mean of differences is the difference at the middle of the overlap."""
    other = np.array([0.15, 0.3, 0.5, 0.9])
    line = 25 + 10 * np.log2(other / 0.1)
    low, high = np.log10(0.15), np.log10(0.8)
    middle = 10 ** ((low + high) / 2)
    wanted = 25 + 10 * np.log2(middle / 0.1) - (25 + 3 * np.log2(middle / 0.1))
    assert bd_psnr(RATE, PSNR, other, line) == pytest.approx(wanted)


def test_quality_at_a_rate() -> None:
    assert at_rate(RATE, PSNR, 0.2) == pytest.approx(28.0)
    assert at_rate(RATE[::-1], PSNR[::-1], 0.1 * 2**1.5) == pytest.approx(29.5)
    with pytest.raises(NoOverlap, match="does not reach"):
        at_rate(RATE, PSNR, 0.9)


@pytest.mark.parametrize(
    ("rate", "psnr", "says"),
    [
        (RATE[:3], PSNR[:3], "3 of the 4 points"),
        (RATE, PSNR + 50, "do not overlap"),
        (RATE, PSNR[::-1], "does not rise"),
        (RATE, np.array([25.0, 28.0, np.inf, 34.0]), "not finite"),
    ],
)
def test_what_cannot_be_compared_says_why(rate: np.ndarray, psnr: np.ndarray, says: str) -> None:
    with pytest.raises(NoOverlap, match=says):
        bd_rate(RATE, PSNR, rate, psnr)
