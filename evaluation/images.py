"""Images at the judge's door: uint8 RGB from a folder of PNGs, an .npy or .npz array, or the suite's own arrays.

Rules: lossy files are refused (JPEG alone moved a published FID from 2.5 to 5.8), and so are 16-bit images,
alpha channels and colour spaces other than grey, palette and RGB. Grey and palette images become RGB, which
loses nothing. One protocol takes un-rounded floats, which come through a door of their own.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import arrays, chunks
from latticebench.errors import BadInput

_LOSSLESS = {".png"}
_IMAGES = _LOSSLESS | {
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".avif",
    ".jp2",
    ".jxl",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
}
_MOST_PIXELS = 2**26
"""Of a PNG, as in a token file: decoded it takes up to 14 bytes a pixel for a moment, together less than 1 GB."""
_MODES = {"RGB", "L", "P", "1"}


@dataclasses.dataclass(frozen=True)
class Images:
    """An ordered set of images. names: one each, for messages. shapes: (height, width) each."""

    names: Sequence[str]
    shapes: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.shapes)

    def read(self, chunk: chunks.Chunk) -> np.ndarray:
        """uint8 (B, H, W, 3) of a chunk whose images have one shape."""
        raise NotImplementedError

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of shapes and pixels in order: what features are stored under."""
        digest = hashlib.sha256(repr([tuple(shape) for shape in self.shapes]).encode())
        for chunk in chunks.cut(self.shapes, 64):
            digest.update(np.ascontiguousarray(self.read(chunk)).tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class ArrayImages(Images):
    """Images of one array (N, H, W, 3) uint8, which may be memory-mapped. file: where it was read from, if it was."""

    array: np.ndarray = dataclasses.field(repr=False, default=None)  # type: ignore[assignment]
    file: str = ""

    def read(self, chunk: chunks.Chunk) -> np.ndarray:
        return self._slice(chunk)

    def _slice(self, chunk: chunks.Chunk) -> np.ndarray:
        """A copy of some images of a file: pages of a map that stays open would stay in the process's memory."""
        whole = self.array
        if not self.file or not isinstance(whole, np.memmap) or whole.filename is None:
            return np.asarray(whole[chunk[0] : chunk[1]])
        shape = (chunk[1] - chunk[0], *whole.shape[1:])
        start = whole.offset + chunk[0] * whole.itemsize * math.prod(shape[1:])
        return np.array(np.memmap(whole.filename, whole.dtype, "r", start, shape))

    def __reduce__(self) -> Any:
        """Another process maps the file again: pickled, a memory map would be its whole content."""
        if self.file:
            return _reopened, (type(self), self.file)
        return type(self), (self.names, self.shapes, self.array)


@dataclasses.dataclass(frozen=True)
class FloatImages(ArrayImages):
    """Un-rounded images (N, H, W, 3), floats nominally in [0, 1]: clamped, not rounded."""

    def read(self, chunk: chunks.Chunk) -> np.ndarray:
        values = np.asarray(self._slice(chunk), dtype=np.float32)
        if np.isnan(values).any():
            bad = int(np.flatnonzero(np.isnan(values).any(axis=(1, 2, 3)))[0])
            raise BadInput(f"{self.names[chunk[0] + bad]} contains NaN")
        return values.clip(0, 1)


@dataclasses.dataclass(frozen=True)
class FolderImages(Images):
    """PNG files of a folder, sorted by name."""

    folder: Path = Path()

    def read(self, chunk: chunks.Chunk) -> np.ndarray:
        return np.stack([_decode(self.folder / self.names[i]) for i in range(*chunk)])


def from_array(array: np.ndarray, name: str = "array", file: str = "") -> ArrayImages:
    """Images of an array. Raises BadInput unless it is (N, H, W, 3) uint8 with N > 0."""
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or not len(array):
        raise BadInput(f"{name}: images must be uint8 of shape (N, H, W, 3), got {array.dtype} {array.shape}")
    return ArrayImages(*_numbered(array, name), array, file)


def from_floats(array: np.ndarray, name: str = "array", file: str = "") -> FloatImages:
    """Un-rounded images of an array. Raises BadInput unless it is (N, H, W, 3) floating with N > 0."""
    if not np.issubdtype(array.dtype, np.floating) or array.ndim != 4 or array.shape[3] != 3 or not len(array):
        raise BadInput(
            f"{name}: un-rounded images must be floats in [0, 1] of shape (N, H, W, 3), got {array.dtype} {array.shape}"
        )
    return FloatImages(*_numbered(array, name), array, file)


def _numbered(array: np.ndarray, name: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Names and shapes of an array's images."""
    shape = (int(array.shape[1]), int(array.shape[2]))
    return [f"{name}[{i}]" for i in range(len(array))], [shape] * len(array)


def load(path: str | Path) -> Images:
    """Images of a folder of PNGs, of an .npy file, or of arr_0 (else the first array) of an .npz file (ADM's layout).

    Arrays are memory-mapped. Raises BadInput that names the file.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    return from_array(arrays.opened(_array_file(path)), str(path), str(path))


def load_floats(path: str | Path) -> FloatImages:
    """Un-rounded images of an .npy or .npz file. Raises BadInput that names the file."""
    path = Path(path)
    return from_floats(arrays.opened(_array_file(path)), str(path), str(path))


def _array_file(path: Path) -> Path:
    if not path.is_file():
        raise BadInput(f"{path} is neither a folder nor a file")
    if path.suffix not in (".npy", ".npz"):
        raise BadInput(f"{path}: give a folder of PNG files, an .npy or an .npz file")
    return path


@functools.lru_cache(maxsize=4)
def _reopened(kind: type[ArrayImages], file: str) -> ArrayImages:
    """The images of a file in another process, opened once and not for every chunk."""
    images = (load_floats if kind is FloatImages else load)(file)
    assert isinstance(images, ArrayImages)
    return images


def _folder(folder: Path) -> FolderImages:
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in _IMAGES)
    for file in files:
        if file.suffix.lower() not in _LOSSLESS:
            raise BadInput(f"{file}: only PNG files are judged; {file.suffix} may be lossy. Decode it and save a PNG")
    if not files:
        raise BadInput(f"{folder} holds no PNG files")
    return FolderImages([str(f.relative_to(folder)) for f in files], [_shape(f) for f in files], folder)


def _open(file: Path) -> Any:
    from PIL import Image

    try:
        image = Image.open(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{file} cannot be read as an image: {error}") from error
    if image.format != "PNG":
        raise BadInput(f"{file} is named .png but holds {image.format}, which may be lossy")
    if image.width * image.height > _MOST_PIXELS:
        raise BadInput(
            f"{file} has {image.width} x {image.height} px; at most {_MOST_PIXELS} are judged in one image: cut it into "
            "parts, or give the images as an .npy array"
        )
    if image.mode not in _MODES or "transparency" in image.info or _sixteen_bit(file):
        raise BadInput(
            f"{file}: mode {image.mode}{', 16 bits' if _sixteen_bit(file) else ''}"
            f"{', transparent' if 'transparency' in image.info else ''}; only 8-bit grey, palette or RGB is judged"
        )
    return image


def _sixteen_bit(file: Path) -> bool:
    """Whether the PNG header says 16 bits: Pillow opens 16-bit RGB as 8-bit without a word."""
    with open(file, "rb") as handle:
        return handle.read(25)[24:25] == b"\x10"


def _shape(file: Path) -> tuple[int, int]:
    with _open(file) as image:
        return image.height, image.width


def _decode(file: Path) -> np.ndarray:
    try:
        with _open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"{file} is damaged: {error}") from error


def check_pairs(originals: Images, reconstructions: Images) -> None:
    """Raises BadInput, naming the first offender, unless both sides hold the same names (of folders) and sizes."""
    if isinstance(originals, FolderImages) and isinstance(reconstructions, FolderImages):
        for one, other in ((originals, reconstructions), (reconstructions, originals)):
            lone = sorted(set(one.names) - set(other.names))
            if lone:
                raise BadInput(
                    f"{one.folder / lone[0]} has no partner {other.folder / lone[0]} ({len(lone)} such files)"
                )
    if len(originals) != len(reconstructions):
        raise BadInput(f"{len(originals)} originals and {len(reconstructions)} reconstructions")
    for name, a, b in zip(reconstructions.names, originals.shapes, reconstructions.shapes, strict=True):
        if tuple(a) != tuple(b):
            raise BadInput(f"{name}: {b[1]} x {b[0]} px, its original {a[1]} x {a[0]} px")
