"""Binary spherical quantization: Zhao et al., arXiv:2406.07548, and the authors' code (bsq-vit).

q = sign(z/‖z‖)/√d. Loss = w·[β·‖z − sg(q)‖² + ζ·(γ0·H_sample − γ·H_codebook)/s] in nats, with
p = softmax(2 z·c·s) over the sign vectors: for single bits (`analytical`, their Eq. 8) or in groups.
w is the codebook weight outside, with a ramp that falls to it over the first steps.
"""

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latticebench.quantizers import binary
from latticebench.quantizers.base import Quantized, Reference, full_precision, straight_through
from latticebench.quantizers.checks import mean_square, require
from latticebench.quantizers.distributed import joined_mean
from latticebench.quantizers.registry import register


@register
class BSQ(binary.Binary):
    """Signs of the unit z, scaled to the unit sphere.

    Gradient to the unit z: g/√d as in the authors' code (`gradient: authors`: sign with straight-through,
    then x 1/√d), or g as in Infinity's port and lucidrains' spherical LFQ (`straight-through`).
    """

    name = "bsq"
    title = "Binary spherical quantization"
    reference = Reference(
        "Zhao et al., Image and Video Tokenization with Binary Spherical Quantization",
        2024,
        "https://arxiv.org/abs/2406.07548",
    )

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        dim: number of bits; K = 2^dim
        gradient: to the unit z, of dL/dq = g: `authors` g/√d, `straight-through` g
        entropy: of single bits (`analytical`) or of groups of bits (`group`), both entropies alike
        group_size: coordinates in a group; must divide dim with `entropy: group`
        inv_temperature: s of the soft assignment; the entropies are divided by it
        gamma0: weight of the entropy of each token's code, which is made small
        gamma: weight of the entropy of the batch's mean code, which is made large
        zeta: weight of both entropies inside the method's loss
        beta: weight of the commitment term (mean over elements; the authors sum over channels)
        entropy_weight: weight w of the method's whole loss
        ramp: factor of w at the start, falling linearly to 1
        ramp_share: share of the training over which it falls (2,000 steps in the authors' configurations)
        normalize: bring z to unit length; off inside a multi-scale residual quantizer
        tile_mb: largest (tokens x group codes) matrix in MiB
        """

        dim: int = 18
        gradient: Literal["authors", "straight-through"] = "authors"
        entropy: Literal["analytical", "group"] = "analytical"
        group_size: int = 9
        inv_temperature: float = 1.0
        gamma0: float = 1.0
        gamma: float = 1.0
        zeta: float = 1.0
        beta: float = 0.0
        entropy_weight: float = 0.1
        ramp: float = 3.0
        ramp_share: float = 0.1
        normalize: bool = True
        tile_mb: float = 256.0

        def __post_init__(self) -> None:
            require(1 <= self.dim <= 1024, "bsq", "dim", self.dim, "from 1 to 1024")
            require(self.inv_temperature > 0, "bsq", "inv_temperature", self.inv_temperature, "above 0")
            require(self.beta >= 0, "bsq", "beta", self.beta, "at least 0")
            require(self.ramp >= 1, "bsq", "ramp", self.ramp, "at least 1")
            require(0 < self.ramp_share <= 1, "bsq", "ramp_share", self.ramp_share, "above 0 and at most 1")
            require(self.tile_mb > 0, "bsq", "tile_mb", self.tile_mb, "above 0")
            if self.entropy == "group":
                require(
                    1 <= self.group_size <= 18 and self.dim % self.group_size == 0,
                    "bsq",
                    "group_size",
                    self.group_size,
                    f"a divisor of dim {self.dim}, at most 18",
                )

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.p = parameters
        self.normalize = parameters.normalize
        self._set_up(parameters.dim, parameters.dim**-0.5)

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:
            u = nn.functional.normalize(z, dim=-1) if self.normalize else z
            q, indices = self._hard(z)
            surrogate = u * self.scale if self.p.gradient == "authors" else u
            commitment = mean_square(u, q)
            sample, codebook = self._entropies(u.reshape(-1, self.dim))
            entropies = (self.p.gamma0 * sample - self.p.gamma * codebook) / self.p.inv_temperature
            terms = {
                "commitment": commitment.detach(),
                "sample_entropy_nats": sample.detach(),
                "codebook_entropy_nats": codebook.detach(),
            }
            loss = self.weight * (self.p.beta * commitment + self.p.zeta * entropies)
            return Quantized(straight_through(q, surrogate), indices, loss, terms)

    @property
    def weight(self) -> float:
        """The weight of the loss at the present progress."""
        risen = min(1.0, self.progress / self.p.ramp_share)
        return self.p.entropy_weight * (self.p.ramp + (1 - self.p.ramp) * risen)

    def _entropies(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """u (N, d) -> H_sample and H_codebook over the joined batch, summed over bits or groups, in nats."""
        logits = 4 * u * (self.p.inv_temperature * self.scale)
        size = 1 if self.p.entropy == "analytical" else self.p.group_size
        groups, codes = self.dim // size, 2**size
        sums = binary.tiled_sum(_sums, logits.unflatten(-1, (groups, size)), groups * codes, self.p.tile_mb)
        joined = joined_mean(sums, len(u), self.training)
        return joined[-1], binary.entropy(joined[:-1].reshape(groups, codes)).sum()

    def definition(self) -> dict[str, Any]:
        return {"dim": self.dim, "scale": "1/sqrt(dim)"}


def _sums(logits: Tensor) -> Tensor:
    """logits (N, n, g) -> summed over tokens: probabilities of the codes of each group, then the entropy (n·2^g + 1,)."""
    p = binary.group_probabilities(logits)
    return torch.cat([p.sum(dim=0).flatten(), binary.entropy(p).sum()[None]])
