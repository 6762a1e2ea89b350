"""Learnable geometric quantization: arXiv:2602.16086.

p = softmax(−‖z − c‖²/τ) over K learned centres. The forward value is the nearest centre, in training
too; the gradient is that of the soft mixture Σ p_k c_k, to the centres and through p to z: there is no
identity path. Loss = MSE(q, z) + λ_peak·mean relu(1 − Σ_k p_k²) + λ_use·K·Σ_k ū_k², with ū the mean of
p over the joined batch, and an optional floor λ_floor·relu(p_min − exp H(ū))², H in nats.
"""

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from latticebench import seeding
from latticebench.quantizers import binary, draws, search
from latticebench.quantizers.base import Quantized, Quantizer, Reference, full_precision, straight_through
from latticebench.quantizers.checks import mean_square, require, require_codebook
from latticebench.quantizers.distributed import joined_mean, token_counts
from latticebench.quantizers.registry import register


@register
class LGQ(Quantizer):
    """Hard assignment to learned centres with the gradient of the soft one; τ falls over the training."""

    name = "lgq"
    title = "Learnable geometric quantization"
    reference = Reference("LGQ, arXiv:2602.16086", 2026, "https://arxiv.org/abs/2602.16086")

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        dim: dimension of the vectors
        codebook_size: number K of centres
        tau_start: temperature τ at the start
        tau_end: temperature τ at the end; linear between (the authors step it once an epoch)
        lambda_peak: weight of the term that makes each assignment peaked
        lambda_use: weight of the term that spreads the mean assignment
        lambda_floor: weight of the perplexity floor; 0 turns it off
        perplexity_floor: p_min of that term, in codes
        init: first centres: random tokens of the first training batch (`data`), these refined by Lloyd's iterations
            (`kmeans`), N(0, I/d) (`normal`), uniform in ±1/√d (`uniform`)
        seed: of the first centres
        tile_mb: largest (tokens x K) matrix in MiB; above it the assignment is recomputed by tiles
        """

        dim: int = 16
        codebook_size: int = 4096
        tau_start: float = 1.0
        tau_end: float = 0.1
        lambda_peak: float = 0.005
        lambda_use: float = 0.005
        lambda_floor: float = 0.0
        perplexity_floor: float = 0.0
        init: Literal["data", "kmeans", "normal", "uniform"] = "data"
        seed: int = 0
        tile_mb: float = 256.0

        def __post_init__(self) -> None:
            require_codebook("lgq", self.dim, self.codebook_size, self.tile_mb)
            require(self.tau_start > 0, "lgq", "tau_start", self.tau_start, "above 0")
            require(self.tau_end > 0, "lgq", "tau_end", self.tau_end, "above 0")

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.p = parameters
        self.dim = parameters.dim
        self.codebook_size = parameters.codebook_size
        draw = seeding.generator(parameters.seed, "lgq", "centres")
        shape, scale = (self.codebook_size, self.dim), self.dim**-0.5
        if parameters.init == "uniform":
            centres = (torch.rand(shape, generator=draw) * 2 - 1) * scale
        else:
            centres = torch.randn(shape, generator=draw) * scale
        self.centres = nn.Parameter(centres)
        # A Python flag beside the buffer, because reading a buffer stops the device in every step.
        self._waiting = parameters.init in ("data", "kmeans")
        if self._waiting:
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_post_hook(_recall_start)

    @property
    def tau(self) -> float:
        """The temperature at the present progress."""
        return self.p.tau_start + (self.p.tau_end - self.p.tau_start) * self.progress

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:
            tokens = z.reshape(-1, self.dim)
            if self.training and "steps" in self._buffers:
                self._count(tokens.detach())
            centres = self._codes().to(z.dtype)
            soft, squares, sums, indices = _Assignment.apply(tokens, centres, self.tau, self.p.tile_mb)
            hard = centres.detach()[indices].reshape(z.shape)
            q = straight_through(hard, soft.reshape(z.shape))
            mse = mean_square(q, z)
            peak = (1 - squares).relu().sum() / max(len(tokens), 1)
            mean_p = joined_mean(sums, len(tokens), self.training)
            use = self.codebook_size * mean_p.square().sum()
            loss = mse + self.p.lambda_peak * peak + self.p.lambda_use * use
            terms = {"mse": mse.detach(), "peak": peak.detach(), "use": use.detach()}
            if self.p.lambda_floor > 0:
                floor = (self.p.perplexity_floor - binary.entropy(mean_p).exp()).relu().square()
                loss, terms["floor"] = loss + self.p.lambda_floor * floor, floor.detach()
            return Quantized(q, indices.reshape(z.shape[:-1]), loss, terms)

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
        return self._codes().detach()

    @property
    def learnable(self) -> frozenset[str]:
        """The centres, and the counter of training steps that the start from the first batch needs."""
        return frozenset({"centres"} | ({"steps"} & set(self._buffers)))

    def definition(self) -> dict[str, Any]:
        return {}

    def definition_tensors(self) -> dict[str, Tensor]:
        return {"centres": self.centres}

    def _codes(self) -> Tensor:
        return self.centres if self.centres.dtype == torch.float64 else self.centres.float()

    @torch.no_grad()
    def _count(self, tokens: Tensor) -> None:
        """Counts a training step; the first one with tokens starts the centres."""
        if self._waiting:
            counts = token_counts(len(tokens), tokens.device)
            if sum(counts) == 0:
                return
            centres = draws.first_tokens(tokens, counts, self.codebook_size, self.p.seed)
            if self.p.init == "kmeans":
                centres = draws.lloyd(tokens, centres, self.p.tile_mb)
            self.centres.copy_(centres)
            self._waiting = False
        self.steps.add_(1)


def _recall_start(module: LGQ, incompatible_keys: Any) -> None:
    module._waiting = module.p.init in ("data", "kmeans") and not bool(module.steps)


class _Assignment(torch.autograd.Function):
    """Soft assignment by tiles of tokens; p is kept for the backward pass within `tile_mb`, else recomputed.

    z (N, d), c (K, d) -> Σ_k p_k c_k (N, d), Σ_k p_k² (N,), Σ_n p (K,), argmin ‖z − c‖ (N,) int64.
    With scores s = z·c − ‖c‖²/2, p = softmax(2 s/τ): ‖z‖² drops out.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, c: Tensor, tau: float, tile_mb: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = search.tile_rows(len(c), z, tile_mb)
        keep = len(z) * len(c) * z.dtype.itemsize <= tile_mb * 2**20
        offset = search.half_square_norms(c)
        soft, squares, indices = torch.empty_like(z), z.new_empty(len(z)), z.new_empty(len(z), dtype=torch.int64)
        sums = torch.zeros_like(offset)
        kept = []
        for start in range(0, len(z), rows):
            tile = slice(start, start + rows)
            s = search.scores(z[tile], c, offset)
            indices[tile] = search.first_argmax(s)
            p = s.mul_(2 / tau).softmax(dim=-1)
            soft[tile] = p @ c
            squares[tile] = torch.linalg.vecdot(p, p)
            sums += p.sum(dim=0)
            if keep:
                kept.append(p)
        ctx.save_for_backward(z, c, *kept)
        ctx.tau, ctx.rows = tau, rows
        ctx.mark_non_differentiable(indices)
        return soft, squares, sums, indices

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_soft: Tensor, g_squares: Tensor, g_sums: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        z, c, *kept = ctx.saved_tensors
        offset = search.half_square_norms(c)
        g_z = torch.empty_like(z)
        # (d, K), because wide products are faster than tall ones.
        g_c, g_scores = c.new_zeros(c.shape[::-1]), torch.zeros_like(offset)
        for i, start in enumerate(range(0, len(z), ctx.rows)):
            tile = slice(start, start + ctx.rows)
            p = kept[i] if kept else search.scores(z[tile], c, offset).mul_(2 / ctx.tau).softmax(dim=-1)
            # dL/dp, then through the softmax, whose rows sum to zero.
            g = torch.addmm(g_sums, g_soft[tile], c.t()).addcmul_(p, g_squares[tile, None], value=2)
            g_c.addmm_(g_soft[tile].t(), p)
            g = g.sub_(torch.linalg.vecdot(g, p)[:, None]).mul_(p).mul_(2 / ctx.tau)
            g_z[tile] = g @ c
            g_c.addmm_(z[tile].t(), g)
            g_scores += g.sum(dim=0)
        return g_z, g_c.t() - g_scores[:, None] * c, None, None
