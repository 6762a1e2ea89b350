"""Fibonacci and random directions, E8, shells of Z^d."""

import math

import pytest
import torch

from latticebench.lattices import cubic, e8, fibonacci, geometry, random_directions


@pytest.mark.parametrize(("K", "d"), [(1, 2), (100, 2), (500, 3), (1000, 8), (1000, 24)])
def test_fibonacci_points_have_unit_length_and_spread(K, d):
    points = fibonacci.points(K, d)
    assert points.shape == (K, d) and points.dtype == torch.float32
    torch.testing.assert_close(points.norm(dim=1), torch.ones(K))
    if K >= 500:
        assert points.mean(0).abs().max() < 0.06
        torch.testing.assert_close(points.T @ points / K, torch.eye(d) / d, atol=0.03, rtol=0)


def test_fibonacci_in_three_dimensions_is_the_golden_spiral():
    points = fibonacci.points(10, 3)
    torch.testing.assert_close(points[:, 2], 1 - (2 * torch.arange(10) + 1) / 10)
    golden = (1 + math.sqrt(5)) / 2
    turn = torch.atan2(points[1, 1], points[1, 0]) % (2 * math.pi)
    assert float(turn) == pytest.approx(2 * math.pi / golden, abs=1e-5)


def test_fibonacci_heights_follow_the_formula():
    points = fibonacci.points(7, 4)
    # The first polar angle of S^3 has density ~ sin²: its distribution at the angle is frac(k √2).
    angle = torch.acos(points[:, 0].double())
    share = (angle - angle.sin() * angle.cos()) / math.pi
    expected = torch.arange(1, 8, dtype=torch.float64) * math.sqrt(2) % 1
    torch.testing.assert_close(share, expected, atol=1e-5, rtol=0)


def test_fibonacci_smallest_distance_of_the_published_size():
    assert geometry.smallest_distance(fibonacci.points(4096, 24)) == pytest.approx(0.487, abs=1e-3)


def test_random_directions_are_drawn_by_seed():
    points = random_directions.points(64, 24, 3)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(64))
    assert points.dtype == torch.float32 and torch.equal(points, random_directions.points(64, 24, 3))
    assert not torch.equal(points, random_directions.points(64, 24, 4))


@pytest.mark.parametrize(("maker", "arguments"), [(fibonacci.points, (0, 3)), (fibonacci.points, (5, 1)),
                                                  (random_directions.points, (0, 3, 0)), (cubic.shell, (2, 3)),
                                                  (cubic.shell, (0, 1)), (cubic.hypercube, (0,))])  # fmt: skip
def test_impossible_sizes_are_refused(maker, arguments):
    with pytest.raises(ValueError):
        maker(*arguments)


def test_e8_has_its_kissing_configuration():
    points = e8.shell()
    values, counts = (points @ points.T).double().mul(2).round().div(2).unique(return_counts=True)
    assert points.shape == (240, 8)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {
        -1: 240, -0.5: 240 * 56, 0: 240 * 126, 0.5: 240 * 56, 1: 240,
    }  # fmt: skip


def test_cubic_shells():
    assert cubic.shell(3, 1).shape == (6, 3)
    assert cubic.shell(3, 2).shape == (12, 3)
    assert cubic.shell(3, 5).shape == (24, 3)
    assert cubic.hypercube(4).shape == (16, 4) and len(cubic.hypercube(4).unique(dim=0)) == 16
    torch.testing.assert_close(cubic.shell(4, 7).norm(dim=1), torch.ones(64))
