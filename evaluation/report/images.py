"""Strips of stored pictures: originals, reconstructions and error maps as arrays and as PNG files."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.report.results import Results

BRIGHTEST = 64
"""Grey levels of error that an error map shows as its brightest colour."""
_MAX_SIDE = 192


@dataclasses.dataclass(frozen=True)
class Strip:
    """One row of the grid: pictures and error maps side by side without gaps, (h, count·w, 3) uint8.

    id: the entry's, empty for the originals, which have no error. path: the stored file's folder.
    """

    id: str
    name: str
    label: str
    psnr: float | None
    picture: np.ndarray
    error: np.ndarray | None
    path: str
    count: int


def strips(results: Results, count: int = 8) -> list[Strip]:
    """The originals' strip and one for each quantizer with stored pictures; empty where there are none."""
    found = [(entry, pictures) for entry in results.entries if (pictures := results.pictures(entry)) is not None]
    if not found:
        return []
    originals = _originals(results, found[0][1])
    result = []
    if originals is not None:
        originals = originals[:count]
        result.append(Strip("", "", "original", None, _join(originals), None, "", len(originals)))
    for entry, pictures in found:
        pixels = _reconstructions(pictures)[:count]
        same = originals is not None and originals.shape == pixels.shape
        error = _join(error_map(originals, pixels)) if same else None
        path = f"pictures/{entry.id}"
        psnr = entry.number("psnr")
        result.append(Strip(entry.id, entry.name, entry.name, psnr, _join(pixels), error, path, len(pixels)))
    return result


def _originals(results: Results, pictures: dict[str, Any]) -> np.ndarray | None:
    if "originals" in pictures:
        return pictures["originals"]
    path = results.root / "data" / results.data_hash / "eval.npy"
    if not path.is_file():
        return None
    images = np.load(path, mmap_mode="r", allow_pickle=False)
    indices = pictures.get("indices", np.arange(len(_reconstructions(pictures))))
    return np.asarray(images[np.sort(indices)])


def _reconstructions(pictures: dict[str, Any]) -> np.ndarray:
    if "reconstructions" in pictures:
        return pictures["reconstructions"]
    return next(array for key, array in pictures.items() if key != "originals" and array.ndim == 4)


def error_map(originals: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Absolute error, mean of the channels, as colours: (n, h, w, 3) uint8 twice -> (n, h, w, 3) uint8."""
    from matplotlib import colormaps

    error = np.abs(originals.astype(np.float32) - pixels.astype(np.float32)).mean(-1) / BRIGHTEST
    return (colormaps["inferno"](np.clip(error, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def _join(pictures: np.ndarray) -> np.ndarray:
    step = max(1, -(-max(pictures.shape[1:3]) // _MAX_SIDE))
    return np.concatenate(list(pictures[:, ::step, ::step]), axis=1)


def split(strip: np.ndarray, count: int) -> list[np.ndarray]:
    """The pictures of a strip."""
    return np.split(strip, count, axis=1)


def save(pixels: np.ndarray, path: Path) -> None:
    """Writes a PNG."""
    from PIL import Image

    # A third of the default's time and half a percent larger.
    Image.fromarray(pixels).save(path, "PNG", compress_level=4)
