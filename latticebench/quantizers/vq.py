"""Vector quantization with a learned codebook: van den Oord et al., arXiv:1711.00937.

`update: gradient` is their Eq. 3, ‖sg(z) − q‖² + β‖z − sg(q)‖²; `update: ema` is their appendix A.1 with
Laplace smoothing and the restart of dead codes. The errors are means over all elements, β on the
commitment side (taming's `legacy=True` has it on the other; some code sums over channels).
"""

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latticebench import seeding
from latticebench.quantizers import draws, search
from latticebench.quantizers.base import Quantized, Quantizer, Reference, full_precision, straight_through
from latticebench.quantizers.checks import mean_square, require, require_codebook
from latticebench.quantizers.distributed import all_sum, token_counts
from latticebench.quantizers.registry import register

LEECH_ROWS = 196_560


@register
class VQ(Quantizer):
    """Nearest of K learned vectors; the usual straight-through gradient dL/dz = dL/dq.

    With `metric: cosine` vectors and codes are brought to unit length first, so the gradient passes the
    normalisation and the loss terms compare unit vectors.
    """

    name = "vq"
    title = "Vector quantization"
    reference = Reference(
        "van den Oord et al., Neural Discrete Representation Learning", 2017, "https://arxiv.org/abs/1711.00937"
    )

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """
        dim: dimension of the vectors
        codebook_size: number K of code vectors
        update: `gradient` learns the codebook by the loss; `ema` by a moving average of the tokens of each code
        beta: weight of the commitment term
        metric: nearest by `euclidean` or by `cosine` distance
        init: first codebook: N(0, I/d) (`normal`), uniform in ±1/K (`uniform`, as taming), random tokens of the
            first training batch (`data`), the first K points of the Leech shell (`leech`, dim 24)
        decay: of the moving averages; `ema` only
        eps: Laplace smoothing of the counts; `ema` only
        restart_threshold: codes whose moving count falls below it take a random token; 0 turns it off; `ema` only
        seed: of the initial codebook and of the restarts
        tile_mb: largest (tokens x K) product in MiB
        """

        dim: int = 8
        codebook_size: int = 4096
        update: Literal["gradient", "ema"] = "gradient"
        beta: float = 0.25
        metric: Literal["euclidean", "cosine"] = "euclidean"
        init: Literal["normal", "uniform", "data", "leech"] = "normal"
        decay: float = 0.99
        eps: float = 1e-5
        restart_threshold: float = 0.1
        seed: int = 0
        tile_mb: float = 256.0

        def __post_init__(self) -> None:
            require_codebook("vq", self.dim, self.codebook_size, self.tile_mb)
            require(self.beta >= 0, "vq", "beta", self.beta, "at least 0")
            require(0 < self.decay < 1, "vq", "decay", self.decay, "between 0 and 1")
            require(self.eps > 0, "vq", "eps", self.eps, "above 0")
            require(self.restart_threshold >= 0, "vq", "restart_threshold", self.restart_threshold, "at least 0")
            if self.init == "leech":
                require(self.dim == 24, "vq", "dim", self.dim, "24 with init: leech")
                require(
                    self.codebook_size <= LEECH_ROWS,
                    "vq",
                    "codebook_size",
                    self.codebook_size,
                    f"at most {LEECH_ROWS} with init: leech",
                )

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.p = parameters
        self.dim = parameters.dim
        self.codebook_size = parameters.codebook_size
        self.normalize = parameters.metric == "cosine"
        weight = _initial(parameters)
        if parameters.update == "ema":
            # As if every code had just restarted: from a count of 1 a code would take hundreds of steps to die.
            self._first_count = parameters.restart_threshold or 1.0
            self._restart_key = seeding.derive(parameters.seed, "restart")
            self.register_buffer("weight", weight)
            self.register_buffer("ema_count", torch.full((self.codebook_size,), self._first_count))
            self.register_buffer("ema_sum", weight * self._first_count)
        else:
            self.weight = nn.Parameter(weight)
        if parameters.update == "ema" or parameters.init == "data":
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        # A Python flag beside the buffer, because reading a buffer stops the device in every step.
        self._waiting = parameters.init == "data"
        self.register_load_state_dict_post_hook(_recall_start)

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:
            u = self._prepare(z)
            tokens = u.reshape(-1, self.dim)
            if self.training and "steps" in self._buffers:
                self._count(tokens.detach())
            codes = self._codes(z.dtype)
            indices = search.nearest(tokens.detach(), codes.detach(), self.p.tile_mb)
            rows = codes[indices] if self.p.update == "gradient" else _kept_rows(codes, indices)
            q = rows.reshape(z.shape)
            commitment = mean_square(u, q.detach())
            loss, terms = self.p.beta * commitment, {"commitment": commitment.detach()}
            if self.p.update == "gradient":
                codebook = mean_square(q, u.detach())
                loss, terms["codebook"] = loss + codebook, codebook.detach()
            elif self.training:
                self._move(tokens.detach(), indices)
            return Quantized(self._through(q.detach(), u), indices.reshape(z.shape[:-1]), loss, terms)

    def encode(self, z: Tensor) -> Tensor:
        self.check_input(z)
        search.check_finite(self.name, z)
        with torch.no_grad(), full_precision(z) as z:
            tokens = self._prepare(z).reshape(-1, self.dim)
            return search.nearest(tokens, self._codes(z.dtype), self.p.tile_mb).reshape(z.shape[:-1])

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self.codebook()[indices]

    def codebook(self) -> Tensor:
        return self._codes(torch.float64 if self.weight.dtype == torch.float64 else torch.float32).detach()

    @property
    def learnable(self) -> frozenset[str]:
        """The moving averages count, and the counter of training steps that restarts and first-batch starts need."""
        moved = {"ema_count", "ema_sum"} if self.p.update == "ema" else set()
        return frozenset({"weight"} | moved | ({"steps"} & set(self._buffers)))

    def definition(self) -> dict[str, Any]:
        return {"metric": self.p.metric}

    def definition_tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def _through(self, q: Tensor, z: Tensor) -> Tensor:
        """The code vectors with the gradient's way to z; q and z (..., d)."""
        return straight_through(q, z)

    def _prepare(self, z: Tensor) -> Tensor:
        return nn.functional.normalize(z, dim=-1) if self.normalize else z

    def _codes(self, dtype: torch.dtype) -> Tensor:
        # Normalised in the codebook's own precision, so that decode and a float64 forward agree.
        weight = self.weight if self.weight.dtype == torch.float64 else self.weight.float()
        if self.normalize:
            weight = nn.functional.normalize(weight, dim=-1)
        return weight.to(dtype)

    @torch.no_grad()
    def _count(self, tokens: Tensor) -> None:
        """Counts a training step; the first one with tokens starts a codebook with `init: data`."""
        if self._waiting:
            counts = token_counts(len(tokens), tokens.device)
            if sum(counts) == 0:
                return
            self.weight.copy_(draws.first_tokens(tokens, counts, self.codebook_size, self.p.seed))
            if self.p.update == "ema":
                self.ema_sum.copy_(self.weight * self._first_count)
            self._waiting = False
        self.steps.add_(1)

    @torch.no_grad()
    def _move(self, tokens: Tensor, indices: Tensor) -> None:
        """One step of the moving averages over the joined batch, then the restart of dead codes."""
        counts = token_counts(len(tokens), tokens.device)
        if sum(counts) == 0:
            return
        tokens = tokens.to(self.ema_sum.dtype)
        new = tokens.new_zeros(self.codebook_size, self.dim + 1)
        new.index_add_(0, indices, torch.cat([tokens, torch.ones_like(tokens[:, :1])], dim=1))
        new = all_sum(new)
        self.ema_count.lerp_(new[:, -1], 1 - self.p.decay)
        self.ema_sum.lerp_(new[:, :-1], 1 - self.p.decay)
        total = self.ema_count.sum()
        smoothed = (self.ema_count + self.p.eps) * (total / (total + self.codebook_size * self.p.eps))
        self.weight.copy_(self.ema_sum / smoothed.unsqueeze(-1))
        if self.p.restart_threshold > 0:
            self._restart(tokens, counts)

    def _restart(self, tokens: Tensor, counts: list[int]) -> None:
        """Codes below the threshold take random tokens of the joined batch: count := threshold, sum := token x it."""
        threshold = self.p.restart_threshold
        dead = self.ema_count < threshold
        drawn = draws.random_tokens(tokens, counts, self.codebook_size, self.steps, self._restart_key)
        # The j-th dead code takes the j-th draw, so no token is taken twice while there are enough.
        drawn = drawn[(dead.cumsum(0) - 1).clamp(min=0)]
        self.weight.copy_(torch.where(dead.unsqueeze(-1), drawn, self.weight))
        self.ema_sum.copy_(torch.where(dead.unsqueeze(-1), drawn * threshold, self.ema_sum))
        self.ema_count.copy_(torch.where(dead, torch.full_like(self.ema_count, threshold), self.ema_count))


@torch.library.custom_op("latticebench::kept_rows", mutates_args=())
def _kept_rows(codes: Tensor, indices: Tensor) -> Tensor:
    """codes[indices], opaque to compilers: one that gathers again in the backward pass would find the moved codebook."""
    return codes[indices]


@_kept_rows.register_fake
def _(codes: Tensor, indices: Tensor) -> Tensor:
    return codes.new_empty(len(indices), codes.shape[1])


def _recall_start(module: VQ, incompatible_keys: Any) -> None:
    module._waiting = module.p.init == "data" and not bool(module.steps)


def _initial(p: Any) -> Tensor:
    shape = (p.codebook_size, p.dim)
    draw = seeding.generator(p.seed, "vq", "initial codebook")
    if p.init == "uniform":
        return (torch.rand(shape, generator=draw) * 2 - 1) / p.codebook_size
    if p.init == "leech":
        from latticebench.lattices import leech

        return leech.vectors(torch.arange(p.codebook_size), codebook="shell")
    return torch.randn(shape, generator=draw) * p.dim**-0.5
