"""Intervals cover what they claim to cover: checked on simulated sets with a known answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import statistics
from evaluation.frechet import Moments, between, moments
from evaluation.reconstruction import frechet_interval

SETS = 200


def covered(intervals, truth):
    return float(np.mean([i.low <= truth <= i.high for i in intervals]))


def test_singletons_give_the_ordinary_t_interval():
    x = np.random.default_rng(0).normal(size=30)
    mean, interval = statistics.mean_interval(x)
    half = statistics.t_quantile(29) * x.std(ddof=1) / np.sqrt(30)
    assert mean == pytest.approx(x.mean())
    assert interval.high - mean == pytest.approx(half, rel=1e-12)


@pytest.mark.parametrize("scenes", [3, 12])
def test_clustered_interval_covers_and_the_naive_one_does_not(scenes):
    rng = np.random.default_rng(scenes)
    clustered, naive = [], []
    for _ in range(SETS):
        groups = np.repeat(np.arange(scenes), rng.integers(8, 25, size=scenes))
        x = rng.normal(size=scenes)[groups] + 0.3 * rng.normal(size=groups.size)
        clustered.append(statistics.mean_interval(x, groups)[1])
        naive.append(statistics.mean_interval(x)[1])
    assert 0.90 <= covered(clustered, 0.0) <= 0.98
    assert covered(naive, 0.0) < 0.7


def test_one_scene_has_no_interval():
    assert statistics.mean_interval([1.0, 2.0], [4, 4]) == (1.5, None)


def test_paired_comparison_sees_what_unpaired_intervals_hide():
    rng = np.random.default_rng(1)
    image = rng.normal(25, 4, size=60)
    a, b = image + 0.2 + 0.1 * rng.normal(size=60), image + 0.1 * rng.normal(size=60)
    comparison = statistics.paired(a, b)
    assert comparison.real and comparison.difference == pytest.approx(0.2, abs=0.05)
    assert statistics.mean_interval(a)[1].low < statistics.mean_interval(b)[1].high
    assert not statistics.paired(a, a).real


def test_paired_false_alarms_are_as_rare_as_claimed():
    rng = np.random.default_rng(2)
    alarms = [statistics.paired(rng.normal(size=40), rng.normal(size=40)).real for _ in range(SETS)]
    assert 0.02 <= np.mean(alarms) <= 0.10


def pair(rng, n=150, d=4):
    x = rng.normal(size=(n, d))
    return x, 0.8 * x + 0.5 * rng.normal(size=(n, d)) + 0.3


def test_frechet_interval_covers_the_value_expected_at_this_n():
    rng = np.random.default_rng(3)
    truth = np.mean([between(*map(moments, pair(rng))) for _ in range(1500)])
    intervals = [frechet_interval(*pair(rng), statistics.blocks(150))[1] for _ in range(SETS)]
    assert 0.90 <= covered(intervals, truth) <= 0.98


def test_usage_and_entropy_intervals_cover_the_values_expected_at_this_n():
    from evaluation import codebooks

    rng = np.random.default_rng(4)
    weights = 1 / np.arange(1, 301)
    weights /= weights.sum()

    def draw():
        return rng.choice(300, size=(60, 16), p=weights)

    simulated = [codebooks.counts(draw()) for _ in range(1500)]
    used = np.mean([len(c) for c in simulated])
    bits = np.mean([codebooks.entropy_bits(c) for c in simulated])
    intervals = [codebooks.intervals(codes, statistics.blocks(60)) for codes in (draw() for _ in range(SETS))]
    assert 0.90 <= covered([i["codes_used"] for i in intervals], used) <= 0.98
    assert 0.90 <= covered([i["entropy_bits"] for i in intervals], bits) <= 0.98


def test_extrapolation_removes_most_of_the_bias():
    rng = np.random.default_rng(5)
    errors, biases = [], []
    for _ in range(20):
        x, y = rng.normal(size=(400, 16)), rng.normal(size=(400, 16)) + 0.25
        value = between(moments(x), moments(y))
        limit = statistics.infinite(lambda i, x=x, y=y: between(moments(x[i]), moments(y[i])), 400, 100)
        biases.append(value - 1.0)
        errors.append(limit - 1.0)
    assert np.mean(biases) > 0.2
    assert abs(np.mean(errors)) < 0.25 * np.mean(biases)


@given(st.integers(4, 80), st.integers(1, 30), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_every_image_is_in_one_group_and_no_group_is_empty(n, scenes, seed):
    groups = np.random.default_rng(seed).integers(0, scenes, size=n)
    cut = statistics.blocks(n, groups)
    assert cut.labels.shape == (n,) and set(cut.labels) == set(range(cut.count))
    if len(set(groups)) >= statistics.ENOUGH_SCENES:
        assert all(len(set(cut.labels[groups == g])) == 1 for g in set(groups))


def test_shards_merge_to_the_whole():
    x = np.random.default_rng(6).normal(3, 1, size=(1000, 8)).astype(np.float32)
    whole = moments(x)
    parts = Moments.zero(8)
    for part in (x[:311], x[311:700], x[700:]):
        parts.merge(moments(part))
    np.testing.assert_allclose(parts.covariance, whole.covariance, rtol=0, atol=1e-9)


def test_seeds_are_kept_apart():
    assert statistics.seeds_summary([1.0, 3.0]) == (2.0, pytest.approx(2**0.5), 2)
    assert statistics.seeds_summary([1.0]) == (1.0, None, 1)
