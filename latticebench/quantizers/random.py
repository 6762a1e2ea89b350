"""Random projection quantizer: K directions drawn once and frozen.

Chiu et al., arXiv:2202.01855, as the baseline of arXiv:2512.14697 (its Table 8) uses it.
"""

import dataclasses

from latticebench.lattices import random_directions
from latticebench.quantizers.base import Reference
from latticebench.quantizers.checks import require_codebook
from latticebench.quantizers.registry import register
from latticebench.quantizers.sphere import FixedSphere


@register
class Random(FixedSphere):
    """Nearest of K directions drawn from a projected normal."""

    name = "random"
    title = "Random directions"
    reference = Reference(
        "Chiu et al., Self-supervised Learning with Random-projection Quantizer for Speech Recognition",
        2022,
        "https://arxiv.org/abs/2202.01855",
    )

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        dim: dimension of the vectors
        codebook_size: number K of code vectors
        seed: of the draw
        normalize: bring z to unit length; off inside a multi-scale residual quantizer
        tile_mb: largest (tokens x K) product in MiB
        """

        dim: int = 24
        codebook_size: int = 4096
        seed: int = 0
        normalize: bool = True
        tile_mb: float = 256.0

        def __post_init__(self) -> None:
            require_codebook("random", self.dim, self.codebook_size, self.tile_mb)

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        points = random_directions.points(parameters.codebook_size, parameters.dim, parameters.seed)
        self._set_up(points, parameters.normalize, parameters.tile_mb)
