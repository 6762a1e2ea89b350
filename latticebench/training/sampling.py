"""Which sample comes when, and how it is cropped: functions of the root seed and the sample's place in the run.

Nothing here depends on workers, devices or batch boundaries, so a resumed or distributed run sees the same data.
"""

import functools

import numpy as np
import torch
from torch import Tensor

from latticebench import seeding
from latticebench.data.decoded import Decoded
from latticebench.training import distributed


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return torch.randperm(size, generator=seeding.generator(seed, "order", epoch)).numpy()


def sample_indices(seed: int, start: int, count: int, size: int) -> list[int]:
    """Dataset indices of the samples `start` … `start + count − 1` of a run over shuffled epochs of `size`."""
    places = range(start, start + count)
    return [int(_permutation(seed, place // size, size)[place % size]) for place in places]


AHEAD = 2
"""Batches that are decoded in the background while one is trained on, where images are files."""


def cropped(images: np.ndarray | Decoded, seed: int, start: int, count: int, side: int, flips: bool) -> Tensor:
    """A training batch: random crops of `side` pixels and horizontal flips of the run's next samples.

    images: (N, H, W, 3) uint8, H and W at least `side`. Returns (count, 3, side, side) float32 in [0, 1].
    """
    height, width = images.shape[1:3]
    batch = np.empty((count, side, side, 3), dtype=np.uint8)
    if isinstance(images, Decoded):
        # The processes of a distributed run take turns, so this one's next batch comes after all of theirs.
        starts = [start + turn * distributed.size() * count for turn in range(1 + AHEAD)]
        images.prefetch([index for first in starts for index in sample_indices(seed, first, count, len(images))])
    for row, index in enumerate(sample_indices(seed, start, count, len(images))):
        draw = seeding.derive(seed, "crop", start + row)
        draw, top = divmod(draw, height - side + 1)
        draw, left = divmod(draw, width - side + 1)
        crop = images[index, top : top + side, left : left + side]
        batch[row] = crop[:, ::-1] if flips and draw % 2 else crop
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(255)
