"""Training images that stay files: the same pixels as an array's, checked each time, decoded in the background."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latticebench import configuration
from latticebench.data import prepare, prepared
from latticebench.data.decoded import Decoded
from latticebench.errors import BadInput, Missing
from latticebench.training import sampling


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3)):
        for number in range(count):
            path = tmp_path / "photographs" / split / f"class{number % 3}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8).repeat(5, 0).repeat(5, 1)
            Image.fromarray(pixels).save(path, quality=90)
    return tmp_path / "photographs"


def config(folder: Path, **data) -> configuration.Configuration:
    data = {"source": "image-folder", "path": str(folder), "size": 24, "train_margin": 8, "resize": "bilinear", **data}
    values = {"name": "t", "data": data, "quantizers": {"i": {"method": "identity"}}}
    return configuration.from_values(values, folder / "c.yaml")


def make(folder: Path, out: Path, **data) -> prepared.Prepared:
    prepare.prepare(config(folder, storage="manifest", **data), out)
    return prepared.load(out)


def test_the_pixels_are_those_of_the_array(photographs: Path, tmp_path: Path) -> None:
    files = make(photographs, tmp_path / "files")
    prepare.prepare(config(photographs), tmp_path / "array")
    array = prepared.load(tmp_path / "array")
    assert not (tmp_path / "files" / "train.npy").exists()
    assert isinstance(files.train.images, Decoded)
    assert files.train.images.shape == array.train.images.shape == (12, 32, 32, 3)
    assert np.array_equal(np.asarray(files.train.images), array.train.images)
    assert np.array_equal(files.train.images[3:7, 1:9, 2:5], array.train.images[3:7, 1:9, 2:5])
    assert np.array_equal(files.train.images[-1, :4], array.train.images[-1, :4])
    assert np.array_equal(files.train.labels, array.train.labels)
    assert files.train.names == array.train.names
    assert np.array_equal(files.eval.images, array.eval.images)


def test_training_batches_are_the_same_whatever_was_decoded_ahead(photographs: Path, tmp_path: Path) -> None:
    files = make(photographs, tmp_path / "files").train.images
    array = np.asarray(files)
    for start in (0, 5, 10, 40, 3):
        expected = sampling.cropped(array, 7, start, 5, 24, True)
        assert torch.equal(sampling.cropped(files, 7, start, 5, 24, True), expected)


def test_the_hash_is_of_the_files(photographs: Path, tmp_path: Path) -> None:
    before = make(photographs, tmp_path / "a").train.sha256
    assert before == make(photographs, tmp_path / "b").train.sha256
    path = photographs / "train" / "class0" / "0.jpg"
    path.write_bytes(path.read_bytes() + b"\0")
    assert before != make(photographs, tmp_path / "c").train.sha256


def test_a_changed_or_missing_file_stops_with_its_name(photographs: Path, tmp_path: Path) -> None:
    data = make(photographs, tmp_path / "out")
    path = photographs / data.train.names[4]
    Image.new("RGB", (40, 40)).save(path)
    with pytest.raises(BadInput, match=rf"{path.name} is not the file that the data was prepared from"):
        sampling.cropped(data.train.images, 0, 0, 12, 24, False)
    path.unlink()
    with pytest.raises(Missing, match=rf"{path.name} is gone"):
        data.train.images[4]
    with pytest.raises(Missing):
        data.train.verify(data.manifest["splits"]["train"]["content"])


def test_a_corrupt_file_stops_the_step_that_needs_it(photographs: Path, tmp_path: Path) -> None:
    path = photographs / "train" / "class1" / "1.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    data = make(photographs, tmp_path / "out")
    index = data.train.names.index("train/class1/1.jpg")
    others = [i for i in range(12) if i != index]
    assert len(data.train.images[others]) == 11
    with pytest.raises(BadInput, match=r"training image .*1\.jpg: unreadable.*truncated"):
        data.train.images[index]


def test_what_is_no_image_or_too_small_is_left_out_before(photographs: Path, tmp_path: Path) -> None:
    (photographs / "train" / "class0" / "0.jpg").write_text("not an image")
    Image.new("RGB", (30, 90)).save(photographs / "train" / "class0" / "3.jpg")
    with pytest.raises(BadInput, match=r"class0/0\.jpg.*unreadable.*class0/3\.jpg \(too small: 30x90, 32 needed\)"):
        make(photographs, tmp_path / "out")
    data = make(photographs, tmp_path / "out", max_bad_share=0.2)
    assert len(data.train) == 10 and len(data.manifest["bad"]) == 2


def test_copies_in_both_splits_are_counted(photographs: Path, tmp_path: Path) -> None:
    copy = photographs / "val" / "class0" / "copy.jpg"
    copy.write_bytes((photographs / "train" / "class0" / "0.jpg").read_bytes())
    assert make(photographs, tmp_path / "out").manifest["eval_images_also_in_train"] == 1


def test_only_files_can_stay_files(tmp_path: Path) -> None:
    values = {"name": "t", "data": {"source": "bundled-photographs", "storage": "manifest"}}
    bundled = configuration.from_values({**values, "quantizers": {"i": {"method": "identity"}}}, tmp_path / "c.yaml")
    with pytest.raises(BadInput, match="storage: manifest needs image files"):
        prepare.prepare(bundled, tmp_path / "out")


def test_the_manifest_says_where_the_files_lie(photographs: Path, tmp_path: Path) -> None:
    make(photographs, tmp_path / "out")
    part = json.loads((tmp_path / "out" / "manifest.json").read_text())["splits"]["train"]
    assert (part["storage"], part["root"]) == ("manifest", str(photographs.resolve()))
