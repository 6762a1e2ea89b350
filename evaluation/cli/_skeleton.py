"""The files that `latticebench new-quantizer` writes; `$name`, `$file` and `$Class` stand for the method's names."""

QUANTIZER = '''"""$name: say here what your method does, with its paper's link and equation numbers.

It works as it stands: the nearest of K points that are drawn once and never move, with a commitment term.
Change `points` first, then whatever your method does differently.
"""

import dataclasses

import torch
from torch import Tensor

from latticebench.quantizers import Quantized, Quantizer, Reference, register, search, straight_through
from latticebench.quantizers.base import full_precision
from latticebench.quantizers.checks import mean_square, require
from latticebench.seeding import generator


@register
class $Class(Quantizer):
    """Nearest of K drawn points."""

    name = "$name"
    title = "$Class"
    reference = Reference("your paper", 2026, "")

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """What a configuration may set under `parameters:`; types and defaults are checked for you."""

        dim: int = 8
        codebook_size: int = 4096
        beta: float = 0.25
        seed: int = 0

        def __post_init__(self) -> None:
            require(self.dim >= 1, "$name", "dim", self.dim, "at least 1")
            require(self.codebook_size >= 2, "$name", "codebook_size", self.codebook_size, "at least 2")

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.dim, self.codebook_size, self.beta = parameters.dim, parameters.codebook_size, parameters.beta
        # A buffer is stored with the model and never moves; an nn.Parameter would be learned.
        drawn = torch.randn(self.codebook_size, self.dim, generator=generator(parameters.seed, "$name"))
        self.register_buffer("points", drawn)

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:  # codes must not depend on autocast
            indices = self._nearest(z.detach())
            q = self.points[indices].to(z.dtype)
            loss = self.beta * mean_square(z, q)
            return Quantized(straight_through(q, z), indices, loss, {"commitment": loss.detach()})

    def encode(self, z: Tensor) -> Tensor:
        self.check_input(z)
        search.check_finite(self.name, z)
        with full_precision(z.detach()) as z:
            return self._nearest(z)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self.points[indices]

    def _nearest(self, z: Tensor) -> Tensor:
        """z (..., d) -> indices (...) of the nearest points; `search` tiles the (tokens x K) product."""
        flat = search.nearest(z.reshape(-1, self.dim), self.points.to(z.dtype), tile_mb=256)
        return flat.reshape(z.shape[:-1])
'''

TEST = '''"""$name keeps the quantizer contract, and does what it says."""

from pathlib import Path

import pytest
import torch

from latticebench.quantizers import conformance, load_module

$Class = load_module(Path(__file__).with_name("$file.py"))


def make():
    return $Class($Class.Parameters())


@pytest.mark.parametrize("check", conformance.CHECKS)
def test_conformance(check):
    assert not conformance.check(make, [check])


def test_the_nearest_point_is_chosen():
    q = make()
    z = torch.randn(50, q.dim, generator=torch.Generator().manual_seed(0))
    assert torch.equal(q.encode(z), torch.cdist(z, q.codebook()).argmin(dim=1))
'''

CONFIGURATION = """# Your method beside two others at equal K, on the bundled photographs.
name: $name
seeds: 1
data: {source: bundled-photographs, train_margin: 16}
quantizers:
  $name: {module: $file.py}
  vq: {method: vq, parameters: {dim: 8, codebook_size: 4096, init: data}}
  fsq: {method: fsq, parameters: {levels: [8, 8, 8, 8]}}
"""
