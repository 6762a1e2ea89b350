"""Set metrics against torch-fidelity on the same features, their conventions and their intervals."""

import numpy as np
import pytest
import torch

from evaluation import sets
from evaluation.statistics import blocks


def sides(rng, n=120, d=6, shift=0.4):
    x = rng.normal(size=(n, d))
    return (0.9 * x + 0.4 * rng.normal(size=(n, d)) + shift).astype(np.float32), x.astype(np.float32)


def test_kid_equals_torch_fidelity(monkeypatch):
    from torch_fidelity.metric_kid import kid_features_to_metric

    monkeypatch.setattr(sets, "KID_SUBSET_SIZE", 50)
    a, b = sides(np.random.default_rng(0))
    expected = kid_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), kid_subsets=100, kid_subset_size=50, rng_seed=2020, verbose=False
    )
    value = sets.kid(a, b, blocks(len(a)))
    assert value.value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-6)
    assert value.interval.low < value.value < value.interval.high


def test_kid_of_too_few_images_says_how_many_it_needs():
    a, b = sides(np.random.default_rng(1))
    assert sets.kid(a, b, None).reason == "needs at least 1000 images, a subset's size; there are 120"


def test_inception_score_shuffles_class_ordered_samples():
    labels = np.repeat(np.arange(20), 50)
    logits = (12 * np.eye(20)[labels]).astype(np.float32)
    value = sets.inception_score(logits, blocks(1000)).value
    in_order = np.exp(
        np.mean([np.log(len(set(labels[i : i + 100]))) for i in range(0, 1000, 100)])
    )  # what consecutive splits of class-ordered samples would give
    assert in_order < 3 and value > 17


def test_inception_score_splits_as_torch_fidelity_does():
    logits = 3 * np.random.default_rng(6).normal(size=(123, 8)).astype(np.float32)
    value = sets.inception_score(logits, None).value
    assert sets.split_scores(logits, sets.shuffled_splits(123), None)[0] == pytest.approx(value, rel=1e-9)


def test_inception_score_interval_covers_the_value_expected_at_this_n():
    rng = np.random.default_rng(7)
    splits = sets.shuffled_splits(300)

    def draw():
        return 3 * rng.normal(size=(300, 8)) + np.linspace(0, 2, 8)

    truth = np.mean([sets.split_scores(draw(), splits, None)[0] for _ in range(600)])
    intervals = [sets.split_scores(draw(), splits, blocks(300))[1] for _ in range(200)]
    assert 0.90 <= np.mean([i.low <= truth <= i.high for i in intervals]) <= 0.98


def test_precision_and_recall_convention():
    """A tight cluster inside a wide cloud: everything judged is plausible, little of the cloud is covered."""
    rng = np.random.default_rng(2)
    tight, wide = rng.normal(size=(300, 8)).astype(np.float32) * 0.2, rng.normal(size=(300, 8)).astype(np.float32)
    values = sets.precision_recall(tight, wide, blocks(300))
    assert values["precision"].value > 0.9 and values["recall"].value < 0.1


def test_intervals_cover():
    rng = np.random.default_rng(3)

    def draw():
        a, b = sides(rng, n=100)
        return a, b, blocks(100)

    def one(a, b, cut):
        found = sets.precision_recall(a, b, cut)
        return found["precision"].value, found["recall"].value

    truth = np.mean([one(a, b, None) for a, b, _ in (draw() for _ in range(400))], axis=0)
    found = [sets.precision_recall(*draw()) for _ in range(200)]
    for key, expected in zip(("precision", "recall"), truth, strict=True):
        share = np.mean([v[key].interval.low <= expected <= v[key].interval.high for v in found])
        assert 0.90 <= share <= 0.98, (key, share)


def test_kid_interval_covers_a_known_distance():
    rng = np.random.default_rng(5)

    def draw():
        x = rng.normal(size=(80, 5))
        return x, 0.7 * x + 0.7 * rng.normal(size=(80, 5)) + 0.5

    truth = np.mean([mmd(*draw()) for _ in range(1500)])
    intervals = [sets.kid_interval(a, b, blocks(80), mmd(a, b)) for a, b in (draw() for _ in range(200))]
    assert 0.90 <= np.mean([i.low <= truth <= i.high for i in intervals]) <= 0.98


def mmd(a, b):
    k = [(x @ y.T / a.shape[1] + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
    n = len(a)
    return sum((m.sum() - np.trace(m)) / (n * (n - 1)) for m in k[:2]) - 2 * k[2].mean()
