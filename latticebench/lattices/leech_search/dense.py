"""The readable reference: all inner products, tile by tile."""

import functools

import torch
from torch import Tensor

from latticebench.lattices import leech

TILE = 512
"""Input vectors a tile."""
BLOCK = 8192
"""Code vectors a block."""


def nearest(z: Tensor, codebook: str) -> Tensor:
    """z (N, 24) float32 or float64 -> rows (N,) int64; exact ties go to the lowest row."""
    table = _table(codebook, z.device, z.dtype)
    result = torch.empty(len(z), dtype=torch.int64, device=z.device)
    for start in range(0, len(z), TILE):
        tile = z[start : start + TILE]
        best = torch.full((len(tile),), -torch.inf, dtype=z.dtype, device=z.device)
        rows = torch.zeros(len(tile), dtype=torch.int64, device=z.device)
        for block in range(0, leech.SIZE, BLOCK):
            score, row = (tile @ table[block : block + BLOCK].t()).max(1)
            better = score > best
            best = torch.where(better, score, best)
            rows = torch.where(better, row + block, rows)
        result[start : start + TILE] = rows
    return result


@functools.lru_cache(maxsize=4)
def _table(codebook: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(leech._integers(codebook).copy()).to(device, dtype)
