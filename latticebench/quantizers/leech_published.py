"""Spherical Leech quantization with the codebook that its authors released: arXiv:2512.14697, npq-vit.

Its second and third class come from two different Golay codes, so it is not the shell of one lattice:
the smallest distance is √(24/32) = 0.866 instead of 1. Indices of released checkpoints are its rows.
"""

import dataclasses
import math
from typing import Literal

from latticebench.quantizers.leech import PAPER, LeechCodebook, check_parameters
from latticebench.quantizers.registry import register


@register
class LeechPublished(LeechCodebook):
    """The 196,560 rows of the released file, or a subset of them."""

    name = "leech-published"
    title = "Leech codebook as released"
    reference = PAPER
    rows_of = "released"

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        dim: dimension of the vectors, 24
        codebook_size: number K of code vectors, up to 196560
        subset: which K of the rows: the `first` as in the released code (one-sided for small K), a `random` draw,
            or a draw from one class; no matter for the whole file
        seed: of the draw
        normalize: bring z to unit length; off inside a multi-scale residual quantizer
        tile_mb: largest (tokens x K) product in MiB; for subsets
        """

        dim: int = 24
        codebook_size: int = 196_560
        subset: Literal["random", "first", "class2", "class3", "class4"] = "first"
        seed: int = 0
        normalize: bool = True
        tile_mb: float = 256.0

        def __post_init__(self) -> None:
            check_parameters("leech-published", self)

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self._choose(parameters)

    @property
    def delta_min(self) -> float | None:
        """The smallest distance between two code vectors: √(24/32) for the whole file, not known for a subset."""
        return math.sqrt(24 / 32) if self.whole else None
