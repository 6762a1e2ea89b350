"""Product quantization: Jégou, Douze and Schmid, Product Quantization for Nearest Neighbor Search, 2011.

z is cut into groups of equal length, and each is quantized by a codebook of its own (their Eq. 8); the code
vector is the concatenation and K the product. Since ‖z − q‖² is the sum over the groups, choosing group by
group finds the nearest of all K code vectors wherever the base finds the nearest of its own.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from latticebench.quantizers.base import Quantized, Reference, full_precision
from latticebench.quantizers.checks import require
from latticebench.quantizers.composite import Composite, check_base, summed
from latticebench.quantizers.registry import register


@register
class Product(Composite):
    """Each group of coordinates has a codebook of its own; the gradient of each group is its base's.

    Bases that normalise do so group by group. The loss is the mean over the groups, a mean over all elements.
    """

    name = "product"
    title = "Product quantization"
    reference = Reference(
        "Jégou et al., Product Quantization for Nearest Neighbor Search",
        2011,
        "https://doi.org/10.1109/TPAMI.2010.57",
    )

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        base: the method of each group and its parameters, its dimension that of a group
        groups: number of groups; K is the product of their sizes and d the sum of their dimensions
        seed: of the groups' draws; each adds its number and the base's own seed
        """

        base: dict[str, Any] = dataclasses.field(
            default_factory=lambda: {"method": "vq", "parameters": {"dim": 4, "codebook_size": 64}}
        )
        groups: int = 2
        seed: int = 0

        def __post_init__(self) -> None:
            require(1 <= self.groups <= 1024, "product", "groups", self.groups, "from 1 to 1024")
            check_base("product", self.base)

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self._set_up(parameters.base, parameters.groups, parameters.seed)
        self.dim = sum(part.dim for part in self.parts)
        self.idempotent = self.parts[0].idempotent
        self.idempotent_reason = self.parts[0].idempotent_reason

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:
            outs = [part(group) for part, group in zip(self.parts, self._groups(z), strict=True)]
            q = torch.cat([out.vectors for out in outs], dim=-1)
            loss = torch.stack([out.loss for out in outs]).mean()
            indices = self._join([out.indices for out in outs])
            return Quantized(q, indices, loss, summed((out.terms for out in outs), 1 / len(outs)))

    def encode_digits(self, z: Tensor) -> Tensor:
        self.check_input(z)
        with torch.no_grad(), full_precision(z) as z:
            found = [part.encode_digits(group) for part, group in zip(self.parts, self._groups(z), strict=True)]
            return torch.cat(found, dim=-1)

    def decode_digits(self, digits_: Tensor) -> Tensor:
        own = self._split_digits(digits_)
        return torch.cat([part.decode_digits(d) for part, d in zip(self.parts, own, strict=True)], dim=-1)

    def preimage(self, indices: Tensor) -> Tensor:
        own = self._split_digits(self.to_digits(indices))
        found = [part.preimage(part.from_digits(d)) for part, d in zip(self.parts, own, strict=True)]
        return torch.cat(found, dim=-1)

    def _groups(self, z: Tensor) -> tuple[Tensor, ...]:
        return z.split(self.dim // len(self.parts), dim=-1)
