"""Fréchet algebra against torch-fidelity and against values known in closed form."""

import numpy as np
import pytest
import torch

from evaluation import frechet
from evaluation.errors import TooFew
from evaluation.reconstruction import frechet_interval
from evaluation.statistics import blocks
from latticebench.errors import BadInput


def test_parity_with_torch_fidelity_on_the_same_features():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(48, 48)) / 7
    x = (rng.normal(size=(700, 48)) @ mixing).astype(np.float32)
    y = (rng.normal(size=(650, 48)) @ mixing * 1.2 + 0.1).astype(np.float32)
    theirs = [fid_features_to_statistics(torch.from_numpy(side).double()) for side in (x, y)]
    expected = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    assert frechet.between(frechet.moments(x), frechet.moments(y)) == pytest.approx(expected, rel=1e-6)


def test_the_quick_distance_is_the_distance():
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(400, 40)), rng.normal(size=(400, 40)) * 1.3 + 0.2
    for scale in (1.0, np.r_[np.ones(30), np.full(10, 1e-3)], np.r_[np.ones(30), np.zeros(10)]):
        sides = frechet.moments(a * scale), frechet.moments(b * scale)
        assert frechet.quick_distance(*sides) == pytest.approx(frechet.between(*sides), rel=1e-9)


def test_known_answer_of_two_gaussians():
    a, b = np.diag([1.0, 4.0, 9.0]), np.diag([4.0, 4.0, 1.0])
    expected = 3 * 0.25 + (1 - 2) ** 2 + (3 - 1) ** 2
    assert frechet.distance(np.zeros(3), a, np.full(3, 0.5), b) == pytest.approx(expected)


@pytest.mark.parametrize("rank", [2048, 64])
def test_distance_of_a_set_to_itself_is_zero(rank):
    rng = np.random.default_rng(1)
    small = rng.normal(size=(300, 128)) @ (np.diag(np.logspace(0, -8, 128)) if rank == 64 else np.eye(128))
    of_itself = frechet.moments(small)
    assert frechet.between(of_itself, frechet.moments(small[::-1].copy())) < 1e-6


def test_finite_samples_bias_the_distance():
    rng = np.random.default_rng(2)
    sides = [frechet.moments(rng.normal(size=(3000, 256))) for _ in range(2)]
    assert frechet.between(*sides) == pytest.approx(11.0, abs=0.5)


def test_too_few_images_are_refused_unless_asked():
    rng = np.random.default_rng(3)
    few = frechet.moments(rng.normal(size=(64, 64)))
    with pytest.raises(TooFew, match="more than 64 images"):
        frechet.between(few, few)
    assert frechet.between(few, few, allow_few=True) < 1e-6
    with pytest.raises(BadInput, match="dimensions"):
        frechet.between(few, frechet.moments(rng.normal(size=(90, 32))))


def test_the_value_does_not_depend_on_batches_and_broken_features_are_named():
    x = np.random.default_rng(4).normal(size=(500, 12))
    a, b = frechet.moments(x, batch=7), frechet.moments(x)
    np.testing.assert_allclose(a.covariance, b.covariance, atol=1e-12)
    np.testing.assert_allclose(a.covariance, np.cov(x, rowvar=False), atol=1e-12)
    x[37, 3] = np.nan
    with pytest.raises(BadInput, match="image 37"):
        frechet.moments(x, batch=10)


def test_interval_needs_enough_images_in_every_group():
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(66, 64)), rng.normal(size=(66, 64))
    value, interval = frechet_interval(a, b, blocks(66))
    assert value > 0 and interval is None
    value, interval = frechet_interval(a[:, :8], b[:, :8], blocks(66))
    assert interval.low < value < interval.high
