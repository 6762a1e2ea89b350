"""The `compression` section of a configuration, and the folder of images that it may name."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.compression import files
from evaluation.compression.fit import Recipe
from latticebench import configuration
from latticebench.configuration import Configuration
from latticebench.errors import BadInput, Missing

SUFFIXES = {".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg"}


@dataclasses.dataclass(frozen=True)
class Options:
    """images: folder to code instead of the evaluation split. network: entries with a network prior. codecs: names.

    prior_images: training images that the priors are fitted to, None: all.
    """

    images: Path | None
    network: tuple[str, ...]
    codecs: tuple[str, ...]
    prior_images: int | None
    recipe: Recipe


def of(config: Configuration) -> Options:
    """The section of a configuration. Raises BadInput where it names a quantizer that the file lacks."""
    values = config.values["compression"]
    unknown = sorted(set(values["network"]) - {subject.name for subject in config.subjects()})
    if unknown:
        raise BadInput(f"{config.path}: compression.network: there is no quantizer entry {unknown[0]!r}")
    folder = values["images"]
    return Options(
        images=None if folder is None else config.path.parent / folder,
        network=tuple(values["network"]),
        codecs=tuple(values["codecs"]),
        prior_images=values["prior_images"],
        recipe=Recipe(**values["prior"]),
    )


def recipe(config_file: Path | None) -> Recipe:
    """The network prior's recipe of a configuration, or the schema's defaults."""
    if config_file is not None:
        return of(configuration.load(config_file)).recipe
    section = configuration.schema()["properties"]["compression"]["properties"]["prior"]
    return Recipe(**_defaults(section))


def _defaults(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _defaults(part) if part.get("type") == "object" else part["default"]
        for key, part in schema["properties"].items()
    }


def read_images(folder: Path) -> list[tuple[str, np.ndarray]]:
    """Names and pixels (H, W, 3) uint8 of a folder's images, in name order. Raises Missing and BadInput."""
    if not folder.is_dir():
        raise Missing(f"the folder of images {folder} does not exist")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise BadInput(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    return [(path.relative_to(folder).as_posix(), files.read_image(path)) for path in paths]


def content_hash(images: Sequence[tuple[str, np.ndarray]]) -> str:
    """sha256 over names, sizes and pixels."""
    import hashlib

    digest = hashlib.sha256()
    for name, image in images:
        digest.update(f"{name}:{image.shape}".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()
