"""Shells of the integer lattice Z^d at unit length: the cross-polytope, the hypercube and what lies between."""

import math

import torch
from torch import Tensor


def shell(d: int, squared_norm: int) -> Tensor:
    """All integer vectors of one squared norm, at unit length: (K, d) float32 in lexicographic order.

    squared_norm 1 is the cross-polytope ±e_i. Raises ValueError where the shell is empty or d < 1.
    """
    if d < 1 or squared_norm < 1:
        raise ValueError(f"d and squared_norm must be at least 1, got d={d}, squared_norm={squared_norm}")
    rows = list(_vectors(d, squared_norm))
    if not rows:
        raise ValueError(f"Z^{d} has no vector of squared norm {squared_norm}")
    return (torch.tensor(rows, dtype=torch.float64) / math.sqrt(squared_norm)).float()


def hypercube(d: int) -> Tensor:
    """The 2^d corners ±1/√d: (2^d, d) float32, coordinate 0 the most significant bit of the row, minus first."""
    if not 1 <= d <= 20:
        raise ValueError(f"a table of corners needs 1 <= d <= 20, got {d}")
    bits = torch.arange(2**d)[:, None] >> torch.arange(d - 1, -1, -1) & 1
    return (2 * bits - 1).float() / math.sqrt(d)


def _vectors(d: int, rest: int):
    if d == 0:
        if rest == 0:
            yield ()
        return
    limit = math.isqrt(rest)
    for first in range(-limit, limit + 1):
        for tail in _vectors(d - 1, rest - first * first):
            yield (first, *tail)
