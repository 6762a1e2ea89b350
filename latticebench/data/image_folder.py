"""image-folder: one folder a class, with or without train and val folders above them."""

from pathlib import Path

from latticebench.data.flat_folder import FlatFolder
from latticebench.data.sources import Item, image_files, key_of
from latticebench.errors import BadInput, Missing


class ImageFolder(FlatFolder):
    """Labels are the positions of the class folders' names in their sorted list, over both splits."""

    def _splits(self, eval_share: float, seed: int) -> dict[str, list[Item]]:
        self._class_of: dict[str, str] = {}
        splits = super()._splits(eval_share, seed)
        self.classes = tuple(sorted(set(self._class_of.values())))
        number = {name: i for i, name in enumerate(self.classes)}
        return {
            split: [item._replace(label=number[self._class_of[item.key]]) for item in items]
            for split, items in splits.items()
        }

    def _items(self, folder: Path) -> list[Item]:
        folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not folders:
            if image_files(folder):
                raise BadInput(f"data.path: {folder} has no class folders; use `source: flat-folder` for plain images")
            raise Missing(f"data.path: {folder} is empty; put one folder of images a class there")
        items = []
        for class_folder in folders:
            for path in image_files(class_folder):
                item = Item(key_of(path, self.root), path)
                self._class_of[item.key] = class_folder.name
                items.append(item)
        if not items:
            raise Missing(f"data.path: no images in the {len(folders)} class folders of {folder}")
        return items
