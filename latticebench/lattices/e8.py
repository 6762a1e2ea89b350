"""The first shell of E8, the densest lattice in eight dimensions (Conway and Sloane, chapter 4, section 8.1)."""

import itertools

import torch
from torch import Tensor

SIZE = 240
_PAIRS = tuple(itertools.combinations(range(8), 2))


def shell() -> Tensor:
    """The 240 minimal vectors at unit length: (240, 8) float32, 112 of shape (±1², 0⁶)/√2, then 128 of (±½⁸)/√2.

    The first kind by the pair of places in lexicographic order, then by signs; the second, which has an even
    number of minus signs, by signs. − comes before +, the last place changes fastest.
    """
    rows = []
    for pair in _PAIRS:
        for signs in itertools.product((-1.0, 1.0), repeat=2):
            row = [0.0] * 8
            for place, sign in zip(pair, signs, strict=True):
                row[place] = sign
            rows.append(row)
    rows += [list(signs) for signs in itertools.product((-0.5, 0.5), repeat=8) if signs.count(-0.5) % 2 == 0]
    return (torch.tensor(rows, dtype=torch.float64) / 2**0.5).float()


def nearest(z: Tensor) -> Tensor:
    """z (..., 8) -> the row of `shell()` with the largest inner product (...) int64; exact up to rounding.

    Of the first kind the best has the two largest magnitudes with their signs, and scores their sum. Of the
    second the best has all signs, but with an odd number of minus signs the smallest magnitude's turned, and
    scores half the sum of all magnitudes, less the smallest if turned. Equal scores: the first kind.
    """
    size = z.abs()
    first = size.argmax(dim=-1, keepdim=True)
    second = size.scatter(-1, first, -1.0).argmax(dim=-1, keepdim=True)
    ends = torch.cat([torch.minimum(first, second), torch.maximum(first, second)], dim=-1)
    plus = (z > 0).long()
    low, high = ends.unbind(-1)
    # Pairs before (low, high) in lexicographic order.
    pair = low * 7 - low * (low - 1) // 2 + high - low - 1
    of_pairs = pair * 4 + (plus.gather(-1, ends) * torch.tensor([2, 1], device=z.device)).sum(dim=-1)

    odd = plus.sum(dim=-1) % 2
    smallest, place = size.min(dim=-1)
    flipped = plus.scatter(-1, place.unsqueeze(-1), (plus.gather(-1, place.unsqueeze(-1)) + odd.unsqueeze(-1)) % 2)
    # Of two neighbouring sign patterns exactly one has an even number of minus signs, so half the pattern counts them.
    pattern = (flipped * 2 ** torch.arange(7, -1, -1, device=z.device)).sum(dim=-1)
    of_signs = 4 * len(_PAIRS) + pattern // 2

    score_pairs = size.gather(-1, ends).sum(dim=-1)
    score_signs = size.sum(dim=-1) / 2 - odd * smallest
    return torch.where(score_signs > score_pairs, of_signs, of_pairs)
