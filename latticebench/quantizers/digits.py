"""Mixed-radix indices in int64: floats lose codes from 25 bits on."""

import torch
from torch import Tensor


def place_values(sizes: tuple[int, ...], first_least: bool) -> tuple[int, ...]:
    """What one unit of each digit is worth; exact Python ints."""
    order = sizes if first_least else sizes[::-1]
    values, value = [], 1
    for size in order:
        values.append(value)
        value *= size
    return tuple(values if first_least else values[::-1])


def join(digits: Tensor, places: tuple[int, ...]) -> Tensor:
    """digits (..., n) -> indices (...) int64."""
    return (digits.long() * torch.tensor(places, device=digits.device)).sum(dim=-1)


def split(indices: Tensor, sizes: tuple[int, ...], places: tuple[int, ...]) -> Tensor:
    """indices (...) int64 -> digits (..., n) int64."""
    quotients = indices.unsqueeze(-1) // torch.tensor(places, device=indices.device)
    return quotients % torch.tensor(sizes, device=indices.device)
