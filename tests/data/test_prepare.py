"""Preparation: sources, splits, hashes, bad images, exit codes."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from latticebench import configuration
from latticebench.data import classes, prepare, prepared
from latticebench.data.bundled import SCENES
from latticebench.errors import BadInput, Missing


def config(folder: Path, **data) -> configuration.Configuration:
    values = {"name": "t", "data": data, "tokenizer": {"patch": 1}, "quantizers": {"i": {"method": "identity"}}}
    return configuration.from_values(values, folder / "c.yaml")


def picture(seed: int, width: int = 24, height: int = 20, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def fill(folder: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(path)


def hashes(manifest: dict) -> list[str]:
    return [manifest["splits"][split]["sha256"] for split in prepare.SPLITS]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundled")
    prepare.prepare(config(folder, source="bundled-photographs", train_margin=16), folder / "out")
    return prepared.load(folder / "out")


def test_bundled_counts_and_shapes(bundled):
    assert bundled.eval.images.shape == (237, 64, 64, 3)
    assert bundled.train.images.shape == (963, 80, 80, 3)
    assert isinstance(bundled.eval.images, np.memmap)
    assert bundled.train.labels is None


def test_bundled_holds_out_whole_scenes(bundled):
    train, held = set(bundled.train.groups.tolist()), set(bundled.eval.groups.tolist())
    assert not train & held
    assert train | held == set(range(10))
    names = list(SCENES)
    assert all(
        name.split("/")[0] == names[group] for name, group in zip(bundled.eval.names, bundled.eval.groups, strict=True)
    )


def test_bundled_leaves_near_constant_crops_out_and_says_so(bundled):
    luminance = bundled.eval.images @ np.array([0.299, 0.587, 0.114])
    assert luminance.std(axis=(1, 2)).min() >= 4
    assert "below 4" in bundled.manifest["excluded"]["rule"]
    assert bundled.manifest["excluded"]["scenes"]["retina"]["near_constant"] > 100


def test_bundled_records_provenance(bundled):
    scenes = bundled.manifest["provenance"]["scenes"]
    assert len(scenes) == 10
    assert all(scene["licence"] and scene["author"] and scene["files"] for scene in scenes.values())
    assert scenes["china"]["licence"] == "CC BY 2.0"


def test_manifest_holds_no_machine_paths(bundled):
    assert str(bundled.path.parent) not in (bundled.path / "manifest.json").read_text()


def test_a_changed_pixel_is_found(bundled, tmp_path, monkeypatch):
    for file in bundled.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    copy = prepared.load(tmp_path)
    copy.eval.verify(copy.manifest["splits"]["eval"]["content"])
    with open(tmp_path / "eval.npy", "r+b") as file:
        file.seek(5000)
        byte = file.read(1)[0]
        file.seek(5000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(BadInput, match=r"eval\.npy has changed"):
        prepared.load(tmp_path)
    monkeypatch.setattr(prepared, "VERIFIED_BYTES", 0)
    with pytest.raises(BadInput, match="differ"):
        prepared.load(tmp_path).eval.verify(copy.manifest["splits"]["eval"]["content"])


@pytest.mark.parametrize("scenes", [["moon"], list(SCENES)])
def test_wrong_eval_scenes_are_named(tmp_path, scenes):
    with pytest.raises(BadInput, match=r"data\.bundled\.eval_scenes"):
        prepare.prepare(config(tmp_path, source="bundled-photographs", bundled={"eval_scenes": scenes}), tmp_path / "o")


def test_preparing_twice_gives_equal_bytes_and_limits_give_spread_subsets(tmp_path):
    c = config(tmp_path, source="bundled-photographs", train_images=50, eval_images=40)
    first = prepare.prepare(c, tmp_path / "a")
    assert first == prepare.prepare(c, tmp_path / "b")
    assert (tmp_path / "a/eval.npy").read_bytes() == (tmp_path / "b/eval.npy").read_bytes()
    loaded = prepared.load(tmp_path / "a")
    assert len(loaded.train) == 50
    assert len(set(loaded.eval.groups.tolist())) == 4


def test_flat_folder_is_split_by_the_hash_of_names(tmp_path):
    fill(tmp_path / "d", [f"{i:03}.png" for i in range(60)])
    c = config(tmp_path, source="flat-folder", path="d", size=16, eval_share=0.3)
    prepare.prepare(c, tmp_path / "a")
    before = prepared.load(tmp_path / "a")
    assert 8 <= len(before.eval) <= 28
    assert len(before.eval) + len(before.train) == 60
    assert before.eval.groups.tolist() == list(range(len(before.eval)))
    fill(tmp_path / "d", ["new.png"])
    prepare.prepare(c, tmp_path / "b")
    after = prepared.load(tmp_path / "b")
    assert set(before.eval.names) <= set(after.eval.names), "another image moved one between splits"
    assert before.train.sha256 != after.train.sha256 or before.eval.sha256 != after.eval.sha256


@pytest.mark.parametrize(("source", "name"), [("flat-folder", b"\xfc.png"), ("image-folder", b"m\xfcnchen/a.png")])
def test_a_file_name_that_is_no_text_is_named(tmp_path, source, name):
    fill(tmp_path / "d", ["b/a.png", "b/c.png"])
    odd = tmp_path / "d" / os.fsdecode(name)
    try:
        odd.parent.mkdir(exist_ok=True)
        odd.write_bytes((tmp_path / "d/b/a.png").read_bytes())
    except OSError:
        pytest.skip("a file system whose names are UTF-8")
    with pytest.raises(BadInput, match=r"data\.path: b'.*\\xfc.*' below .*/d has a name that is not UTF-8.*rename"):
        prepare.prepare(config(tmp_path, source=source, path="d", size=16), tmp_path / "o")


def test_everything_can_be_evaluation(tmp_path):
    fill(tmp_path / "d", ["a.png", "b.png"])
    prepare.prepare(config(tmp_path, source="flat-folder", path="d", size=16, eval_share=1), tmp_path / "o")
    loaded = prepared.load(tmp_path / "o")
    assert len(loaded.eval) == 2
    assert loaded.train.images.shape == (0, 16, 16, 3)


def test_image_folder_with_splits_has_labels_and_a_class_list(tmp_path):
    fill(
        tmp_path / "d", ["train/cat/1.png", "train/dog/sub/2.png", "val/dog/3.PNG", "val/eel/4.png", "notes/x.txt.png"]
    )
    (tmp_path / "d/train/cat/readme.txt").write_text("no image")
    manifest = prepare.prepare(config(tmp_path, source="image-folder", path="d", size=16), tmp_path / "o")
    loaded = prepared.load(tmp_path / "o")
    assert loaded.train.labels.tolist() == [0, 1]
    assert loaded.eval.labels.tolist() == [1, 2]
    assert manifest["classes"] == classes.identity(["cat", "dog", "eel"])
    assert manifest["classes"]["kind"] == "local"


def test_image_folder_without_splits(tmp_path):
    fill(tmp_path / "d", [f"{'ab'[i % 2]}/{i}.png" for i in range(40)])
    prepare.prepare(config(tmp_path, source="image-folder", path="d", size=16, eval_share=0.5), tmp_path / "o")
    loaded = prepared.load(tmp_path / "o")
    for split in (loaded.train, loaded.eval):
        assert [name[0] for name in split.names] == ["ab"[label] for label in split.labels]


def test_class_lists_are_ilsvrc_only_when_they_are():
    synsets = ["n01440764", *(f"n02{i:06}" for i in range(998)), "n15075141"]
    assert classes.identity(synsets)["kind"] == "ilsvrc"
    assert classes.identity(synsets[:800])["kind"] == "local"
    assert classes.identity(synsets[::-1])["kind"] == "local"
    assert classes.identity(synsets, "local")["kind"] == "local"
    assert classes.identity(["a", "b"])["sha256"] != classes.identity(["b", "a"])["sha256"]
    with pytest.raises(BadInput, match="1000"):
        classes.identity(synsets[:5], "ilsvrc")


def encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def write_parquet(path: Path, seeds: list[int], labels: list[int] | None, bad: int | None = None) -> None:
    cells = [{"bytes": encoded(picture(s)) if i != bad else b"junk", "path": f"{s}.png"} for i, s in enumerate(seeds)]
    columns = {"image": cells} | ({"label": labels} if labels else {})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=2)


def test_parquet_splits_by_file_name_and_keeps_rows_and_labels_together(tmp_path):
    write_parquet(tmp_path / "d/data/train-00000-of-00002.parquet", [0, 1, 2, 3, 4], [2, 0, 1, 0, 2])
    write_parquet(tmp_path / "d/data/train-00001-of-00002.parquet", [5, 6], [1, 1])
    write_parquet(tmp_path / "d/data/valid-00000-of-00001.parquet", [7, 8], [0, 2])
    write_parquet(tmp_path / "d/data/test-00000-of-00001.parquet", [9], [0])
    (tmp_path / "d/classes.tsv").write_text("label\twnid\tname\n0\tn1\ta\n1\tn2\tb\n2\tn3\tc\n")
    manifest = prepare.prepare(config(tmp_path, source="parquet", path="d", size=20), tmp_path / "o")
    loaded = prepared.load(tmp_path / "o")
    assert manifest["classes"]["names"] == ["n1", "n2", "n3"]
    assert loaded.train.labels.tolist() == [2, 0, 1, 0, 2, 1, 1]
    assert loaded.eval.labels.tolist() == [0, 2]
    for seed, stored in enumerate([*loaded.train.images, *loaded.eval.images]):
        assert np.array_equal(stored, np.asarray(picture(seed))[:, 2:22])


@pytest.mark.parametrize("content", [b"", b"\n\n", b"label\tname\n0\tM\xfcnchen\n", b"label\n0\n"])
def test_a_class_table_that_is_none_is_named(tmp_path, content):
    write_parquet(tmp_path / "d/train.parquet", [0, 1], [0, 0])
    write_parquet(tmp_path / "d/val.parquet", [2], [0])
    (tmp_path / "d/classes.tsv").write_bytes(content)
    with pytest.raises(BadInput, match=r"classes\.tsv: columns `label` and .* correct it or remove it"):
        prepare.prepare(config(tmp_path, source="parquet", path="d", size=20), tmp_path / "o")


def test_parquet_without_labels_or_with_missing_ones(tmp_path):
    write_parquet(tmp_path / "d/train.parquet", [0, 1], [0, 1])
    write_parquet(tmp_path / "d/test.parquet", [2, 3], [-1, -1])
    prepare.prepare(config(tmp_path, source="parquet", path="d", size=20), tmp_path / "o")
    loaded = prepared.load(tmp_path / "o")
    assert loaded.train.labels is None
    assert loaded.manifest["classes"] is None


def test_bad_images_are_listed_up_to_the_allowed_share_and_named_above_it(tmp_path, caplog):
    fill(tmp_path / "d", [f"val/{i}.png" for i in range(8)])
    whole_file = (tmp_path / "d/val/3.png").read_bytes()
    (tmp_path / "d/val/3.png").write_bytes(whole_file[: len(whole_file) // 2])
    picture(99, 10, 10).save(tmp_path / "d/val/5.png")
    (tmp_path / "d/val/6.png").write_bytes(b"")
    with pytest.raises(BadInput) as error:
        prepare.prepare(
            config(tmp_path, source="flat-folder", path="d", size=16, max_bad_share=0.2), tmp_path / "strict"
        )
    for name in ("val/3.png", "val/5.png", "val/6.png", "too small: 10x10", "max_bad_share"):
        assert name in str(error.value)
    assert not (tmp_path / "strict/manifest.json").exists()
    caplog.clear()
    manifest = prepare.prepare(
        config(tmp_path, source="flat-folder", path="d", size=16, max_bad_share=0.5), tmp_path / "lenient"
    )
    assert [entry["image"] for entry in manifest["bad"]] == ["val/3.png", "val/5.png", "val/6.png"]
    assert "val/3.png" in caplog.text
    loaded = prepared.load(tmp_path / "lenient")
    assert loaded.eval.names == [f"val/{i}.png" for i in (0, 1, 2, 4, 7)]
    assert np.array_equal(loaded.eval.images[3], np.asarray(picture(4))[2:18, 4:20])


def test_evaluation_images_that_are_also_training_images_are_counted(tmp_path):
    fill(tmp_path / "d", ["train/a.png", "train/b.png"])
    picture(0).save(_made(tmp_path / "d/val/c.png"))
    manifest = prepare.prepare(config(tmp_path, source="flat-folder", path="d", size=16), tmp_path / "o")
    assert manifest["eval_images_also_in_train"] == 1


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("source", ["flat-folder", "image-folder", "parquet"])
def test_missing_and_empty_folders(tmp_path, source):
    with pytest.raises(Missing, match="does not exist"):
        prepare.prepare(config(tmp_path, source=source, path="nowhere"), tmp_path / "o")
    (tmp_path / "void").mkdir()
    with pytest.raises(Missing, match="void"):
        prepare.prepare(config(tmp_path, source=source, path="void"), tmp_path / "o")
    with pytest.raises(BadInput, match=r"data\.path is required"):
        prepare.prepare(config(tmp_path, source=source), tmp_path / "o")


def test_plain_images_in_an_image_folder_name_the_cure(tmp_path):
    fill(tmp_path / "d", ["a.png"])
    with pytest.raises(BadInput, match="flat-folder"):
        prepare.prepare(config(tmp_path, source="image-folder", path="d"), tmp_path / "o")


def test_damaged_parquet_is_bad_input(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/train.parquet").write_bytes(b"junk")
    with pytest.raises(BadInput, match=r"train\.parquet"):
        prepare.prepare(config(tmp_path, source="parquet", path="d"), tmp_path / "o")


def test_loading_unfinished_or_damaged_folders(tmp_path):
    with pytest.raises(Missing, match="manifest"):
        prepared.load(tmp_path)
    fill(tmp_path / "d", [f"val/{i}.png" for i in range(3)])
    prepare.prepare(config(tmp_path, source="flat-folder", path="d", size=16), tmp_path / "o")
    array = tmp_path / "o/eval.npy"
    array.write_bytes(array.read_bytes()[:-100])
    with pytest.raises(BadInput, match="prepare again"):
        prepared.load(tmp_path / "o")
    (tmp_path / "o/manifest.json").write_text("{")
    with pytest.raises(BadInput, match="damaged"):
        prepared.load(tmp_path / "o")


def test_the_command_and_its_exit_codes(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "name: t\ndata: {source: flat-folder, path: nowhere}\nquantizers: {i: {method: identity}}\n"
    )
    arguments = ["--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "o")]
    done = subprocess.run(
        [sys.executable, "-m", "latticebench.data.prepare", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "error: data.path" in done.stderr
    assert "Traceback" not in done.stderr
    fill(tmp_path / "nowhere", ["val/a.png"])
    (tmp_path / "c.yaml").write_text(
        "name: t\ndata: {source: flat-folder, path: nowhere, size: 16}\nquantizers: {i: {method: identity}}\n"
    )
    result = CliRunner().invoke(prepare.command, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "o/manifest.json").read_text())["splits"]["eval"]["images"] == 1
