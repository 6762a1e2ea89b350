"""Parameter checks and loss terms that several methods share."""

from typing import Any

import torch
from torch import Tensor

from latticebench.errors import BadInput


def require(condition: bool, method: str, key: str, value: Any, allowed: str) -> None:
    """Raises BadInput naming the method, the parameter, its value and what is allowed, unless the condition holds."""
    if not condition:
        raise BadInput(f"{method}: {key} must be {allowed}, got {value!r}")


def require_codebook(method: str, dim: int, codebook_size: int, tile_mb: float) -> None:
    """Checks the three parameters that every point set has."""
    require(dim >= 1, method, "dim", dim, "at least 1")
    require(2 <= codebook_size <= 2**24, method, "codebook_size", codebook_size, "from 2 to 2^24")
    require(tile_mb > 0, method, "tile_mb", tile_mb, "above 0")


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """Mean over all elements of (a − b)²; zero for empty input, where the mean would be NaN."""
    return (a - b).square().sum() / max(a.numel(), 1)


def zero_loss(z: Tensor) -> Tensor:
    """The loss of a method that has no terms of its own."""
    return torch.zeros((), dtype=z.dtype, device=z.device)
