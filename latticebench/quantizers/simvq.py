"""SimVQ: a frozen random basis under one learned linear map; Zhu et al., arXiv:2411.02038.

The codebook is C·W (their Eq. 7) with C ~ N(0, I/d) frozen; the authors' code has a bias in W.
Loss as vq: ‖sg(z) − q‖² + β‖z − sg(q)‖², means over all elements, β on the commitment side.
"""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from latticebench import seeding
from latticebench.quantizers import search
from latticebench.quantizers.base import Quantized, Quantizer, Reference, full_precision, straight_through
from latticebench.quantizers.checks import mean_square, require, require_codebook
from latticebench.quantizers.registry import register


@register
class SimVQ(Quantizer):
    """Nearest row of the projected basis; the usual straight-through gradient dL/dz = dL/dq."""

    name = "simvq"
    title = "SimVQ"
    reference = Reference(
        "Zhu et al., Addressing Representation Collapse in Vector Quantized Models with One Linear Layer",
        2024,
        "https://arxiv.org/abs/2411.02038",
    )

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        dim: dimension of the vectors
        codebook_size: number K of code vectors
        beta: weight of the commitment term
        bias: whether the linear map has a bias, as in the authors' code
        seed: of the frozen basis and of the first linear map
        tile_mb: largest (tokens x K) product in MiB
        """

        dim: int = 8
        codebook_size: int = 4096
        beta: float = 0.25
        bias: bool = True
        seed: int = 0
        tile_mb: float = 256.0

        def __post_init__(self) -> None:
            require_codebook("simvq", self.dim, self.codebook_size, self.tile_mb)
            require(self.beta >= 0, "simvq", "beta", self.beta, "at least 0")

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.p = parameters
        self.dim = parameters.dim
        self.codebook_size = parameters.codebook_size
        draw = seeding.generator(parameters.seed, "simvq")
        basis = torch.randn(self.codebook_size, self.dim, generator=draw) * self.dim**-0.5
        self.register_buffer("basis", basis)
        # nn.Linear's own distribution, but from our seed and not from the global generator.
        self.projection = nn.utils.skip_init(nn.Linear, self.dim, self.dim, bias=parameters.bias)
        bound = 1 / math.sqrt(self.dim)
        with torch.no_grad():
            for parameter in self.projection.parameters():
                parameter.copy_((torch.rand(parameter.shape, generator=draw) * 2 - 1) * bound)

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:
            codes = self._codes().to(z.dtype)
            tokens = z.detach().reshape(-1, self.dim)
            indices = search.nearest(tokens, codes.detach(), self.p.tile_mb)
            q = codes[indices].reshape(z.shape)
            commitment, codebook = mean_square(z, q.detach()), mean_square(q, z.detach())
            terms = {"commitment": commitment.detach(), "codebook": codebook.detach()}
            loss = self.p.beta * commitment + codebook
            return Quantized(straight_through(q.detach(), z), indices.reshape(z.shape[:-1]), loss, terms)

    def encode(self, z: Tensor) -> Tensor:
        self.check_input(z)
        search.check_finite(self.name, z)
        with torch.no_grad(), full_precision(z) as z:
            tokens = z.reshape(-1, self.dim)
            return search.nearest(tokens, self._codes().to(z.dtype), self.p.tile_mb).reshape(z.shape[:-1])

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self.codebook()[indices]

    def codebook(self) -> Tensor:
        with torch.autocast(self.basis.device.type, enabled=False):
            return self._codes().detach()

    def definition(self) -> dict[str, Any]:
        return {"bias": self.p.bias}

    def _codes(self) -> Tensor:
        # All rows are projected even for few indices: products of another shape round differently.
        if self.basis.dtype == torch.float64:
            return self.projection(self.basis)
        bias = None if self.projection.bias is None else self.projection.bias.float()
        return nn.functional.linear(self.basis.float(), self.projection.weight.float(), bias)
