"""The last word on ties: exact scores in fixed point, for the few rows that a search is not sure of.

A row z, scaled to a largest magnitude below 1, is split into multiples of 2^-40 (`coarse`) and of
2^-85 (`fine`). Scores are sums of at most 24 products with small integers, so float64 holds the
coarse ones exactly, and the difference to the best with its fine part exactly as well: equal scores
are found equal, whatever the order of the additions. Below 2^-85 of the largest coordinate nothing counts.

The score of the row that the search found bounds the best from below. Only octads, codewords and
pairs whose largest possible score reaches it are taken apart into code vectors.
"""

import functools

import torch
from torch import Tensor

from latticebench.lattices import golay, leech

TILE = 32
"""Rows resolved at once: 4,096 float64 sums each, and where all codewords are in question 24 times as many."""

_COARSE, _FINE = 2.0**40, 2.0**85
_MARGIN = 2.0**-34
"""More than two fine parts of a score, each below 32 · 2^-41."""


def nearest(z: Tensor, found: Tensor, codebook: str) -> Tensor:
    """z (N, 24), largest magnitude of a row in [0.5, 1); found (N,): rows with a score near the best.

    Returns the rows (N,) int64 of the best score; equal scores: the lowest row. Any `found` is
    correct, one near the best is fast.
    """
    tiles = zip(z.split(TILE), found.split(TILE), strict=True)
    settled = [_nearest(tile.double(), rows, codebook) for tile, rows in tiles]
    return torch.cat(settled) if settled else torch.zeros_like(found)


def _nearest(z: Tensor, found: Tensor, codebook: str) -> Tensor:
    coarse = torch.round(z * _COARSE) / _COARSE
    fine = torch.round((z - coarse) * _FINE) / _FINE
    points = leech.table(codebook, z.device)
    floor = (points[found] * coarse).sum(1) - _MARGIN
    tables = _tables(codebook, z.device)
    classes = (_class2(coarse, floor, tables), _class3(coarse, floor, tables), _class4(coarse, floor, tables))
    row, candidate, score = (torch.cat(parts) for parts in zip(*classes, strict=True))
    best = torch.full_like(floor, -torch.inf).scatter_reduce_(0, row, score, "amax")
    score = (score - best[row]) + (points[candidate] * fine[row]).sum(1)
    top = torch.full_like(floor, -torch.inf).scatter_reduce_(0, row, score, "amax")
    tied = score == top[row]
    lowest = torch.full((len(z),), leech.SIZE, dtype=torch.int64, device=z.device)
    return lowest.scatter_reduce_(0, row[tied], candidate[tied], "amin")


def _class2(z: Tensor, floor: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors of class 2 that reach the floor: which row of z, row of the codebook, score."""
    row, octad = (2 * (z.abs() @ tables["on_octads"]) >= floor[:, None]).nonzero(as_tuple=True)
    scores = z[row[:, None], tables["octads"][octad]] @ tables["patterns"]  # (M, 128)
    which, pattern = (scores >= floor[row, None]).nonzero(as_tuple=True)
    return row[which], 759 * pattern + octad[which], scores[which, pattern]


def _class3(z: Tensor, floor: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The same for class 3."""
    sums = z @ tables["signs"]  # (N, 4096)
    row, word = (sums + 4 * z.abs().amax(1, keepdim=True) >= floor[:, None]).nonzero(as_tuple=True)
    scores = sums[row, word, None] - 4 * z[row] * tables["signs"].t()[word]  # (M, 24)
    which, position = (scores >= floor[row, None]).nonzero(as_tuple=True)
    return row[which], leech.CLASSES["class3"].start + 4096 * position + word[which], scores[which, position]


def _class4(z: Tensor, floor: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The same for class 4."""
    scores = (z[:, tables["pairs"]] @ tables["pair_patterns"]).flatten(1)  # (N, 1104)
    row, place = (scores >= floor[:, None]).nonzero(as_tuple=True)
    return row, leech.CLASSES["class4"].start + place, scores[row, place]


@functools.lru_cache(maxsize=8)
def _tables(codebook: str, device: torch.device) -> dict[str, Tensor]:
    code2, code3 = leech.codes(codebook)
    seven = torch.from_numpy(golay.bits(range(128), 7).astype("int64"))
    patterns = 4 * torch.cat([seven, seven.sum(1, keepdim=True) & 1], 1) - 2
    octads = torch.from_numpy(golay.octads(code2))
    tables = {
        "patterns": patterns.t().double().contiguous(),
        "octads": octads,
        "on_octads": torch.zeros(24, len(octads), dtype=torch.float64).scatter_(0, octads.t(), 1),
        "signs": 2 * torch.from_numpy(code3.T.copy()).double() - 1,
        "pairs": torch.combinations(torch.arange(24)),
        "pair_patterns": torch.tensor([[-4, -4, 4, 4], [-4, 4, -4, 4]], dtype=torch.float64),
    }
    return {name: table.to(device) for name, table in tables.items()}
