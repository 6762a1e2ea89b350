"""From logits to tokens in the order of the released code: guidance, top-k, top-p, one draw a token."""

import torch
from torch import Tensor

from latticebench import seeding


def linear(ends: float | tuple[float, float], step: int, steps: int) -> float:
    """A setting at one of `steps` scales: the same everywhere, or linear from the first scale to the last."""
    if not isinstance(ends, tuple):
        return float(ends)
    share = step / (steps - 1) if steps > 1 else 0.0
    return ends[0] + (ends[1] - ends[0]) * share


def guided(conditional: Tensor, unconditional: Tensor, strength: float) -> Tensor:
    """s·c + (1 − s)·u. VAR writes (1 + t)·c − t·u: the same with s = 1 + t."""
    return strength * conditional + (1 - strength) * unconditional


def filtered(logits: Tensor, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """logits (..., K) -> the same with what sampling must not pick at −inf; 0 turns either filter off.

    Top-k keeps ties with the k-th largest. Top-p acts on what top-k left: of the values in ascending order those
    whose summed probability is at most 1 − p go, but never the largest.
    """
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p > 0:
        ascending, order = logits.sort(dim=-1)
        out = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        out[..., -1] = False
        logits = logits.masked_fill(torch.zeros_like(out).scatter(-1, order, out), -torch.inf)
    return logits


def generators(seeds: Tensor) -> list[torch.Generator]:
    """One CPU generator a sample, so that a sample depends on its seed alone and not on its batch."""
    return [seeding.generator(int(seed), "sample") for seed in seeds]


def draw(logits: Tensor, generators: list[torch.Generator]) -> Tensor:
    """logits (B, n, K), −inf where excluded -> tokens (B, n) int64; row b uses generators[b].

    The Gumbel form is not used: it needs K random numbers a token instead of one.
    """
    probabilities = logits.double().softmax(dim=-1)
    uniform = torch.stack([torch.rand(logits.shape[1], generator=g, dtype=torch.float64) for g in generators])
    cumulative = probabilities.cumsum(dim=-1)
    threshold = uniform.to(logits.device)[..., None] * cumulative[..., -1:]
    # `right`: a code of probability zero spans an empty interval and is never drawn.
    return torch.searchsorted(cumulative, threshold, right=True)[..., 0].clamp(max=logits.shape[-1] - 1)
