"""Generalised Fibonacci lattice on the sphere, as a frozen codebook; see `latticebench.lattices.fibonacci`."""

import dataclasses

from latticebench.lattices import fibonacci
from latticebench.quantizers.base import Reference
from latticebench.quantizers.checks import require, require_codebook
from latticebench.quantizers.registry import register
from latticebench.quantizers.sphere import FixedSphere


@register
class Fibonacci(FixedSphere):
    """Nearest of K points of the Fibonacci lattice."""

    name = "fibonacci"
    title = "Fibonacci lattice"
    reference = Reference(
        "Spherical Leech Quantization for Visual Tokenization and Generation (its Fibonacci baseline)",
        2025,
        "https://arxiv.org/abs/2512.14697",
    )

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        dim: dimension of the vectors
        codebook_size: number K of code vectors
        normalize: bring z to unit length; off inside a multi-scale residual quantizer
        tile_mb: largest (tokens x K) product in MiB
        """

        dim: int = 24
        codebook_size: int = 4096
        normalize: bool = True
        tile_mb: float = 256.0

        def __post_init__(self) -> None:
            require_codebook("fibonacci", self.dim, self.codebook_size, self.tile_mb)
            require(self.dim >= 2, "fibonacci", "dim", self.dim, "at least 2")

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        points = fibonacci.points(parameters.codebook_size, parameters.dim)
        self._set_up(points, parameters.normalize, parameters.tile_mb)
