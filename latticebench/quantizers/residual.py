"""Residual vector quantization: Zeghidour et al., SoundStream, arXiv:2107.03312 (Algorithm 1).

r₁ = z; qᵢ = Qᵢ(rᵢ); rᵢ₊₁ = rᵢ − qᵢ; the code vector is Σ qᵢ. Every stage has a codebook of its own; the choice
is greedy, stage after stage. The loss is the sum of the stages' losses on rᵢ = z − sg(q₁ + … + qᵢ₋₁), as in RQ-VAE
(Lee et al., arXiv:2203.01941).
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from latticebench.errors import BadInput
from latticebench.quantizers.base import Quantized, Reference, full_precision, straight_through
from latticebench.quantizers.checks import require
from latticebench.quantizers.composite import Composite, check_base, summed
from latticebench.quantizers.registry import register


@register
class Residual(Composite):
    """Each stage quantizes what the stages before it left over; the code vector is the sum.

    Each stage sees z with its gradient divided by the depth: the stages' gradients then add up to dL/dz = dL/dq
    where the base's gradient is the usual straight-through one (some code has depth times that), and the
    commitment terms to their mean. The base must take vectors of any length: `normalize: false` for sphere codes.
    """

    name = "residual"
    title = "Residual quantization"
    reference = Reference(
        "Zeghidour et al., SoundStream: An End-to-End Neural Audio Codec", 2021, "https://arxiv.org/abs/2107.03312"
    )
    idempotent = False
    idempotent_reason = "the greedy choice need not find the stages that a sum of code vectors was made from"

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        base: the method of each stage and its parameters
        depth: number of stages; K is the product of the stages' sizes
        shrink: stage i works at the scale shrink^i; below 1 for fixed points, which would repeat themselves at 1
        seed: of the stages' draws; each adds its number and the base's own seed
        """

        base: dict[str, Any] = dataclasses.field(
            default_factory=lambda: {"method": "vq", "parameters": {"dim": 8, "codebook_size": 64}}
        )
        depth: int = 2
        shrink: float = 1.0
        seed: int = 0

        def __post_init__(self) -> None:
            require(1 <= self.depth <= 64, "residual", "depth", self.depth, "from 1 to 64")
            require(0 < self.shrink <= 1, "residual", "shrink", self.shrink, "above 0, at most 1")
            check_base("residual", self.base)

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self._set_up(parameters.base, parameters.depth, parameters.seed)
        self.dim = self.parts[0].dim
        self._scales = [parameters.shrink**i for i in range(parameters.depth)]
        if self.parts[0].normalize:
            raise BadInput(
                f"residual: base {parameters.base['method']} brings vectors to unit length, and residuals have lengths; "
                "turn that off (normalize: false, for vq metric: euclidean)"
            )

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:
            shared = z.detach() + (z - z.detach()) / len(self.parts)
            outs, total = [], None
            for part, scale in zip(self.parts, self._scales, strict=True):
                rest = shared if total is None else shared - total.to(z.dtype)
                outs.append(part(rest / scale))
                total = _add(total, outs[-1].vectors.detach(), scale)
            surrogate = sum(out.vectors * scale for out, scale in zip(outs, self._scales, strict=True))
            q = straight_through(total.to(z.dtype), surrogate)
            loss = torch.stack([out.loss for out in outs]).sum()
            indices = self._join([out.indices for out in outs])
            return Quantized(q, indices, loss, summed(out.terms for out in outs))

    def encode_digits(self, z: Tensor) -> Tensor:
        self.check_input(z)
        with torch.no_grad(), full_precision(z) as z:
            found, total = [], None
            for part, scale in zip(self.parts, self._scales, strict=True):
                rest = z if total is None else z - total.to(z.dtype)
                found.append(part.encode_digits(rest / scale))
                total = _add(total, part.decode_digits(found[-1]), scale)
            return torch.cat(found, dim=-1)

    def decode_digits(self, digits_: Tensor) -> Tensor:
        total = None
        for part, own, scale in zip(self.parts, self._split_digits(digits_), self._scales, strict=True):
            total = _add(total, part.decode_digits(own), scale)
        return total

    def definition(self) -> dict[str, Any]:
        return super().definition() | {"scales": self._scales}


def _add(total: Tensor | None, q: Tensor, scale: float) -> Tensor:
    # In float32 whatever z was, so that decoding, which never sees z, gives the same bits.
    q = q.detach().float() * scale
    return q if total is None else total + q
