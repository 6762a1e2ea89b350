"""ADM's evaluator: its reference batches, splits, manifolds and moments, against formulas written out."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from evaluation import adm, arrays, features, frechet, images, records, sets
from evaluation.cli.evaluate import command
from evaluation.explain import explain
from evaluation.statistics import blocks, jackknife
from latticebench.errors import BadInput, Missing

HEADS = {"pool": 12, "spatial": 6, "logits": 9}


def extractor(paths, device):
    """Heads of small dimension that depend on the pixels."""
    rng = np.random.default_rng(3)
    maps = {head: rng.normal(size=(48, d)).astype(np.float32) for head, d in HEADS.items()}

    def run(x):
        flat = np.array(x, dtype=np.float32).reshape(len(x), -1)[:, :48] / 255
        return {head: torch.from_numpy(flat @ matrix) for head, matrix in maps.items()}

    return features.Extractor("inception-tf1", "1" * 64, run)


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setitem(features.EXTRACTORS, "inception-tf1", extractor)
    monkeypatch.setattr(adm, "_MOMENTS", {"pool": ("mu", "sigma", 12), "spatial": ("mu_s", "sigma_s", 6)})
    features._built.cache_clear()
    yield
    features._built.cache_clear()


def pictures(seed, n):
    return np.random.default_rng(seed).integers(0, 256, size=(n, 4, 4, 3), dtype=np.uint8)


@pytest.fixture
def reference(tmp_path):
    x = pictures(0, 90)
    found = features.of(images.from_array(x), "inception-tf1", ("pool", "spatial"))
    stated = {}
    for head, (mean, covariance, _) in adm._MOMENTS.items():
        stated[mean], stated[covariance] = found[head].mean(axis=0), np.cov(found[head].astype(float), rowvar=False)
    np.savez(tmp_path / "reference.npz", arr_0=x, **stated)
    return tmp_path / "reference.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_samples_against_a_reference_batch(tmp_path, reference, save):
    x = pictures(1, 100)
    save(tmp_path / "samples.npz", x, np.arange(100))
    given = ["--samples", tmp_path / "samples.npz", "--reference", reference, "--out", tmp_path / "out"]
    result = CliRunner().invoke(command, [str(word) for word in given], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    record = records.read(tmp_path / "out" / "records" / "generation.json")
    assert {key for key, value in record.values.items() if value.value is not None and value.interval} == {
        "gfid", "sfid", "is_adm", "precision_adm", "recall_adm",
    }  # fmt: skip
    found = features.of(images.from_array(x), "inception-tf1", ("pool",))["pool"]
    theirs = features.of(images.from_array(pictures(0, 90)), "inception-tf1", ("pool",))["pool"]
    expected = frechet.between(frechet.moments(found), frechet.moments(theirs))
    assert record.values["gfid"].value == pytest.approx(expected, rel=1e-5)
    text = explain(tmp_path / "out" / "tables" / "generation.csv", "gfid", "value")
    assert "protocol gfid-adm-v1" in text and "evaluate --reference REFERENCE --samples SAMPLES" in text


def test_reconstructions_against_training_moments(tmp_path, reference):
    np.save(tmp_path / "a.npy", pictures(1, 40))
    np.save(tmp_path / "b.npy", pictures(2, 40))
    from evaluation import evaluate
    from evaluation.reconstruction import Settings

    record, _ = evaluate.evaluate(
        tmp_path / "a.npy", tmp_path / "b.npy", Settings(), tmp_path / "out", reference=reference
    )
    value = record.values["rfid_adm"]
    assert value.protocol == "rfid-adm-v1" and value.interval.low < value.value < value.interval.high


def test_few_images_a_missing_network_and_a_reference_without_moments(tmp_path, reference, monkeypatch):
    samples = images.from_array(pictures(1, 8))
    judged = adm.measure(samples, adm.load(reference), adm.Settings())
    assert judged.values["gfid"].reason == "needs more than 12 images (the features' dimension); there are 8"
    judged = adm.measure(samples, adm.load(reference), adm.Settings(allow_few=True))
    assert judged.values["gfid"].value > 0 and any("mostly bias" in note for note in judged.notes)
    np.savez(tmp_path / "bare.npz", arr_0=pictures(0, 90))
    again = adm.measure(samples, adm.load(tmp_path / "bare.npz"), adm.Settings(allow_few=True))
    assert again.values["gfid"].value == pytest.approx(judged.values["gfid"].value, rel=1e-4)
    assert any("states no moments" in note for note in again.notes)
    with np.load(reference) as file:
        np.savez(tmp_path / "moments.npz", mu=file["mu"], sigma=file["sigma"])
    stated = adm.measure(samples, adm.load(tmp_path / "moments.npz"), adm.Settings(allow_few=True)).values
    assert "no images" in stated["recall_adm"].reason and "states no moments" in stated["sfid"].reason
    monkeypatch.undo()
    features._built.cache_clear()
    with pytest.raises(Missing, match="latticebench fetch inception-torch-fidelity"):
        adm.measure(samples, adm.load(tmp_path / "bare.npz"), adm.Settings())
    with pytest.raises(Missing, match="latticebench fetch adm-imagenet256-reference"):
        adm.default_reference(adm.Settings())


@pytest.mark.parametrize(
    "stored, message",
    [
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, "must have 12 dimensions"),
        ({"mu": np.full(12, np.nan), "sigma": np.eye(12)}, "not finite"),
        ({"labels": np.zeros(3)}, "neither mu and sigma nor arr_0"),
        ({"arr_0": np.zeros((3, 4, 4, 3), np.float32)}, "uint8"),
    ],
)
def test_broken_references_are_named(tmp_path, stored, message):
    np.savez(tmp_path / "broken.npz", **stored)
    with pytest.raises(BadInput, match=rf"broken\.npz.*{message}"):
        adm.load(tmp_path / "broken.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(BadInput, match=r"text\.npz"):
        adm.load(tmp_path / "text.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_mapped(tmp_path, save):
    x = pictures(4, 5)
    save(tmp_path / "x.npz", first=np.arange(3), arr_0=x)
    found = arrays.opened(tmp_path / "x.npz")
    assert isinstance(found, np.memmap) and (found == x).all()
    assert (arrays.opened(tmp_path / "x.npz", "first") == np.arange(3)).all()
    with pytest.raises(BadInput, match="there are: first, arr_0"):
        arrays.opened(tmp_path / "x.npz", "second")
    np.savez(tmp_path / "objects.npz", np.array([{}], dtype=object))
    with pytest.raises(BadInput, match="Python objects"):
        arrays.opened(tmp_path / "objects.npz")


def test_inception_score_over_consecutive_splits_equals_torch_fidelity(monkeypatch):
    from torch_fidelity.metric_isc import isc_features_to_metric

    monkeypatch.setattr(adm, "SPLIT", 50)
    monkeypatch.setattr(sets, "ROWS", 64)
    logits = 3 * np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32)
    expected = isc_features_to_metric(torch.from_numpy(logits), splits=4, shuffle=False)["inception_score_mean"]
    value = adm.inception_score(logits, blocks(200))
    assert value.value == pytest.approx(expected, rel=1e-9)
    assert value.interval.low < expected < value.interval.high
    in_order = logits[np.argsort(logits.argmax(axis=1))]
    assert adm.inception_score(in_order, None).value < 0.9 * expected


def test_precision_and_recall_written_out(monkeypatch):
    """Radii, memberships and every leave-out value against a loop; many small blocks."""
    monkeypatch.setattr(sets, "ROWS", 13)
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(60, 3)).astype(np.float32) + 0.5, rng.normal(size=(45, 3)).astype(np.float32)
    cut = blocks(60)

    def slow(x, y):
        def distances(a, b):
            return adm.squared(torch.from_numpy(a), torch.from_numpy(b)).numpy()

        radius_x, radius_y = (np.sort(distances(side, side), axis=1)[:, 3] for side in (x, y))
        across = distances(x, y)
        return (across <= radius_y).any(axis=1).mean(), (across <= radius_x[:, None]).any(axis=0).mean()

    found = adm.precision_recall(x, y, cut)
    left_out = [slow(x[cut.labels != g], y) for g in range(cut.count)]
    for i, key in enumerate(("precision_adm", "recall_adm")):
        assert found[key].value == pytest.approx(slow(x, y)[i], abs=1e-6)
        expected = jackknife(found[key].value, [v[i] for v in left_out], cut, (0.0, 1.0))
        assert found[key].interval.low == pytest.approx(expected.low, abs=1e-5)
    tight = adm.precision_recall(0.1 * y, y, None)
    assert tight["precision_adm"].value > tight["recall_adm"].value


def test_distances_are_in_half_precision_unless_it_overflows():
    rng = np.random.default_rng(6)
    a, b = (torch.from_numpy(rng.normal(size=(5, 64)).astype(np.float32)) for _ in range(2))
    low, exact = adm.squared(a, b), torch.cdist(a.double(), b.double()).square()
    assert (low == low.half().float()).all()
    torch.testing.assert_close(low.double(), exact, rtol=5e-3, atol=0.1)
    torch.testing.assert_close(adm.squared(1000 * a, 1000 * b).double(), 1e6 * exact, rtol=1e-4, atol=10)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, lambda path, x: np.save(path.with_suffix(".npy"), x)])
def test_chunks_of_a_file_are_the_arrays_rows(tmp_path, save):
    x = pictures(7, 9)
    save(tmp_path / "x.npz", x)
    loaded = images.load(next(tmp_path.iterdir()))
    for chunk in ((0, 4), (4, 9)):
        found = loaded.read(chunk)
        assert not isinstance(found, np.memmap) or found.filename is None
        np.testing.assert_array_equal(found, x[slice(*chunk)])
