"""Finite scalar quantization: Mentzer et al., arXiv:2309.15505 (their appendix A.1 has the listing).

Each coordinate is bounded, f(z) = tanh(z + shift)·half − offset with half = (L − 1)(1 − ε)/2 and
offset 0 for odd and 1/2 for even L, rounded, and divided by ⌊L/2⌋. Even L gives −1 … (L/2 − 1)/(L/2).
The listing's shift is tan(offset/half), ports use atanh(offset/half), which sends 0 to 0.
Index: mixed radix, first coordinate least significant. L = 2 fails in the listing and is refused.
"""

import dataclasses
import math
from typing import Any, Literal

import torch
from torch import Tensor

from latticebench.quantizers import digits
from latticebench.quantizers.base import Quantized, Quantizer, Reference, full_precision, straight_through
from latticebench.quantizers.checks import require, zero_loss
from latticebench.quantizers.registry import register
from latticebench.quantizers.search import check_finite


@register
class FSQ(Quantizer):
    """Rounds each bounded coordinate to one of its levels; the gradient is the bound's, straight through rounding."""

    name = "fsq"
    title = "Finite scalar quantization"
    reference = Reference(
        "Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple", 2023, "https://arxiv.org/abs/2309.15505"
    )

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        levels: number of levels of each coordinate, at least 3; their product is K and their number the dimension
        eps: how far the bound stays inside the outer levels, as a share of their span (negative: outside)
        shift: `tan` as in the paper's listing, `atanh` as in ports
        """

        levels: tuple[int, ...] = (8, 8, 8, 8)
        eps: float = 1e-3
        shift: Literal["tan", "atanh"] = "tan"

        def __post_init__(self) -> None:
            require(len(self.levels) >= 1, "fsq", "levels", list(self.levels), "a list of at least one level")
            require(
                min(self.levels) >= 3 and max(self.levels) <= 1024,
                "fsq",
                "levels",
                list(self.levels),
                "from 3 to 1024 each (L = 2 fails in the paper's definition; bsq and lfq have binary levels)",
            )
            require(abs(self.eps) <= 0.01, "fsq", "eps", self.eps, "from -0.01 to 0.01")

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.levels = parameters.levels
        self.dim = len(self.levels)
        self.codebook_size = math.prod(self.levels)
        self._places = digits.place_values(self.levels, first_least=True)
        half = [(size - 1) * (1 - parameters.eps) / 2 for size in self.levels]
        offset = [0.5 if size % 2 == 0 else 0.0 for size in self.levels]
        shift = {"tan": math.tan, "atanh": math.atanh}[parameters.shift]
        shifts = [shift(o / h) for o, h in zip(offset, half, strict=True)]
        # Plain numbers, no buffers: casting a model to half precision would move the level boundaries.
        self._constants = (half, offset, shifts, [float(size // 2) for size in self.levels])
        self._placed: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}

    @property
    def delta_min(self) -> float:
        """The smallest distance between two code vectors."""
        return 1 / (max(self.levels) // 2)

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:
            bounded = self._bound(z)
            levels = bounded.detach().round()
            surrogate = bounded / self._on(z)[3]
            q = straight_through(self._vectors(levels).to(z.dtype), surrogate)
            indices = None
            if self.codebook_size <= 2**62:
                indices = digits.join(self._digits(levels), self._places)
            return Quantized(q, indices, zero_loss(z), {})

    def encode(self, z: Tensor) -> Tensor:
        self.check_indexable()
        return digits.join(self.encode_digits(z), self._places)

    def decode(self, indices: Tensor) -> Tensor:
        return self.decode_digits(self.to_digits(indices))

    def preimage(self, indices: Tensor) -> Tensor:
        """Inverts the tanh; the outer levels, which the bound may not reach, take a point well inside their cell."""
        digits_ = self.to_digits(indices).float()
        half, offset, shift, width = self._on(digits_)
        inside = (digits_ - width).clamp(min=-half - offset + 0.25, max=half - offset - 0.25)
        return torch.atanh((inside + offset) / half) - shift

    @property
    def digit_sizes(self) -> tuple[int, ...]:
        """One digit a coordinate: its level counted from the lowest."""
        return self.levels

    def to_digits(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return digits.split(indices, self.levels, self._places)

    def from_digits(self, digits_: Tensor) -> Tensor:
        self.check_digits(digits_)
        self.check_indexable()
        return digits.join(digits_, self._places)

    def encode_digits(self, z: Tensor) -> Tensor:
        self.check_input(z)
        check_finite(self.name, z)
        with torch.no_grad(), full_precision(z) as z:
            return self._digits(self._bound(z).round())

    def decode_digits(self, digits_: Tensor) -> Tensor:
        self.check_digits(digits_)
        levels = digits_.float()
        return self._vectors(levels - self._on(levels)[3])

    def definition(self) -> dict[str, Any]:
        return {"levels": list(self.levels)}

    def _on(self, like: Tensor) -> list[Tensor]:
        """half, offset, shift and ⌊L/2⌋ on a tensor's device, in its precision; each (d,)."""
        key = (like.device, like.dtype)
        if key not in self._placed:
            self._placed[key] = [
                torch.tensor(values, device=like.device, dtype=like.dtype) for values in self._constants
            ]
        return self._placed[key]

    def _bound(self, z: Tensor) -> Tensor:
        half, offset, shift, _ = self._on(z)
        return torch.tanh(z + shift) * half - offset

    def _digits(self, levels: Tensor) -> Tensor:
        return (levels + self._on(levels)[3]).long()

    def _vectors(self, levels: Tensor) -> Tensor:
        levels = levels.float()
        return levels / self._on(levels)[3]
