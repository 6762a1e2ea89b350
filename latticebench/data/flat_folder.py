"""flat-folder: image files without labels, with or without train and val subfolders."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from latticebench.data.sources import Item, Opener, existing, held_out, image_files, key_of, split_folders
from latticebench.errors import BadInput, Missing


class FlatFolder:
    """All images below the folder; the eval split is `val` (or its kin), else a share drawn by the paths' hash."""

    classes: tuple[str, ...] | None = None

    def __init__(self, path: str | None, eval_share: float, seed: int) -> None:
        self.root = existing(path, "flat-folder")
        if not self.root.is_dir():
            raise BadInput(f"data.path: {self.root} is not a folder")
        self.split = self._splits(eval_share, seed)

    def _splits(self, eval_share: float, seed: int) -> dict[str, list[Item]]:
        folders = split_folders(self.root)
        if not folders:
            return held_out(self._items(self.root), eval_share, seed, str(self.root))
        if set(folders) == {"train"}:
            return held_out(self._items(folders["train"]), eval_share, seed, str(self.root))
        return {
            "train": self._items(folders["train"]) if "train" in folders else [],
            "eval": self._items(folders["eval"]),
        }

    def _items(self, folder: Path) -> list[Item]:
        files = image_files(folder)
        if not files:
            raise Missing(f"data.path: {folder} holds no images; put your images there or correct the path")
        return [Item(key_of(path, self.root), path) for path in files]

    def items(self, split: str) -> list[Item]:
        """Items in the order of their relative paths."""
        return self.split[split]

    def read(self, split: str, items: Sequence[Item]) -> Iterator[Opener]:
        """Opens each file."""
        for item in items:
            yield functools.partial(Image.open, item.position)

    def provenance(self) -> dict[str, Any]:
        """What the user's folder says of itself is not known."""
        return {"description": "images of the user's own", "licence": "not stated"}

    def excluded(self) -> dict[str, Any]:
        """Nothing is left out by rule."""
        return {}
