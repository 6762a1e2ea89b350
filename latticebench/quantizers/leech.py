"""Spherical Leech quantization on the true lattice: arXiv:2512.14697, with the first shell of Λ24.

The whole shell is searched by structure and decoded from a table that all instances share; a subset
of it is searched by tiled dense products. `latticebench.lattices.leech` states the row order. The digits
of a code are its 24 coordinates before scaling, −4 to 4, counted from 0: few of the 9^24 strings are codes.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from latticebench.lattices import leech
from latticebench.quantizers.base import Reference
from latticebench.quantizers.checks import require
from latticebench.quantizers.registry import register
from latticebench.quantizers.sphere import FixedSphere

PAPER = Reference(
    "Spherical Leech Quantization for Visual Tokenization and Generation", 2025, "https://arxiv.org/abs/2512.14697"
)


LARGEST = 4
"""Of the coordinates before scaling."""


class LeechCodebook(FixedSphere):
    """One of the two Leech codebooks, whole or cut to a subset."""

    rows_of: ClassVar[leech.Codebook]

    def _choose(self, parameters: Any) -> None:
        whole = parameters.codebook_size == leech.SIZE
        rows = (
            torch.arange(leech.SIZE)
            if whole
            else leech.subset(parameters.codebook_size, parameters.subset, parameters.seed)
        )
        self.whole = whole
        self.register_buffer("rows", rows, persistent=False)
        points = torch.empty(0, leech.DIM) if whole else leech.vectors(rows, codebook=self.rows_of)
        self._set_up(points, parameters.normalize, parameters.tile_mb)
        self.codebook_size = len(rows)
        self.subset = "all" if whole else parameters.subset

    def _nearest(self, z: Tensor) -> Tensor:
        return leech.nearest(z, codebook=self.rows_of) if self.whole else super()._nearest(z)

    def _vectors(self, indices: Tensor) -> Tensor:
        return leech.vectors(indices, codebook=self.rows_of) if self.whole else super()._vectors(indices)

    @property
    def digit_sizes(self) -> tuple[int, ...]:
        return (2 * LARGEST + 1,) * leech.DIM

    def to_digits(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return leech.coordinates(self.rows[indices], self.rows_of).long() + LARGEST

    def from_digits(self, digits: Tensor) -> Tensor:
        self.check_digits(digits)
        rows = leech.index(digits.long() - LARGEST, self.rows_of)
        indices = torch.searchsorted(self.rows, rows).clamp(max=self.codebook_size - 1)
        if bool((self.rows[indices] != rows).any()):
            raise ValueError(f"{self.name}: a digit string is a vector that the subset lacks")
        return indices

    def definition(self) -> dict[str, Any]:
        return {"codebook": self.rows_of, "codebook_size": self.codebook_size, "rows": self.subset}


@register
class Leech(LeechCodebook):
    """The 196,560 minimal vectors of the Leech lattice on the unit sphere, or a subset of them."""

    name = "leech"
    title = "Leech lattice, first shell"
    reference = PAPER
    rows_of = "shell"

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        dim: dimension of the vectors, 24
        codebook_size: number K of code vectors, up to 196560
        subset: which K of the rows: a `random` draw, the `first` as in the released code (one-sided for small K),
            or a draw from one class; no matter for the whole shell
        seed: of the draw
        normalize: bring z to unit length; off inside a multi-scale residual quantizer
        tile_mb: largest (tokens x K) product in MiB; for subsets
        """

        dim: int = 24
        codebook_size: int = 196_560
        subset: Literal["random", "first", "class2", "class3", "class4"] = "random"
        seed: int = 0
        normalize: bool = True
        tile_mb: float = 256.0

        def __post_init__(self) -> None:
            check_parameters("leech", self)

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self._choose(parameters)

    @property
    def delta_min(self) -> float | None:
        """The smallest distance between two code vectors: 1 for the whole shell, not known in advance for a subset."""
        return 1.0 if self.whole else None


def check_parameters(method: str, parameters: Any) -> None:
    """Checks the parameters of either Leech codebook."""
    size, rule = parameters.codebook_size, parameters.subset
    most = len(leech.CLASSES[rule]) if rule in leech.CLASSES else leech.SIZE
    require(parameters.dim == leech.DIM, method, "dim", parameters.dim, f"{leech.DIM}, the dimension of the lattice")
    require(2 <= size <= most, method, "codebook_size", size, f"from 2 to {most} with subset: {rule}")
    require(parameters.tile_mb > 0, method, "tile_mb", parameters.tile_mb, "above 0")
