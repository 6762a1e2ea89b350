"""Lookup-free quantization: Yu et al., arXiv:2310.05737, with the settings of Open-MAGVIT2.

q = sign(z). Entropy loss (their Eq. 6): E[H(p(z))] − γ·H(E[p(z)]) with p = softmax(2 z·c/τ) over the sign
vectors c, in nats; commitment β‖z − sg(q)‖², mean over elements.
"""

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor

from latticebench.quantizers import binary
from latticebench.quantizers.base import Quantized, Reference, full_precision, straight_through
from latticebench.quantizers.checks import mean_square, require
from latticebench.quantizers.distributed import joined_mean
from latticebench.quantizers.registry import register

LARGEST_GROUP = 18


@register
class LFQ(binary.Binary):
    """Signs of z; the usual straight-through gradient dL/dz = dL/dq."""

    name = "lfq"
    title = "Lookup-free quantization"
    reference = Reference(
        "Yu et al., Language Model Beats Diffusion: Tokenizer is Key to Visual Generation",
        2023,
        "https://arxiv.org/abs/2310.05737",
    )

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        dim: number of bits; K = 2^dim
        entropy_weight: weight of both entropies
        gamma0: weight of the entropy of each token's code, which is made small
        gamma: weight of the entropy of the batch's mean code, which is made large
        inv_temperature: 1/τ of the soft assignment
        group_size: coordinates whose joint codes make the batch's entropy; default: all up to 18, else the
            largest divisor of dim up to 18
        beta: weight of the commitment term
        tile_mb: largest matrix of tokens x half a group's codes in MiB
        first_bit: whether coordinate 0 is the most or, as in Open-MAGVIT2, the least significant bit of an index
        """

        dim: int = 12
        entropy_weight: float = 0.1
        gamma0: float = 1.0
        gamma: float = 1.0
        inv_temperature: float = 100.0
        group_size: int | None = None
        beta: float = 0.25
        tile_mb: float = 256.0
        first_bit: Literal["most", "least"] = "most"

        def __post_init__(self) -> None:
            require(1 <= self.dim <= 1024, "lfq", "dim", self.dim, "from 1 to 1024")
            require(self.inv_temperature > 0, "lfq", "inv_temperature", self.inv_temperature, "above 0")
            require(self.beta >= 0, "lfq", "beta", self.beta, "at least 0")
            require(self.tile_mb > 0, "lfq", "tile_mb", self.tile_mb, "above 0")
            if self.group_size is not None:
                require(
                    1 <= self.group_size <= LARGEST_GROUP and self.dim % self.group_size == 0,
                    "lfq",
                    "group_size",
                    self.group_size,
                    f"a divisor of dim {self.dim}, at most {LARGEST_GROUP}",
                )

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.p = parameters
        self._set_up(parameters.dim, 1.0, first_least=parameters.first_bit == "least")
        self.group_size = parameters.group_size or binary.largest_group(self.dim, LARGEST_GROUP)

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:
            q, indices = self._hard(z)
            commitment = mean_square(z, q)
            sample, codebook = self._entropies(z.reshape(-1, self.dim))
            entropies = self.p.gamma0 * sample - self.p.gamma * codebook
            terms = {
                "commitment": commitment.detach(),
                "sample_entropy_nats": sample.detach(),
                "codebook_entropy_nats": codebook.detach(),
            }
            loss = self.p.beta * commitment + self.p.entropy_weight * entropies
            return Quantized(straight_through(q, z), indices, loss, terms)

    def _entropies(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, d) -> E[H(p)] and H(E[p]) over the joined batch, summed over groups, in nats."""
        logits = 4 * z * self.p.inv_temperature
        # Bits are independent given z, so the entropy of their joint code is the sum of theirs.
        sample = binary.entropy(binary.bit_probabilities(logits)).sum(dim=-1).sum()
        size, groups = self.group_size, self.dim // self.group_size
        grouped = logits.unflatten(-1, (groups, size))
        columns = groups * 2 ** (size - size // 2)
        sums = binary.tiled_sum(binary.summed_group_probabilities, grouped, columns, self.p.tile_mb)
        joined = joined_mean(torch.cat([sums.flatten(), sample[None]]), len(z), self.training)
        return joined[-1], binary.entropy(joined[:-1].reshape(sums.shape)).sum()

    def definition(self) -> dict[str, Any]:
        return {"dim": self.dim, "scale": 1.0, "first_bit": self.p.first_bit}
