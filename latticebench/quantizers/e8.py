"""Products of the first shell of E8, the densest lattice in eight dimensions.

The codebook: z in d dimensions is cut into n = d/8 blocks, and each block is one of the 240 roots of E8 (Conway
and Sloane, Sphere Packings, Lattices and Groups, chapter 4, section 8.1), at length 1/√n so that all of the
K = 240^n code vectors have unit length. Since the roots have one length, the block's root of largest inner
product is the nearest, and the nearest root of each block gives the nearest code vector, whatever the blocks'
lengths. It stands between fsq, a product of lines, and leech, which couples all 24 coordinates.

Index: mixed radix of the blocks' roots, first block most significant; `latticebench.lattices.e8` orders the roots.
"""

import dataclasses
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from latticebench.lattices import e8
from latticebench.quantizers import digits, search
from latticebench.quantizers.base import (
    MAX_INDEX_SIZE,
    Quantized,
    Quantizer,
    Reference,
    full_precision,
    straight_through,
)
from latticebench.quantizers.checks import require, zero_loss
from latticebench.quantizers.registry import register


@register
class E8(Quantizer):
    """The nearest of E8's 240 roots in each block of eight coordinates; straight-through onto the unit z.

    With n = dim/8 blocks the codebook has K = 240^n vectors: n roots one after the other, each of length 1/√n, so
    that the whole has unit length. It stands between fsq, a product of lines, and leech, which couples all 24
    coordinates of a block.
    """

    name = "e8"
    title = "Product of E8 shells"
    reference = Reference(
        "Conway and Sloane, Sphere Packings, Lattices and Groups", 1999, "https://doi.org/10.1007/978-1-4757-6568-7"
    )

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        dim: dimension of the vectors, a multiple of 8; K = 240^(dim/8)
        normalize: what the gradient sees brought to unit length: z as a `whole`, each `block` (to 1/√n), or `none`
            (inside a residual quantizer); the codes are the same
        """

        dim: int = 16
        normalize: Literal["whole", "block", "none"] = "whole"

        def __post_init__(self) -> None:
            require(self.dim >= 8 and self.dim % 8 == 0, "e8", "dim", self.dim, "a multiple of 8")

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.dim = parameters.dim
        self.blocks = parameters.dim // 8
        self.codebook_size = e8.SIZE**self.blocks
        self.unit = parameters.normalize
        self.normalize = self.unit != "none"
        self._places = digits.place_values(self.digit_sizes, first_least=False)
        # Rebuilt from the parameters, so not in the state dict; the fingerprint covers them.
        self.register_buffer("points", e8.shell() / self.blocks**0.5, persistent=False)

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:
            roots = self._roots(z.detach())
            q = self._vectors(roots).to(z.dtype)
            indices = digits.join(roots, self._places) if self.codebook_size <= MAX_INDEX_SIZE else None
            return Quantized(straight_through(q, self._prepare(z)), indices, zero_loss(z), {})

    def encode(self, z: Tensor) -> Tensor:
        self.check_indexable()
        return digits.join(self.encode_digits(z), self._places)

    def decode(self, indices: Tensor) -> Tensor:
        return self._vectors(self.to_digits(indices))

    @property
    def digit_sizes(self) -> tuple[int, ...]:
        """One digit a block: its root."""
        return (e8.SIZE,) * self.blocks

    def to_digits(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return digits.split(indices, self.digit_sizes, self._places)

    def from_digits(self, digits_: Tensor) -> Tensor:
        self.check_digits(digits_)
        self.check_indexable()
        return digits.join(digits_, self._places)

    def encode_digits(self, z: Tensor) -> Tensor:
        self.check_input(z)
        search.check_finite(self.name, z)
        with full_precision(z.detach()) as z:
            return self._roots(z)

    def decode_digits(self, digits_: Tensor) -> Tensor:
        self.check_digits(digits_)
        return self._vectors(digits_)

    def definition(self) -> dict[str, Any]:
        return {"blocks": self.blocks}

    def definition_tensors(self) -> dict[str, Tensor]:
        return {"points": self.points}

    def _prepare(self, z: Tensor) -> Tensor:
        if self.unit == "block":
            return F.normalize(z.unflatten(-1, (self.blocks, 8)), dim=-1).flatten(-2) / self.blocks**0.5
        return F.normalize(z, dim=-1) if self.unit == "whole" else z

    def _roots(self, z: Tensor) -> Tensor:
        return e8.nearest(z.unflatten(-1, (self.blocks, 8)))

    def _vectors(self, roots: Tensor) -> Tensor:
        return self.points.float()[roots].flatten(-2)
