"""Judging generators: values, reasons, likelihood against its baselines, the oracle."""

import types

import numpy as np
import pytest
import torch

from evaluation import adm, generation, likelihood, records
from evaluation.protocols import by_id, protocol_id
from latticebench.data.prepared import Prepared, Split
from latticebench.generators.tokens import TokenSplit

SIDE = 16


def pictures(count: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    base = draw.integers(0, 256, (count, 1, 1, 3))
    return (base + draw.integers(-20, 20, (count, SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8)


def data(tmp_path, classes=None) -> Prepared:
    train, held_out = pictures(100, 0), pictures(80, 1)

    def split(name, images):
        return Split(name, images, None, np.arange(len(images)) // 8, name * 10, tmp_path / "none")

    manifest = {"name": "toy", "classes": classes, "options": {}, "seed": 0}
    return Prepared(tmp_path / "0123abcd", split("train", train), split("eval", held_out), manifest)


def judge(tmp_path, **changes) -> generation.Judge:
    options = {"weights": {}, "device": "cpu", "allow_few": False, "batch_size": 16}
    config = types.SimpleNamespace(values={"evaluation": options}, extensions={})
    return generation.Judge(config, data(tmp_path, **changes), tmp_path)


def test_the_oracle_is_judged_as_samples_are(tmp_path):
    record = records.read(judge(tmp_path).oracle())
    assert record.method == "oracle" and record.suite == "generation" and record.seed is None
    own = record.values["fd_insuite_generation"]
    assert own.value > 0 and own.n == 80 and by_id(own.protocol).name == "fd-insuite-generation"
    assert 0 <= record.values["recall_insuite"].value <= 1
    assert "1000 classes" in record.values["gfid"].reason
    assert record.values["precision"].protocol == protocol_id("precision_adm")


def test_training_images_judged_as_samples_are_perfect(tmp_path):
    from evaluation.reconstruction import Judgement

    worker, judged = judge(tmp_path), Judgement()
    worker._own_metrics(judged, generation.images.from_array(worker.data.train.images, "samples"), intervals=False)
    assert judged.values["fd_insuite_generation"].value == pytest.approx(0, abs=1e-6)
    assert judged.values["precision_insuite"].value == judged.values["recall_insuite"].value == 1


def test_images_of_imagenet_without_weights_say_how_to_fetch_them(tmp_path, monkeypatch):
    monkeypatch.setattr(generation.Judge, "_not_adm", None)
    monkeypatch.setattr(
        adm, "default_reference", lambda settings: (_ for _ in ()).throw(generation.Missing("fetch it"))
    )
    record = records.read(judge(tmp_path).oracle())
    assert {record.values[key].reason for key in generation.ADM_KEYS} == {"fetch it"}


class Biased:
    """A model of two codes that knows which class has which; `nats` as a generator's."""

    def nats(self, class_ids, maps):
        tokens = maps[0].flatten(1)
        right = torch.full(tokens.shape, 0.5) if class_ids is None else (tokens == class_ids[:, None]) * 0.8 + 0.1
        return -torch.log(right)


def loaded(labels):
    tokens = np.repeat(np.arange(80) % 2, 4).reshape(80, 4).astype(np.uint8)
    scales = (2,)
    held_out = TokenSplit(tokens, labels, scales)
    train = TokenSplit(np.array([[0, 0, 0, 1]] * 20, np.uint8), labels, scales)
    told = types.SimpleNamespace(eval=held_out, train=train, codebook_size=2, fingerprint="0" * 64)
    return likelihood.Loaded(Biased(), told, "cpu")


def test_bits_are_those_of_the_model_the_shuffled_classes_and_the_frequencies(tmp_path):
    found = likelihood.measure(loaded(np.arange(80) % 2), data(tmp_path), 16)
    assert found.values["bits_per_token"].value == pytest.approx(-np.log2(0.9))
    expected = -(np.log2(0.9) + np.log2(0.1)) / 2
    assert found.values["bits_per_token_shuffled_labels"].value == pytest.approx(expected, rel=0.1)
    assert found.values["bits_per_token_static"].value == pytest.approx(-(np.log2(0.75) + np.log2(0.25)) / 2, rel=1e-3)
    assert found.values["bits_per_pixel"].value == pytest.approx(-np.log2(0.9) * 4 / SIDE**2)
    assert {len(numbers) for numbers in found.samples.values()} == {80}


def test_a_model_without_classes_has_no_shuffled_value(tmp_path):
    found = likelihood.measure(loaded(None), data(tmp_path), 16)
    assert found.values["bits_per_token"].value == pytest.approx(1)
    assert found.values["bits_per_token_shuffled_labels"].reason == "the model is told no classes"


def test_token_frequencies_are_sorted_and_their_ratio_is_of_used_codes(tmp_path):
    from evaluation.reconstruction import Judgement

    worker, judged = judge(tmp_path), Judgement()
    np.save(tmp_path / "tokens.npy", np.array([[0, 0, 0, 1]] * 10, np.uint8))
    train = TokenSplit(np.array([[0, 1, 2, 3]] * 100, np.uint8), None, (2,))
    arrays = worker._frequencies(judged, types.SimpleNamespace(train=train), tmp_path)
    assert judged.values["frequency_ratio_samples"].value == 3
    assert judged.values["frequency_ratio_data"].value == 1
    assert arrays["token_ranks"] == [1, 2, 3, 4]
    assert arrays["token_frequencies_samples"] == [0.75, 0.25, 0, 0]
    assert arrays["token_frequencies_data"] == [0.25] * 4
