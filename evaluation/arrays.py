"""Arrays of .npy and .npz files, memory-mapped: ADM's sample files hold 10 GB."""

import math
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from latticebench.errors import BadInput
from latticebench.files import UNREADABLE

_MOST_TIMES, _HARMLESS = 100, 2**26
"""Most times that an array may outgrow its compressed bytes, once it has more than 64 MiB: pictures outgrow theirs
twofold, drawings tenfold, a file of zeros a thousandfold."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def keys(path: Path) -> list[str]:
    """Names of the arrays of an .npz file. Raises BadInput."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except UNREADABLE as error:
        raise BadInput(f"{path} cannot be read as an .npz file: {error}") from error


def opened(path: Path, key: str | None = None) -> np.ndarray:
    """A read-only map of an .npy file, or of an array of an .npz file (default: arr_0, else the first).

    A compressed array is unpacked into a temporary file that vanishes with the map, unless it would outgrow its bytes
    a hundredfold or the free space. Raises BadInput.
    """
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        names = keys(path)
        if not names or (key is not None and key not in names):
            raise BadInput(f"{path} holds no array{f' {key}' if key else ''}; there are: {', '.join(names) or 'none'}")
        with zipfile.ZipFile(path) as archive:
            return _member(path, archive, key or ("arr_0" if "arr_0" in names else names[0]))
    except UNREADABLE as error:
        raise BadInput(f"{path} cannot be read as an array: {error}") from error


def _member(path: Path, archive: zipfile.ZipFile, key: str) -> np.ndarray:
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"{key} has format version {version}")
        shape, fortran, dtype = _HEADERS[version](stream)
        if fortran and len(shape) > 1:
            raise ValueError(f"{key} is in Fortran order; save np.ascontiguousarray of it")
        if dtype.hasobject:
            raise ValueError(f"{key} holds Python objects")
        if math.prod(shape) * dtype.itemsize != info.file_size - stream.tell():
            raise ValueError(f"{key} says that it is {shape} of {dtype} and has {info.file_size} bytes")
        if info.compress_type == zipfile.ZIP_STORED:
            with open(path, "rb") as file:
                offset = _start(file, info) + stream.tell()
            return np.memmap(path, dtype, "r", offset, shape)
        _check_room(path, info)
        with tempfile.TemporaryFile() as file:
            shutil.copyfileobj(stream, file, 2**20)
            file.flush()
            return np.memmap(file, dtype, "r", 0, shape)


def _check_room(path: Path, info: zipfile.ZipInfo) -> None:
    """Raises BadInput where a compressed member would unpack to too much, or to more than the disk has room for."""
    if info.file_size > max(_HARMLESS, _MOST_TIMES * info.compress_size):
        raise BadInput(
            f"{path}: {info.filename} would unpack from {info.compress_size} to {info.file_size} bytes, more than "
            f"{_MOST_TIMES} times as many; if you trust the file, save the array with numpy.save"
        )
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if info.file_size > free:
        raise BadInput(
            f"{path}: {info.filename} unpacks to {info.file_size} bytes and {folder} has {free} free; set TMPDIR to a "
            "folder with more, or save the array with numpy.save"
        )


def _start(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: after its local header, a name and an extra field of their own lengths."""
    file.seek(info.header_offset + 26)
    lengths = np.frombuffer(file.read(4), "<u2")
    return info.header_offset + 30 + int(lengths.sum())
