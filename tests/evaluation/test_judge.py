"""Four records from one pass, whole, comparable between runs, honest about what was not measured."""

import json

import numpy as np
import pytest

from evaluation import features, judge, records
from evaluation.metrics import METRICS
from latticebench import configuration, tokenizers
from latticebench.data import prepared
from latticebench.files import sha256
from tests.evaluation import fakes


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Judges a method with two seeds; returns its records by suite and the results folder."""
    data = fakes.data(tmp_path)
    monkeypatch.setattr(prepared, "load", lambda path: data)
    monkeypatch.setitem(features.EXTRACTORS, "insuite", fakes.insuite)
    features._built.cache_clear()

    def run(method, folder="results", seeds="0-1", **parameters):
        config = tmp_path / "config.yaml"
        config.write_text(
            json.dumps(
                {
                    "name": "fake",
                    "data": {"source": "bundled-photographs"},
                    "quantizers": {"mine": {"method": method, "parameters": parameters}},
                    "evaluation": {"batch_size": 32, "pictures": 6, "device": "cpu"},
                }
            )
        )
        loaded = configuration.load(config)
        subject, root = loaded.subject("mine"), tmp_path / folder
        for seed in (0, 1):
            place = root / "tokenizers" / subject.id / f"seed{seed}"
            place.mkdir(parents=True)
            (place / "model.safetensors").write_bytes(b"weights")
        monkeypatch.setattr(tokenizers, "load", lambda path: fakes.tokenizer(method, **parameters))
        made = judge.judge(loaded, subject, seeds, tmp_path, root)
        found = {r.suite: r for r in records.read_all(root) if r.seed == 0}
        return found, root, made

    yield run
    features._built.cache_clear()


def test_four_records_pictures_and_a_manifest(results):
    found, root, made = results("fsq", levels=[8, 8, 8])
    assert set(found) == {"reconstruction", "codebook", "rates", "cost"}
    for record in found.values():
        assert set(record.values) <= set(METRICS) and record.subject.startswith("mine-") and record.method == "fsq"
    files = json.loads(made.read_text())["files"]
    assert len(files) == 10
    assert all(sha256(made.parent / name) == digest for name, digest in files.items())
    assert not list((root / "running").iterdir())

    seen = found["reconstruction"]
    assert seen.values["psnr"].interval.method == "t, clustered by scene (4 scenes)"
    assert len(seen.samples["psnr"]) == len(seen.groups) == 80
    assert seen.values["psnr_gain"].value > 1
    assert seen.values["fd_insuite"].protocol == "fd-insuite-v1-abcdef12"
    assert seen.values["fd_insuite"].interval is not None and seen.weights["insuite"].startswith("abcdef12")
    assert "160 px" in seen.values["ms_ssim"].reason and "32 px" in seen.values["ms_ssim"].reason
    assert "latticebench fetch inception-torch-fidelity" in seen.values["rfid"].reason

    used = found["codebook"]
    assert used.values["tokens"].value == 80 * 64 and used.values["codebook_size"].value == 512
    assert np.dot(used.arrays["count"], used.arrays["codes"]) == 80 * 64
    assert sum(used.arrays["codes"]) == used.values["codes_used"].value
    assert 0 < used.values["latent_error_best_length"].value <= used.values["latent_error"].value < 1
    assert "fixed" in used.values["learned_delta_min"].reason
    rates = found["rates"].values
    assert rates["nominal_bpp"].value == pytest.approx(9 * 64 / 1024)
    assert rates["entropy_bpp"].value < rates["nominal_bpp"].value
    cost = found["cost"].values
    assert cost["parameters"].value == 1 and cost["training_seconds"].value == 1.5
    assert cost["encode_images_per_second"].machine and not cost["parameters"].machine

    picture = seen.files["pictures"]
    place = root / "records" / seen.subject / "seed0" / picture.path
    assert sha256(place) == picture.sha256
    with np.load(place) as stored:
        assert set(fakes.data(root).eval.groups[stored["indices"]]) == {0, 1, 2, 3}
        assert stored["originals"].shape == stored["reconstructions"].shape == (6, 32, 32, 3)


def test_two_runs_give_equal_records_apart_from_the_machine(results):
    first, *_ = results("fsq", "one", levels=[8, 8, 8])
    second, *_ = results("fsq", "two", levels=[8, 8, 8])
    for suite in first:
        assert first[suite].comparable() == second[suite].comparable()


def test_identity_is_the_ceiling_and_has_no_codes(results):
    found, *_ = results("identity", dim=3)
    assert found["codebook"].values["usage"].reason == "identity quantizes nothing and has no codes"
    assert found["rates"].values["nominal_bpp"].value is None
    assert found["reconstruction"].values["psnr"].value > 20
    assert found["cost"].values["flops_decode"].value is not None


def test_codebooks_beyond_int64_are_counted_by_their_digits(results):
    found, *_ = results("fsq", **fakes.HUGE)
    used = found["codebook"].values
    assert used["codebook_size"].value == 8.0**24
    assert 1 < used["codes_used"].value <= used["tokens"].value and used["latent_error"].value < 1
    assert found["rates"].values["ceil_bpp"].value == 72 / 16
    assert "2^62" in found["cost"].values["flops_encode"].reason


def test_a_learned_codebook_on_its_own_latents(results):
    used = results("vq", dim=4, codebook_size=32)[0]["codebook"].values
    assert used["learned_delta_min"].value > 0 and used["latent_error"].value > 0
    assert used["latent_error"].n == 64 * 64


@pytest.mark.parametrize("sizes, count", [((50, 3, 9), 10), ((2, 2), 10), ((5,) * 12, 4)])
def test_pictures_cover_the_scenes(sizes, count):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    chosen = judge.picture_indices(groups, count)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, len(groups))
    assert len(set(groups[chosen])) == min(count, len(sizes))
