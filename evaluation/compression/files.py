"""Reading and writing for the two commands."""

from pathlib import Path

import numpy as np

from latticebench.errors import BadInput, Missing
from latticebench.files import whole


def check_target(path: Path, force: bool) -> None:
    """Raises BadInput where something would be overwritten, or the folder is not there."""
    if path.exists() and (not force or path.is_dir()):
        raise BadInput(f"{path} exists; give another name, or --force to overwrite a file")
    if not path.absolute().parent.is_dir():
        raise BadInput(f"the folder {path.parent} does not exist")


def read_bytes(path: Path) -> bytes:
    """A file's bytes. Raises Missing where there is none."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Missing(f"{path} cannot be read: {error.strerror}") from error


def read_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3), by the rules of latticebench.data.pictures. Raises Missing, or BadInput on what is no image."""
    from PIL import Image, UnidentifiedImageError

    from latticebench.data import pictures

    if not path.is_file():
        raise Missing(f"{path} does not exist")
    try:
        with Image.open(path) as image:
            return np.asarray(pictures.to_rgb(image))
    except (UnidentifiedImageError, pictures.Unusable, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise BadInput(f"{path} cannot be read as an image: {error}") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_bytes(data)


def write_png(path: Path, image: np.ndarray) -> None:
    """Writes uint8 (H, W, 3) as PNG, whatever the name's ending, whole or not at all."""
    from PIL import Image

    with whole(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")
