"""The first shell of E8, the densest lattice in eight dimensions (Conway and Sloane, chapter 4, section 8.1)."""

import itertools

import torch
from torch import Tensor


def shell() -> Tensor:
    """The 240 minimal vectors at unit length: (240, 8) float32, 112 of shape (±1², 0⁶)/√2, then 128 of (±½⁸)/√2."""
    rows = []
    for pair in itertools.combinations(range(8), 2):
        for signs in itertools.product((-1.0, 1.0), repeat=2):
            row = [0.0] * 8
            for place, sign in zip(pair, signs, strict=True):
                row[place] = sign
            rows.append(row)
    rows += [list(signs) for signs in itertools.product((-0.5, 0.5), repeat=8) if signs.count(-0.5) % 2 == 0]
    return (torch.tensor(rows, dtype=torch.float64) / 2**0.5).float()
