"""image-folder: one folder a class, with or without train and val folders above them."""

from pathlib import Path

from latticebench.data.flat_folder import FlatFolder
from latticebench.data.sources import Item, image_files
from latticebench.errors import BadInput, Missing


class ImageFolder(FlatFolder):
    """Labels are the positions of the class folders' names in their sorted list, over both splits."""

    def _splits(self, eval_share: float, seed: int) -> dict[str, list[Item]]:
        splits = super()._splits(eval_share, seed)
        names = sorted({_class_name(item) for items in splits.values() for item in items})
        self.classes = tuple(names)
        number = {name: i for i, name in enumerate(names)}
        return {
            split: [item._replace(label=number[_class_name(item)]) for item in items] for split, items in splits.items()
        }

    def _items(self, folder: Path) -> list[Item]:
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not classes:
            if image_files(folder):
                raise BadInput(f"data.path: {folder} has no class folders; use `source: flat-folder` for plain images")
            raise Missing(f"data.path: {folder} is empty; put one folder of images a class there")
        items = [
            Item(path.relative_to(self.root).as_posix(), (name.name, path))
            for name in classes
            for path in image_files(name)
        ]
        if not items:
            raise Missing(f"data.path: no images in the {len(classes)} class folders of {folder}")
        return items

    def read(self, split, items):  # noqa: ANN001, ANN201
        """Opens each file."""
        return super().read(split, [item._replace(position=item.position[1]) for item in items])


def _class_name(item: Item) -> str:
    return item.position[0]
