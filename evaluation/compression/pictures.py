"""Images to tokens and back, through a tokenizer's folder; torch is imported here."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from evaluation import pixels
from evaluation.compression import format, layout
from evaluation.compression.codec import Coded
from latticebench import tokenizers


class PictureCoder:
    """A tokenizer with the layout of its token files.

    Raises what `layout.of_folder` and `tokenizers.load` raise.
    """

    def __init__(self, folder: str | Path, device: str = "cpu", batch_size: int = 64) -> None:
        self.layout = layout.of_folder(folder)
        self.tokenizer = tokenizers.load(folder).to(device)
        self.device, self.batch_size = device, batch_size

    def encode(self, images: Sequence[np.ndarray]) -> list[Coded]:
        """uint8 images (H, W, 3) of any sizes -> their tokens. Raises BadInput where one is too large for the format."""
        for image in images:
            format.check_size(*image.shape[:2])
        cuts = [layout.cut(image, self.layout.tile) for image in images]
        tokens = self.tokens(np.concatenate(cuts))
        parts = np.split(tokens, np.cumsum([len(tiles) for tiles in cuts])[:-1])
        return [Coded(part, *image.shape[:2]) for part, image in zip(parts, images, strict=True)]

    @torch.inference_mode()
    def tokens(self, tiles: np.ndarray) -> np.ndarray:
        """uint8 tiles (N, tile, tile, 3) -> (N, positions) int64, scales after one another."""
        result = []
        for start in range(0, len(tiles), self.batch_size):
            maps = self.tokenizer.encode(pixels.to_float(tiles[start : start + self.batch_size]).to(self.device))
            result.append(torch.cat([index.flatten(1) for index in maps], dim=1).cpu().numpy())
        return np.concatenate(result)

    def decode(self, coded: Sequence[Coded]) -> list[np.ndarray]:
        """Tokens -> uint8 images (H, W, 3)."""
        tiles = self._tiles(np.concatenate([image.tokens for image in coded]))
        parts = np.split(tiles, np.cumsum([len(image.tokens) for image in coded])[:-1])
        return [layout.paste(part, image.height, image.width) for part, image in zip(parts, coded, strict=True)]

    @torch.inference_mode()
    def _tiles(self, tokens: np.ndarray) -> np.ndarray:
        grids = self.layout.grids
        ends = np.cumsum([height * width for height, width in grids])
        result = []
        for start in range(0, len(tokens), self.batch_size):
            parts = np.split(tokens[start : start + self.batch_size], ends[:-1], axis=1)
            maps = [
                torch.from_numpy(part.reshape(-1, *grid)).to(self.device)
                for part, grid in zip(parts, grids, strict=True)
            ]
            result.append(pixels.to_uint8(self.tokenizer.decode(maps)))
        return np.concatenate(result)
