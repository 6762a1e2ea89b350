"""No quantization: the ceiling of every table."""

import dataclasses

import torch
from torch import Tensor

from latticebench.errors import BadInput
from latticebench.quantizers.base import Quantized, Quantizer, Reference, full_precision
from latticebench.quantizers.registry import register


@register
class Identity(Quantizer):
    """Passes vectors through unchanged; it has no codes, so `encode` and `decode` raise TypeError."""

    name = "identity"
    title = "No quantization"
    reference = Reference("The continuous autoencoder, the ceiling of every table", 2026, "")
    quantizes = False

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """dim: dimension of the vectors."""

        dim: int = 16

        def __post_init__(self) -> None:
            if self.dim < 1:
                raise BadInput(f"identity: dim must be at least 1, got {self.dim}")

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.dim = parameters.dim
        self.codebook_size = 0

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:
            return Quantized(z, None, torch.zeros((), device=z.device), {})

    def encode(self, z: Tensor) -> Tensor:
        raise TypeError("identity has no codes: it quantizes nothing")

    def decode(self, indices: Tensor) -> Tensor:
        raise TypeError("identity has no codes: it quantizes nothing")
