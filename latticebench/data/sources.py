"""What every data source offers, and what several of them share."""

import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from PIL import Image

from latticebench.errors import BadInput, Missing

log = logging.getLogger(__name__)

TRAIN_NAMES = ("train", "training")
EVAL_NAMES = ("val", "valid", "validation", "eval", "test")
"""Names of an evaluation split, the first one present is taken."""

SUFFIXES = frozenset(
    [".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".avif", ".jp2", ".jxl"]
)  # fmt: skip


class Item(NamedTuple):
    """One image of a source.

    key: its name, unique within the split and stable across machines. position: where the source keeps it.
    label: index into the source's class list, or None. group: scene id, or None where unknown.
    """

    key: str
    position: Any
    label: int | None = None
    group: int | None = None


Opener = Callable[[], Image.Image]
"""Opens (and may decode) one image; called in worker threads."""


class Source(Protocol):
    """Where images come from. `items` are listed in the stored order; `read` opens them in the order given."""

    classes: tuple[str, ...] | None

    def items(self, split: str) -> list[Item]: ...

    def read(self, split: str, items: Sequence[Item]) -> Iterator[Opener]: ...

    def provenance(self) -> dict[str, Any]: ...

    def excluded(self) -> dict[str, Any]: ...


def share(seed: int, use: str, key: str) -> float:
    """A number in [0, 1) that depends on nothing but the seed, its use and the key: another image never moves it."""
    digest = hashlib.sha256(f"{seed}/{use}/{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def at_most(items: list[Item], count: int | None, seed: int, use: str) -> list[Item]:
    """`count` items drawn by the hash of their keys, in the original order; all where count is None."""
    if count is None or count >= len(items):
        return items
    chosen = sorted(range(len(items)), key=lambda i: (share(seed, use, items[i].key), i))[:count]
    return [items[i] for i in sorted(chosen)]


def held_out(items: list[Item], eval_share: float, seed: int, where: str) -> dict[str, list[Item]]:
    """Splits items by the hash of their keys. Raises BadInput where a split comes out empty."""
    splits: dict[str, list[Item]] = {"train": [], "eval": []}
    for item in items:
        splits["eval" if share(seed, "eval", item.key) < eval_share else "train"].append(item)
    if not splits["eval"] or (not splits["train"] and eval_share < 1):
        empty = "eval" if not splits["eval"] else "train"
        raise BadInput(
            f"{where}: data.eval_share {eval_share} of {len(items)} images leaves the {empty} split empty; "
            "change it, or give train and val folders"
        )
    return splits


def existing(path: str | Path | None, source: str) -> Path:
    """The folder or file of `data.path`. Raises BadInput where the key is missing, Missing where the path is."""
    if path is None:
        raise BadInput(f"data.path is required for source {source!r}")
    path = Path(path)
    if not path.exists():
        raise Missing(f"data.path: {path} does not exist; put your images there or correct the path")
    return path


def image_files(folder: Path) -> list[Path]:
    """All image files below a folder, sorted by relative path; links are followed, hidden files are not taken."""
    found: list[Path] = []
    others = 0
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() in SUFFIXES:
                found.append(Path(root, name))
            else:
                others += 1
    if others:
        log.info("%s: %d files are no images by their suffix and are left out", folder, others)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def key_of(file: Path, root: Path) -> str:
    """The key of an image file: its path below the root. Raises BadInput where that is no text."""
    key = file.relative_to(root).as_posix()
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"data.path: {os.fsencode(key)!r} below {root} has a name that is not UTF-8, which manifests cannot hold; "
            "rename it or move it elsewhere"
        ) from error
    return key


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of the train and eval splits, as far as they exist under their usual names."""
    found: dict[str, Path] = {}
    for split, names in (("train", TRAIN_NAMES), ("eval", EVAL_NAMES)):
        present = [name for name in names if (root / name).is_dir()]
        if present:
            found[split] = root / present[0]
        if len(present) > 1:
            log.info("%s: %s is taken as the %s split, %s left out", root, present[0], split, ", ".join(present[1:]))
    return found


def open_bytes(data: bytes | None) -> Image.Image:
    """An image from encoded bytes. Raises OSError where there are none."""
    if not data:
        raise OSError("no image bytes (only a path, or an empty cell)")
    return Image.open(io.BytesIO(data))
