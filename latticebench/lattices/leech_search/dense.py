"""The readable reference: all inner products, tile by tile."""

import torch
from torch import Tensor

from latticebench.lattices import leech
from latticebench.lattices.leech_search.turyn import TRUSTED_GAP

TILE = 512
"""Input vectors a tile."""
BLOCK = 8192
"""Code vectors a block; 196,560 is 24 blocks."""


def nearest(z: Tensor, codebook: str) -> tuple[Tensor, Tensor]:
    """z (N, 24) float32 or float64 -> rows (N,) int64, and (N,) bool where the gap is too small to trust."""
    table = leech.table(codebook, z.device)
    rows = torch.empty(len(z), dtype=torch.int64, device=z.device)
    unsure = torch.empty(len(z), dtype=torch.bool, device=z.device)
    for start in range(0, len(z), TILE):
        tile = z[start : start + TILE]
        best = torch.full((len(tile), 2), -torch.inf, dtype=z.dtype, device=z.device)
        row = torch.zeros(len(tile), dtype=torch.int64, device=z.device)
        for block in range(0, leech.SIZE, BLOCK):
            scores = tile @ table[block : block + BLOCK].to(z.dtype).t()
            top, place = scores.topk(2, dim=1)
            row = torch.where(top[:, 0] > best[:, 0], place[:, 0] + block, row)
            best = torch.cat([best, top], 1).topk(2, dim=1).values
        rows[start : start + TILE] = row
        unsure[start : start + TILE] = ~(best[:, 0] - best[:, 1] > best[:, 0] * TRUSTED_GAP)
    return rows, unsure
