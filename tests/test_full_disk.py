"""A full disk is told with the name of the file, whichever library was writing it."""

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import safetensors
import safetensors.numpy

from latticebench.commands import explain
from latticebench.files import whole, write_json

ROOM = 2**16
VALUES = np.random.default_rng(0).integers(0, 256, 8 * ROOM).astype(np.uint8)


def written(write: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with whole(path) as temporary:
            write(temporary)

    return make


WRITERS: dict[str, Callable[[Path], None]] = {
    "a.npy": written(lambda path: np.save(path, VALUES)),
    "a.npz": written(lambda path: np.savez(path, VALUES)),
    "packed.npz": written(lambda path: np.savez_compressed(path, VALUES)),
    "a.safetensors": written(lambda path: safetensors.numpy.save_file({"a": VALUES}, path)),
    "a.parquet": written(lambda path: pyarrow.parquet.write_table(pyarrow.table({"a": VALUES}), path)),
    "a.bin": written(lambda path: path.write_bytes(VALUES.tobytes())),
    "a.json": lambda path: write_json(path, VALUES.tolist()),
}


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Path]:
    """No file may be larger than ROOM."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield tmp_path
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of ROOM bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def check(folder: Path, name: str, number: int) -> None:
    path = folder / name
    path.write_text("before")
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        WRITERS[name](path)
    assert (raised.value.errno, raised.value.filename) == (number, str(path))
    assert f"the disk is full while writing {path};" in explain(raised.value)
    assert path.read_text() == "before"
    assert [path.name for path in folder.iterdir()] == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_may_not_grow_is_named(limited: Path, name: str) -> None:
    check(limited, name, errno.EFBIG)


@pytest.mark.mount
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_on_a_full_disk_is_named(small: Path, name: str) -> None:
    check(small, name, errno.ENOSPC)


@pytest.mark.mount
def test_a_file_that_does_not_even_begin_is_named(small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,nr_inodes=1", str(small)], check=True)
    with pytest.raises(OSError, match=r"No space left on device: .*/a.json") as raised:
        write_json(small / "a.json", {})
    assert raised.value.filename == str(small / "a.json")


@pytest.mark.mount
def test_a_disk_that_turned_read_only_is_not_called_full(small: Path) -> None:
    def turn(path: Path) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        raise OSError("1000000 requested and 131056 written")

    with pytest.raises(OSError, match="Read-only file system") as raised:
        written(turn)(small / "a.npy")
    assert raised.value.filename == str(small / "a.npy")


def test_space_that_became_free_meanwhile_was_missing_all_the_same(tmp_path: Path) -> None:
    def short(_: Path) -> None:
        raise OSError("1000000 requested and 131056 written")

    with pytest.raises(OSError, match="No space left on device"):
        written(short)(tmp_path / "a.npy")


@pytest.mark.parametrize(
    "error",
    [
        OSError("another short story"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ENOSPC, "No space left on device", "elsewhere.npy"),
        safetensors.SafetensorError("Error while deserializing header"),
        ValueError("odd"),
    ],
)
def test_other_errors_stay_as_they_are(tmp_path: Path, error: Exception) -> None:
    def other(_: Path) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        written(other)(tmp_path / "a.npy")
    assert raised.value is error
