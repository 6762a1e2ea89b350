"""Binary codes: one sign a coordinate. The base of lfq and bsq, and the entropies that both train with."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from latticebench.quantizers import digits
from latticebench.quantizers.base import MAX_INDEX_SIZE, Quantizer, full_precision
from latticebench.quantizers.search import check_finite, tile_rows

PROBABILITY_FLOOR = 1e-8
"""Added inside the logarithm of every entropy, as in the code of BSQ's authors."""


class Binary(Quantizer):
    """Code vectors ±scale in every coordinate; bit 1 where z > 0, so ties go to the lower index.

    Index: coordinate 0 is the most significant bit unless a method says otherwise. Digits: one bit a coordinate,
    of any dimension.
    """

    scale: float

    def _set_up(self, dim: int, scale: float, first_least: bool = False) -> None:
        self.dim = dim
        self.codebook_size = 2**dim
        # The float32 value, so that float64 and float32 code vectors are equal.
        self.scale = torch.tensor(scale).item()
        self._places = digits.place_values((2,) * dim, first_least)

    @property
    def delta_min(self) -> float:
        """The smallest distance between two code vectors: one sign differs."""
        return 2 * self.scale

    @property
    def digit_sizes(self) -> tuple[int, ...]:
        """One bit a coordinate."""
        return (2,) * self.dim

    def encode(self, z: Tensor) -> Tensor:
        self.check_indexable()
        return digits.join(self.encode_digits(z), self._places)

    def decode(self, indices: Tensor) -> Tensor:
        return self.decode_digits(self.to_digits(indices))

    def to_digits(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return digits.split(indices, self.digit_sizes, self._places)

    def from_digits(self, digits_: Tensor) -> Tensor:
        self.check_digits(digits_)
        self.check_indexable()
        return digits.join(digits_, self._places)

    def encode_digits(self, z: Tensor) -> Tensor:
        self.check_input(z)
        check_finite(self.name, z)
        with torch.no_grad(), full_precision(z) as z:
            return (z > 0).long()

    def decode_digits(self, digits_: Tensor) -> Tensor:
        self.check_digits(digits_)
        return self._signs(digits_ > 0, torch.float32) * self.scale

    def definition(self) -> dict[str, int]:
        return {"dim": self.dim}

    def _signs(self, positive: Tensor, dtype: torch.dtype) -> Tensor:
        return positive.to(dtype) * 2 - 1

    def _hard(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """z (..., d) -> code vectors (..., d) without gradient, and indices where they fit int64."""
        positive = z.detach() > 0
        indices = digits.join(positive, self._places) if self.codebook_size <= MAX_INDEX_SIZE else None
        return self._signs(positive, z.dtype) * self.scale, indices


def entropy(p: Tensor) -> Tensor:
    """p (..., n) -> −Σ p log(p + 1e-8) (...), in nats."""
    return -(p * torch.log(p + PROBABILITY_FLOOR)).sum(dim=-1)


def bit_probabilities(logits: Tensor) -> Tensor:
    """logits (..., d) of a positive sign -> probabilities (..., d, 2) of the negative and the positive sign."""
    p = torch.sigmoid(logits)
    return torch.stack([torch.sigmoid(-logits), p], dim=-1)


def group_probabilities(logits: Tensor) -> Tensor:
    """Softmax over the sign vectors of a group, as the product of its bits.

    logits (..., g) of a positive sign in each coordinate -> probabilities (..., 2^g), the first coordinate
    the most significant bit. softmax(2 z·c·s) over the sign vectors c is the product of σ(4 z_i |c_i| s).
    """
    bits = bit_probabilities(logits)
    p = bits[..., 0, :]
    for i in range(1, logits.shape[-1]):
        p = (p.unsqueeze(-1) * bits[..., i, :].unsqueeze(-2)).flatten(-2)
    return p


def summed_group_probabilities(logits: Tensor) -> Tensor:
    """logits (N, n, g) -> probabilities summed over tokens (n, 2^g), without a (N, 2^g) matrix.

    A group splits into halves that are independent given the token, so the sum is a product of two thin matrices.
    """
    middle = logits.shape[-1] // 2
    if middle == 0:
        return group_probabilities(logits).sum(dim=0)
    first, second = group_probabilities(logits[..., :middle]), group_probabilities(logits[..., middle:])
    return torch.einsum("nga,ngb->gab", first, second).flatten(1)


def tiled_sum(function: Callable[[Tensor], Tensor], logits: Tensor, columns: int, tile_mb: float) -> Tensor:
    """function(logits), a sum over the rows of logits (N, ...), by tiles whose work matrices are recomputed.

    `columns` is the width of the function's largest (rows, columns) matrix, which stays within `tile_mb` MiB.
    """
    rows = tile_rows(columns, logits, tile_mb)
    if len(logits) <= rows:
        return function(logits)
    total = 0.0
    for tile in logits.split(rows):
        total = total + checkpoint(function, tile, use_reentrant=False, preserve_rng_state=False)
    return total


def largest_group(dim: int, at_most: int) -> int:
    """The largest divisor of dim that is at most `at_most`."""
    return max(size for size in range(1, min(dim, at_most) + 1) if dim % size == 0)
