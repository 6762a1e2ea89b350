"""Files made to harm: refused with a message, without running, unpacking or allocating what they ask for."""

import io
import json
import struct
import subprocess
import sys
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest
import torch

from evaluation import arrays, images
from latticebench import configuration, tokenizers
from latticebench.data import pictures, prepared
from latticebench.data.parquet import Parquet
from latticebench.errors import BadInput
from latticebench.weights import reading, registry
from tests.hostile import fuzz
from tests.workflow.runs import ROOT

HEAD = "name: a\ndata: {source: bundled-photographs}\nquantizers: {i: {method: identity}}\n"


def npy(shape: tuple[int, ...], body: bytes = b"") -> bytes:
    """An array file that declares a shape and holds `body`."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + body


def peak(function: Callable[[], object]) -> float:
    """MiB of Python's and numpy's allocations at their highest."""
    import tracemalloc

    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def refused(function: Callable[[], object], words: str) -> None:
    """Raises BadInput with those words, and takes less than 200 MiB to do so."""

    def run() -> None:
        with pytest.raises(BadInput, match=words):
            function()

    assert peak(run) < 200


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "seed: !!python/object/apply:os.system ['touch harm']\n", "not valid YAML"),
        (HEAD + "seed: !!python/name:os.system\n", "not valid YAML"),
        (HEAD + "seed: !!python/object/new:subprocess.Popen [['touch', 'harm']]\n", "not valid YAML"),
        (HEAD + "seed: &a [*a]\n", "nested too deeply"),
        (HEAD + "x:\n" + " [\n" * 50_000, "nested too deeply"),
        (
            HEAD + "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
                f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
            ),
            "once its anchors are written out",
        ),
        (HEAD + "1: 2\n", "is not text"),
        (HEAD + "? [1]\n: 2\n", "not valid YAML"),
        (HEAD + "seed: 2001-99-99\n", "not valid YAML"),
    ],
    ids=["apply", "name", "new", "itself", "deep", "anchors", "number-key", "list-key", "date"],
)  # fmt: skip
def test_configurations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text)
    refused(lambda: configuration.load("c.yaml"), words)
    assert not (tmp_path / "harm").exists()


def test_a_configuration_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(BadInput, match="not valid YAML"):
        configuration.load(tmp_path / "c.yaml")


def test_a_registry_that_builds_objects(tmp_path: Path) -> None:
    (tmp_path / "registry.yaml").write_text("weights: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(BadInput, match="not readable YAML"):
        registry.load(tmp_path, tmp_path / "registry.yaml")


@pytest.mark.parametrize("shape", [[2**40], [2**31, 2**31], [-1], [2**70]])
def test_safetensors_of_a_declared_size(tmp_path: Path, shape: list[int]) -> None:
    head = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 16]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(16))
    refused(lambda: reading.state_dict(tmp_path / "w.safetensors", ((),)), "cannot be read as a checkpoint")


def test_a_safetensors_header_of_a_declared_length(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    refused(lambda: reading.state_dict(tmp_path / "w.safetensors", ((),)), "cannot be read as a checkpoint")


@pytest.mark.parametrize("shape", [(2**40, 8, 8, 3), (2**62, 2**62, 8, 3), (1000, 64, 64, 3)])
def test_arrays_of_a_declared_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "a.npy").write_bytes(npy(shape, bytes(300)))
    refused(lambda: images.load(tmp_path / "a.npy"), "cannot be read as an array")
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", kind) as archive:
            archive.writestr("arr_0.npy", npy(shape, bytes(300)))
        refused(lambda: images.load(tmp_path / "a.npz"), "cannot be read as an array")


def test_arrays_of_objects(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.array([{"a": 1}], dtype=object))
    refused(lambda: images.load(tmp_path / "a.npz"), "cannot be read as an array")


def test_a_zip_bomb_beside_the_pixels(tmp_path: Path) -> None:
    part = {"images": 2, "content": {"shape": [2, 8, 8, 3]}, "files": {}, "sha256": "0"}
    manifest = {"format": prepared.FORMAT, "splits": {"train": part, "eval": part}, "classes": None}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with zipfile.ZipFile(tmp_path / "train.items.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.npy", npy((2**28,), bytes(2**28)))
    refused(lambda: prepared.load(tmp_path), "would unpack to more than 2 images need")


def test_an_array_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (2**13, 64, 64, 3)
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("arr_0.npy", "w") as member,
    ):
        member.write(npy(shape))
        for _ in range(96):
            member.write(bytes(2**20))
    monkeypatch.setattr(arrays.shutil, "copyfileobj", None)
    refused(lambda: images.load(tmp_path / "a.npz"), "more than 100 times as many")


def test_an_array_that_the_disk_has_no_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", np.arange(1920, dtype=np.uint8).reshape(10, 8, 8, 3))
    assert len(images.load(tmp_path / "a.npz")) == 10
    monkeypatch.setattr(arrays.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1000))
    refused(lambda: images.load(tmp_path / "a.npz"), "unpacks to 2048 bytes .* has 1000 free; set TMPDIR")


def png(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds no pixels."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def test_pictures_of_a_declared_size(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "a.png").write_bytes(png(60_000, 60_000))
    refused(lambda: images.load(tmp_path), "cannot be read as an image")
    with pytest.raises(pictures.Unusable, match="DecompressionBomb"):
        pictures.prepare(lambda: Image.open(tmp_path / "a.png"), 32, "lanczos", False)


@pytest.mark.parametrize(("width", "height"), [(2**13, 2**13 + 1), (13_000, 13_000)])
def test_pictures_that_are_too_large_to_decode(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "a.png").write_bytes(png(width, height))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of a decompression bomb
        refused(lambda: images.load(tmp_path), f"{width} x {height} px; at most 67108864")


def test_rows_that_the_bytes_of_a_table_cannot_hold(tmp_path: Path) -> None:
    count = 2_000_000
    table = pyarrow.table({"image": pyarrow.nulls(count, pyarrow.struct({"bytes": pyarrow.binary()}))})
    pq.write_table(table, tmp_path / "train.parquet")
    refused(lambda: Parquet(str(tmp_path), 0.5, 0), "says that it has 2000000 rows")


def test_a_text_as_label_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pyarrow.table({"image": [b"a", b"b"], "label": ["long", "long"]}), tmp_path / "train.parquet")
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    refused(lambda: Parquet(str(tmp_path), 0.5, 0), "the column `label` holds string")


def too_much(folder: Path) -> object:
    """Takes a refused allocation for a damaged file, except at the file that the fuzzer starts from."""
    if (folder / "a").read_bytes() == b"valid":
        return None
    try:
        return bytearray(2**31)
    except MemoryError as error:
        raise BadInput("a is damaged") from error


def harmless(folder: Path) -> object:
    if (folder / "a").read_bytes() != b"valid":
        raise BadInput("a is damaged")
    return None


@pytest.mark.parametrize(
    ("read", "passes", "words"), [(too_much, False, "TooMuch: hidden behind BadInput"), (harmless, True, "no crash")]
)
def test_the_fuzzer_sees_through_a_refused_allocation(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    read: Callable[[Path], object],
    passes: bool,
    words: str,
) -> None:
    monkeypatch.setitem(fuzz.TARGETS, "made up", lambda: fuzz.Target({"a": b"valid"}, read, ("a",)))
    assert fuzz.alone("made up", 5) == passes
    assert words in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_loader_on_damaged_and_invented_files() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.fuzz", "--cases", "300"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.parametrize("change", ["method", "parameters", "nested"])
def test_a_description_without_its_parts_is_damaged(tmp_path, change):
    target = fuzz.TARGETS["tokenizer"]()
    for name, content in target.files.items():
        (tmp_path / name).write_bytes(content)
    path = tmp_path / "tokenizer.json"
    if change == "nested":
        path.write_bytes(b"[" * 100_000)
    else:
        facts = json.loads(path.read_text())
        del facts["quantizer"][change]
        path.write_text(json.dumps(facts))
    with pytest.raises(BadInput, match=r"tokenizer\.json is damaged"):
        tokenizers.load(tmp_path)


def test_an_archive_over_several_disks_is_damaged(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"state_dict": {"a": torch.ones(2)}}, path)
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\x05\x06")
    locator = b"PK\x06\x07" + (1).to_bytes(4, "little") + bytes(8) + (2).to_bytes(4, "little")
    path.write_bytes(data[:end] + locator + data[end:])
    with pytest.raises(BadInput, match=r"w\.pth"):
        reading.state_dict(path, (("state_dict",),))
