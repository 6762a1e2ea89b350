"""How an image of any size becomes tokens: tiles of the tokenizer's size, and their order in the file."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np

from evaluation.compression.digits import MAX_CODEBOOK
from latticebench.errors import BadInput, Missing
from latticebench.files import sha256

GROUP = 64
"""Tiles that are coded together. It bounds what a network prior holds at once, and is part of the format."""


class NoCodes(BadInput):
    """A tokenizer whose tokens cannot be files; the text is the reason of its empty cells."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a tokenizer makes of one tile.

    tokenizer: its fingerprint (64 hex digits). codebook_size: K. tile: side in pixels. grids: height and width
    of each index map, one a scale.
    """

    tokenizer: str
    codebook_size: int
    tile: int
    grids: tuple[tuple[int, int], ...]

    @property
    def tokens_per_tile(self) -> int:
        return sum(height * width for height, width in self.grids)

    def tiles(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of tiles that cover an image."""
        return -(-height // self.tile), -(-width // self.tile)

    def token_count(self, height: int, width: int) -> int:
        """Tokens of an image's file."""
        rows, columns = self.tiles(height, width)
        return rows * columns * self.tokens_per_tile


def of_folder(folder: str | Path) -> Layout:
    """The layout of a tokenizer's folder, read without building the tokenizer: its description and its weights' hash.

    The fingerprint covers the weights and the quantizer's own fingerprint. Raises Missing where the folder is no
    finished tokenizer, BadInput where it is damaged, NoCodes where it has no codes or more than 2^62.
    """
    folder = Path(folder)
    description, weights = folder / "tokenizer.json", folder / "model.safetensors"
    if not description.is_file() or not weights.is_file():
        raise Missing(f"{folder} is not a finished tokenizer (tokenizer.json and model.safetensors)")
    try:
        facts = json.loads(description.read_text())
        size, scales, codebook_size = int(facts["image_size"]), facts["scales"], int(facts["codebook_size"])
        own, stated = str(facts["fingerprint"]), facts["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{description} is damaged or older than the codec ({error!r}); train again") from error
    if sha256(weights) != stated:
        raise BadInput(f"{weights} is not the file that {description} describes; train again")
    if codebook_size < 1:
        raise NoCodes("a tokenizer without codes has no tokens to code")
    if codebook_size > MAX_CODEBOOK:
        raise NoCodes(f"{codebook_size} codes are more than the 2^62 that a token file holds")
    fingerprint = hashlib.sha256(f"{own}/{stated}".encode()).hexdigest()
    return Layout(fingerprint, codebook_size, size, tuple((side, side) for side in scales))


def cut(image: np.ndarray, tile: int) -> np.ndarray:
    """uint8 (H, W, 3) -> (N, tile, tile, 3), row by row; the last row and column repeat the image's edge."""
    height, width = image.shape[:2]
    rows, columns = -(-height // tile), -(-width // tile)
    padded = np.pad(image, ((0, rows * tile - height), (0, columns * tile - width), (0, 0)), mode="edge")
    blocks = padded.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2)
    return blocks.reshape(rows * columns, tile, tile, 3)


def paste(tiles: np.ndarray, height: int, width: int) -> np.ndarray:
    """The inverse of `cut`: (N, tile, tile, 3) -> (H, W, 3), what was padded cut off."""
    tile = tiles.shape[1]
    rows, columns = -(-height // tile), -(-width // tile)
    whole = tiles.reshape(rows, columns, tile, tile, 3).swapaxes(1, 2).reshape(rows * tile, columns * tile, 3)
    return whole[:height, :width]


def groups(tiles: int) -> list[slice]:
    """The tiles that are coded together, in file order."""
    return [slice(start, min(start + GROUP, tiles)) for start in range(0, tiles, GROUP)]


def coding_order(tokens: np.ndarray) -> np.ndarray:
    """tokens (tiles, positions) -> (tokens,): group by group, position by position, tile by tile.

    Position by position, so that a network prior works on all tiles of a group at once when it decodes.
    """
    return np.concatenate([tokens[part].T.reshape(-1) for part in groups(len(tokens))])


def from_coding_order(flat: np.ndarray, tiles: int, positions: int) -> np.ndarray:
    """The inverse of `coding_order`."""
    result = np.empty((tiles, positions), flat.dtype)
    for part in groups(tiles):
        result[part] = flat[part.start * positions : part.stop * positions].reshape(positions, -1).T
    return result


def check_tokens(tokens: np.ndarray, codebook_size: int) -> None:
    """Raises BadInput unless tokens are (tiles, positions) int64 in [0, K)."""
    if tokens.dtype != np.int64 or tokens.ndim != 2:
        raise BadInput(f"tokens must be int64 (tiles, positions), got {tokens.dtype} {tokens.shape}")
    if tokens.size and (tokens.min() < 0 or tokens.max() >= codebook_size):
        raise BadInput(f"a token lies outside the codebook of {codebook_size} codes")
