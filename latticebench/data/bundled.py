"""bundled-photographs: ten scenes that lie inside scikit-image and scikit-learn, cropped and split by whole scene."""

import functools
import importlib.util
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from latticebench.data.pictures import to_rgb
from latticebench.data.sources import Item, Opener, share
from latticebench.errors import BadInput, Missing
from latticebench.files import sha256

log = logging.getLogger(__name__)


class Scene(NamedTuple):
    """A scene: its files (package, path, sha256 of the release that was tried), author, licence and home."""

    files: tuple[tuple[str, str, str], ...]
    author: str
    licence: str
    url: str


def _skimage(file: str, digest: str) -> tuple[str, str, str]:
    return ("skimage", f"data/{file}", digest)


def _sklearn(file: str, digest: str) -> tuple[str, str, str]:
    return ("sklearn", f"datasets/images/{file}", digest)


SCENES = {
    "astronaut": Scene(
        (_skimage("astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),),
        "NASA",
        "public domain",
        "https://flic.kr/p/r9qvLn",
    ),
    "chelsea": Scene(
        (_skimage("chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),),
        "Stefan van der Walt",
        "CC0 1.0",
        "https://scikit-image.org/docs/stable/api/skimage.data.html",
    ),
    "china": Scene(
        (_sklearn("china.jpg", "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29"),),
        "Daniel Buechele",
        "CC BY 2.0",
        "https://www.flickr.com/photos/danielbuechele/6061409035/sizes/z/in/photostream/",
    ),
    "coffee": Scene(
        (_skimage("coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),),
        "Rachel Michetti",
        "CC0 1.0",
        "https://scikit-image.org/docs/stable/api/skimage.data.html",
    ),
    "flower": Scene(
        (_sklearn("flower.jpg", "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638"),),
        "vultilion",
        "CC BY 2.0",
        "https://www.flickr.com/photos/vultilion/6056698931/sizes/z/in/photostream/",
    ),
    "hubble": Scene(
        (_skimage("hubble_deep_field.jpg", "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4"),),
        "NASA",
        "public domain",
        "http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/",
    ),
    "ihc": Scene(
        (_skimage("ihc.png", "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef"),),
        "Center for Microscopy and Molecular Imaging",
        "no known copyright restrictions",
        "https://scikit-image.org/docs/stable/api/skimage.data.html",
    ),
    "motorcycle": Scene(
        (
            _skimage("motorcycle_left.png", "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179"),
            _skimage("motorcycle_right.png", "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797"),
        ),
        "Scharstein et al., Middlebury stereo 2014",
        "as scikit-image distributes it",
        "https://vision.middlebury.edu/stereo/data/scenes2014/",
    ),
    "retina": Scene(
        (_skimage("retina.jpg", "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6"),),
        "Mikael Häggström",
        "CC0 1.0",
        "https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg",
    ),
    "rocket": Scene(
        (_skimage("rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),),
        "SpaceX",
        "public domain",
        "https://www.flickr.com/photos/spacexphotos/16511594820/in/photostream/",
    ),
}
"""The ten scenes in the order of their ids (the groups of the prepared splits)."""

_DISTRIBUTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
_LUMINANCE = np.array([0.299, 0.587, 0.114])


class Bundled:
    """Crops of the scenes: training tiles on a grid of `stride`, evaluation crops side by side.

    A crop whose luminance (Rec. 601, 0..255) has a standard deviation below `min_std` is left out as near-constant;
    of a training scene at most `scene_images` tiles are taken, drawn by the hash of their place, so that the two
    largest scenes do not outweigh the others. Both images of the motorcycle pair are one scene.
    """

    classes = None

    def __init__(self, options: dict[str, Any], size: int, train_size: int, seed: int) -> None:
        unknown = sorted(set(options["eval_scenes"]) - set(SCENES))
        if unknown:
            raise BadInput(f"data.bundled.eval_scenes: unknown scene {unknown[0]!r}; there are {', '.join(SCENES)}")
        if set(options["eval_scenes"]) == set(SCENES):
            raise BadInput("data.bundled.eval_scenes: no scene is left for training")
        self.options = options
        self.sides = {"train": train_size, "eval": size}
        self.seed = seed
        self.counts: dict[str, dict[str, int]] = {}

    def items(self, split: str) -> list[Item]:
        """Crops in the order of scene, file and place; position is (file, box), group the scene's id."""
        side = self.sides[split]
        stride = self.options["stride"] if split == "train" else side
        result: list[Item] = []
        for group, (name, scene) in enumerate(SCENES.items()):
            if (name in self.options["eval_scenes"]) != (split == "eval"):
                continue
            kept, constant = [], 0
            for number, file in enumerate(scene.files):
                pixels = _pixels(file)
                height, width = pixels.shape[:2]
                luminance = pixels @ _LUMINANCE
                for y, x in itertools.product(range(0, height - side + 1, stride), range(0, width - side + 1, stride)):
                    if luminance[y : y + side, x : x + side].std() < self.options["min_std"]:
                        constant += 1
                        continue
                    key = f"{name}/{number}/{y},{x}"
                    kept.append(Item(key, (file, (x, y, x + side, y + side)), None, group))
            found = len(kept)
            limit = self.options["scene_images"] if split == "train" else None
            if limit is not None and found > limit:
                chosen = sorted(range(found), key=lambda i: (share(self.seed, "scene", kept[i].key), i))[:limit]
                kept = [kept[i] for i in sorted(chosen)]
            self.counts[name] = {"crops": len(kept), "near_constant": constant, "above_scene_images": found - len(kept)}
            result += kept
        return result

    def read(self, split: str, items: Sequence[Item]) -> Iterator[Opener]:
        """One crop each, from the decoded scene."""
        for item in items:
            file, box = item.position
            yield functools.partial(_crop, file, box)

    def provenance(self) -> dict[str, Any]:
        """Each scene's split, files with their hashes, author, licence and home."""
        return {
            "description": "ten scenes inside scikit-image and scikit-learn, cropped; whole scenes are held out",
            "scenes": {
                name: {
                    "group": group,
                    "split": "eval" if name in self.options["eval_scenes"] else "train",
                    "files": {Path(path).name: sha256(_path(package, path)) for package, path, _ in scene.files},
                    "author": scene.author,
                    "licence": scene.licence,
                    "url": scene.url,
                }
                for group, (name, scene) in enumerate(SCENES.items())
            },
        }

    def excluded(self) -> dict[str, Any]:
        """The rule for near-constant crops and the cap per scene, with counts a scene."""
        return {
            "rule": f"luminance (Rec. 601) standard deviation below {self.options['min_std']:g} of 255",
            "cap": f"at most {self.options['scene_images']} training tiles a scene",
            "scenes": self.counts,
        }


def scene_pixels(name: str) -> list[np.ndarray]:
    """The whole images (H, W, 3) uint8 of a scene. Raises Missing where its package is not installed."""
    return [_pixels(file) for file in SCENES[name].files]


def _path(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    file = Path(folders[0], path) if folders else None
    if file is None or not file.is_file():
        name = _DISTRIBUTIONS[package]
        raise Missing(f"{path} of {name} is not installed; run `pip install {name}`")
    return file


@functools.lru_cache(maxsize=4)
def _pixels(file: tuple[str, str, str]) -> np.ndarray:
    package, relative, digest = file
    path = _path(package, relative)
    if sha256(path) != digest:
        log.warning("%s differs from the release that was tried: numbers on it are not comparable", path.name)
    with Image.open(path) as image:
        return np.asarray(to_rgb(image))


def _crop(file: tuple[str, str, str], box: tuple[int, int, int, int]) -> Image.Image:
    left, top, right, bottom = box
    return Image.fromarray(_pixels(file)[top:bottom, left:right])
