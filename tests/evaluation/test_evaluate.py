"""`latticebench evaluate` and `explain`: images in, numbers out; whatever cannot be judged is named."""

import json
import pickle

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from evaluation import evaluate, features, images, records
from evaluation.cli.evaluate import command as evaluate_command
from evaluation.explain import explain
from evaluation.reconstruction import Settings
from latticebench.errors import BadInput
from tests.evaluation import fakes


@pytest.fixture(autouse=True)
def quick_extractor(monkeypatch):
    monkeypatch.setitem(features.EXTRACTORS, "insuite", fakes.insuite)
    features._built.cache_clear()
    yield
    features._built.cache_clear()


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    for i in range(12):
        shape = (24, 36, 3) if i % 3 else (36, 24, 3)
        x = rng.integers(0, 256, size=shape, dtype=np.uint8)
        y = np.clip(x + rng.normal(0, 6, shape), 0, 255).astype(np.uint8)
        Image.fromarray(x).save(tmp_path / "a" / f"{i:02}.png")
        Image.fromarray(y).save(tmp_path / "b" / f"{i:02}.png")
    return tmp_path / "a", tmp_path / "b"


def test_folders_give_a_record_and_a_table(folders, tmp_path):
    out = tmp_path / "out"
    arguments = ["--originals", str(folders[0]), "--reconstructions", str(folders[1]), "--out", str(out)]
    result = CliRunner().invoke(evaluate_command, arguments, catch_exceptions=False)
    assert "| PSNR | 3" in result.output and "nan" not in result.output.lower()
    record = records.read(out / "records" / "reconstruction.json")
    assert record.values["psnr"].n == 12 and record.values["fd_insuite"].value is not None
    assert "no fewer" not in result.output and record.values["kid"].reason
    text = explain(out / "tables" / "reconstruction.csv", "psnr", "value")
    assert "protocol psnr-v1" in text and record.dataset.sha256 in text and "latticebench evaluate" in text


def test_default_folder_is_named_by_the_content(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, folder = evaluate.evaluate(*folders, Settings())
    assert folder.as_posix().startswith("results/evaluate-") and (folder / "tables" / "reconstruction.md").exists()


def test_arrays_in_adms_layout_give_what_the_folder_gives(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, size=(9, 16, 16, 3), dtype=np.uint8)
    y = np.clip(x + rng.normal(0, 9, x.shape), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "x.npz", arr_0=x)
    np.save(tmp_path / "y.npy", y)
    for name, array in (("x", x), ("y", y)):
        (tmp_path / name).mkdir()
        for i, image in enumerate(array):
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    one, _ = evaluate.evaluate(tmp_path / "x.npz", tmp_path / "y.npy", Settings(), tmp_path / "one")
    two, _ = evaluate.evaluate(tmp_path / "x", tmp_path / "y", Settings(), tmp_path / "two")
    assert one.values == two.values and one.dataset.sha256 == two.dataset.sha256


def test_two_processes_give_the_same_record(folders, tmp_path, monkeypatch):
    from evaluation import reconstruction

    monkeypatch.setitem(features.EXTRACTORS, "insuite", features._insuite)  # spawned processes know no fake
    features._built.cache_clear()
    monkeypatch.setattr(reconstruction, "PIXEL_CHUNK", 3)
    made = [
        evaluate.evaluate(*folders, Settings(processes=p, allow_few=True), tmp_path / str(p))[0].comparable()
        for p in (1, 2)
    ]
    assert made[0]["values"]["fd_insuite"]["value"] > 0 and made[0] == made[1]


def test_scenes_cluster_the_interval(folders, tmp_path):
    table = tmp_path / "scenes.csv"
    table.write_text("".join(f"{i:02}.png,scene{i // 4}\n" for i in range(12)))
    groups = evaluate.read_groups(table, images.load(folders[0]).names)
    record, _ = evaluate.evaluate(*folders, Settings(), tmp_path / "out", groups=groups)
    assert "3 scenes" in record.values["psnr"].interval.method
    table.write_text("00.png,x\n")
    with pytest.raises(BadInput, match=r"01\.png"):
        evaluate.read_groups(table, images.load(folders[0]).names)


def test_identical_images_follow_the_documented_rule(folders, tmp_path):
    record, _ = evaluate.evaluate(folders[0], folders[0], Settings(), tmp_path / "out")
    assert record.values["psnr"].value == pytest.approx(10 * np.log10(255**2 * 24 * 36 * 3))
    assert "12 of 12 reconstructions equal their original" in record.notes[0]
    assert record.values["fd_insuite"].value < 1e-6


def _replace(folder, name, image, **options):
    image.save(folder / name, **options)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda b: (b / "03.png").unlink(), r"03\.png has no partner"),
        (lambda b: _replace(b, "03.png", Image.new("RGB", (9, 9))), r"03\.png: 9 x 9 px, its original"),
        (lambda b: _replace(b, "03.png", Image.new("RGBA", (24, 36))), r"03\.png: mode RGBA"),
        (lambda b: _replace(b, "03.png", Image.new("I;16", (24, 36))), r"03\.png: mode I;16, 16 bits"),
        (lambda b: _replace(b, "03.jpg", Image.new("CMYK", (24, 36))), r"03\.jpg: only PNG"),
        (lambda b: _replace(b, "03.png", Image.new("RGB", (24, 36)), format="JPEG"), "holds JPEG"),
        (lambda b: (b / "03.png").write_bytes((b / "03.png").read_bytes()[:200]), r"03\.png is damaged"),
        (lambda b: (b / "03.png").write_bytes(b"no image"), r"03\.png cannot be read"),
        (lambda b: [f.unlink() for f in b.iterdir()], "holds no PNG"),
    ],
)
def test_what_cannot_be_judged_is_named(folders, tmp_path, spoil, message):
    spoil(folders[1])
    with pytest.raises(BadInput, match=message):
        evaluate.evaluate(*folders, Settings(), tmp_path / "out")


def test_sixteen_bit_colour_is_refused_although_pillow_opens_it(folders, tmp_path):
    import struct
    import zlib

    def part(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 24, 36, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(24 * 6) for _ in range(36)))
    png = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")
    (folders[1] / "03.png").write_bytes(png)
    with pytest.raises(BadInput, match="16 bits"):
        evaluate.evaluate(*folders, Settings(), tmp_path / "out")


def test_grey_and_palette_images_become_rgb(tmp_path):
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    grey.save(tmp_path / "g.png")
    grey.convert("RGB").quantize(16).save(tmp_path / "p.png")
    loaded = images.load(tmp_path)
    assert (loaded.read((0, 1))[0, ..., 2].ravel() == np.arange(256)).all()
    assert loaded.read((1, 2)).shape == (1, 16, 16, 3)


@pytest.mark.parametrize("array", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 8, 8), np.uint8)])
def test_arrays_of_another_kind_are_refused(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(BadInput, match="uint8 of shape"):
        images.load(tmp_path / "x.npy")


def test_arrays_of_different_lengths_are_no_pairs(tmp_path):
    for name, n in (("x", 3), ("y", 4)):
        np.save(tmp_path / f"{name}.npy", np.zeros((n, 16, 16, 3), np.uint8))
    with pytest.raises(BadInput, match="3 originals and 4 reconstructions"):
        evaluate.evaluate(tmp_path / "x.npy", tmp_path / "y.npy", Settings(), tmp_path / "out")


def test_another_process_opens_the_file_itself(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, size=(200, 16, 16, 3), dtype=np.uint8))
    loaded = images.load(tmp_path / "x.npy")
    sent = pickle.dumps(loaded)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).read((150, 160)), loaded.read((150, 160)))


def test_floats_have_a_protocol_of_their_own(folders, tmp_path, monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, size=(30, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "f.npy", (x / 255 + 0.001).astype(np.float32))
    record, _ = evaluate.evaluate(tmp_path / "x.npy", tmp_path / "x.npy", Settings(), tmp_path / "none")
    assert "latticebench fetch" in record.values["rfid_float"].reason

    def build(paths, device):
        return features.Extractor("x", "2" * 64, lambda a: {"pool": fakes.pixels_of(a)})

    monkeypatch.setitem(features.EXTRACTORS, "inception-pytorch-fid", build)
    features._built.cache_clear()
    record, _ = evaluate.evaluate(
        tmp_path / "x.npy", tmp_path / "x.npy", Settings(), tmp_path / "out", floats=tmp_path / "f.npy"
    )
    assert record.values["rfid_float"].protocol == "rfid-npq-float-v1"
    assert record.values["rfid"].value < 1e-6 < record.values["rfid_float"].value
    with pytest.raises(BadInput, match=r"x\.npy: un-rounded images must be floats"):
        evaluate.evaluate(tmp_path / "x.npy", tmp_path / "x.npy", Settings(), tmp_path / "o", floats=tmp_path / "x.npy")


def test_too_few_images_say_so_and_can_be_asked_for(folders, tmp_path, monkeypatch):
    few = [tmp_path / "few-a", tmp_path / "few-b"]
    for source, target in zip(folders, few, strict=True):
        target.mkdir()
        for i in range(1, 3):
            (target / f"{i}.png").write_bytes((source / f"{i:02}.png").read_bytes())
    record, _ = evaluate.evaluate(*few, Settings(), tmp_path / "out")
    assert record.values["fd_insuite"].reason == "needs more than 8 images (the features' dimension); there are 2"
    assert record.values["psnr"].value is not None
    record, _ = evaluate.evaluate(*few, Settings(allow_few=True), tmp_path / "out")
    assert record.values["fd_insuite"].value is not None and "asked for" in record.notes[0]


def test_explain_names_what_there_is(folders, tmp_path):
    evaluate.evaluate(*folders, Settings(), tmp_path / "out")
    table = tmp_path / "out" / "tables" / "reconstruction.csv"
    with pytest.raises(BadInput, match="did you mean 'psnr'"):
        explain(table, "psrn", "value")
    table.with_suffix(".sources.json").write_text(json.dumps({}))
    with pytest.raises(BadInput, match="rebuild"):
        explain(table, "psnr", "value")
