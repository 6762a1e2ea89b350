"""The last word on ties: exact scores in fixed point, for the few rows that a search is not sure of.

A row z, scaled to a largest magnitude below 1, is split into multiples of 2^-40 (`coarse`) and of
2^-85 (`fine`). Scores are sums of at most 24 products with small integers, so float64 holds the
coarse ones exactly, and the difference to the best with its fine part exactly as well: equal scores
are found equal, whatever the order of the additions. Below 2^-85 of the largest coordinate nothing counts.
"""

import functools

import torch
from torch import Tensor

from latticebench.lattices import golay, leech

TILE = 16
"""Rows resolved at once: 196,560 float64 scores each."""

_COARSE, _FINE = 2.0**40, 2.0**85


def nearest(z: Tensor, codebook: str) -> Tensor:
    """z (N, 24), largest magnitude of a row in [0.5, 1) or 0 -> rows (N,) int64; equal scores: the lowest row."""
    tiles = [_nearest(tile.double(), codebook) for tile in z.split(TILE)]
    return torch.cat(tiles) if tiles else torch.zeros(0, dtype=torch.int64, device=z.device)


def _nearest(z: Tensor, codebook: str) -> Tensor:
    coarse = torch.round(z * _COARSE) / _COARSE
    fine = torch.round((z - coarse) * _FINE) / _FINE
    scores = all_scores(coarse, codebook)
    best = scores.amax(1, keepdim=True)
    # The fine part of a score is below 32 · 2^-41.
    row, candidate = (scores >= best - 2.0**-34).nonzero(as_tuple=True)
    vectors = leech.coordinates(candidate, codebook).double()
    score = (scores[row, candidate] - best[row, 0]) + (vectors * fine[row]).sum(1)
    top = torch.full((len(z),), -torch.inf, dtype=z.dtype, device=z.device)
    top.scatter_reduce_(0, row, score, "amax")
    tied = score == top[row]
    lowest = torch.full((len(z),), leech.SIZE, dtype=torch.int64, device=z.device)
    return lowest.scatter_reduce_(0, row[tied], candidate[tied], "amin")


def all_scores(z: Tensor, codebook: str) -> Tensor:
    """z (N, 24) -> its inner products with all code vectors before scaling (N, 196560), by class."""
    tables = _tables(codebook, z.device, z.dtype)
    class2 = torch.matmul(tables["patterns"], z[:, tables["octads"]].transpose(1, 2))  # (N, 128, 759)
    signs = tables["signs"]  # (24, 4096)
    class3 = (z @ signs)[:, None] - 4 * z[:, :, None] * signs
    class4 = torch.matmul(z[:, tables["pairs"]], tables["pair_patterns"])
    return torch.cat([class2.flatten(1), class3.flatten(1), class4.flatten(1)], 1)


@functools.lru_cache(maxsize=8)
def _tables(codebook: str, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    code2, code3 = leech.codes(codebook)
    seven = golay.bits(range(128), 7).astype("int64")
    patterns = torch.from_numpy(seven)
    patterns = 4 * torch.cat([patterns, patterns.sum(1, keepdim=True) & 1], 1) - 2
    tables = {
        "patterns": patterns.to(dtype),
        "octads": torch.from_numpy(golay.octads(code2)),
        "signs": 2 * torch.from_numpy(code3.T.copy()).to(dtype) - 1,
        "pairs": torch.combinations(torch.arange(24)),
        "pair_patterns": torch.tensor([[-4, -4, 4, 4], [-4, 4, -4, 4]], dtype=dtype),
    }
    return {name: table.to(device) for name, table in tables.items()}
