"""From logits to tokens in the order of the released code: guidance, top-k, top-p, one draw a token."""

from collections.abc import Iterator

import torch
from torch import Tensor

from latticebench import seeding
from latticebench.errors import BadInput

SAMPLES_AT_ONCE = 16
"""Samples are made in batches of this size, the last one filled up: products of matrices of other sizes round in
other ways, and a sample must not depend on its batch."""
LOGITS_AT_ONCE = 2**26
"""Numbers that a draw has in memory at a time."""

Uniforms = list[torch.Generator]
"""One CPU generator a sample, so that a sample depends on its seed alone and not on its batch."""


def linear(ends: float | tuple[float, float], step: int, steps: int) -> float:
    """A setting at one of `steps` scales: the same everywhere, or linear from the first scale to the last."""
    if not isinstance(ends, tuple | list):
        return float(ends)
    share = step / (steps - 1) if steps > 1 else 0.0
    return ends[0] + (ends[1] - ends[0]) * share


def guided(conditional: Tensor, unconditional: Tensor, strength: float) -> Tensor:
    """s·c + (1 − s)·u. VAR writes (1 + t)·c − t·u: the same with s = 1 + t."""
    return strength * conditional + (1 - strength) * unconditional


def check(temperature: float, top_p: float) -> None:
    """Raises BadInput on settings that mean nothing."""
    if not temperature > 0:
        raise BadInput(f"sampling: temperature must be above 0, got {temperature}; top_k 1 takes the likeliest code")
    if not 0 <= top_p <= 1:
        raise BadInput(f"sampling: top_p must lie in [0, 1], got {top_p}; 0 turns it off")


def guides(guidance: float | tuple[float, float], steps: int, class_drop: float, classes: int) -> bool:
    """Whether any step needs the unguided logits. Raises BadInput where the model cannot give them."""
    if all(linear(guidance, step, steps) == 1 for step in range(steps)):
        return False
    if not classes:
        raise BadInput(f"guidance {guidance}: the model has no classes to be guided by")
    if not class_drop:
        raise BadInput(
            f"guidance {guidance}: the model was trained with class_drop 0, so it knows no distribution without a class"
        )
    return True


def filtered(logits: Tensor, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """logits (..., K) -> the same with what sampling must not pick at −inf; 0 turns either filter off.

    Top-k keeps ties with the k-th largest. Top-p acts on what top-k left: of the values in ascending order, equal
    ones by index, those whose summed probability is at most 1 − p go, but never the largest.
    """
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p > 0:
        ascending, order = logits.sort(dim=-1, stable=True)
        out = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        out[..., -1] = False
        logits = logits.masked_fill(torch.zeros_like(out).scatter(-1, order, out), -torch.inf)
    return logits


def generators(seeds: Tensor) -> Uniforms:
    """A sample's random numbers, from its seed."""
    return [seeding.generator(int(seed), "sample") for seed in seeds]


def draw(logits: Tensor, uniforms: Uniforms) -> Tensor:
    """logits (B, n, K), −inf where excluded -> tokens (B, n) int64; row b uses uniforms[b].

    The Gumbel form is not used: it needs K random numbers a token instead of one.
    """
    probabilities = logits.double().softmax(dim=-1)
    uniform = torch.stack([torch.rand(logits.shape[1], generator=g, dtype=torch.float64) for g in uniforms])
    cumulative = probabilities.cumsum(dim=-1)
    threshold = uniform.to(logits.device)[..., None] * cumulative[..., -1:]
    # `right`: a code of probability zero spans an empty interval and is never drawn.
    return torch.searchsorted(cumulative, threshold, right=True)[..., 0].clamp(max=logits.shape[-1] - 1)


def pick(logits: Tensor, top_k: int, top_p: float, uniforms: Uniforms) -> Tensor:
    """`draw(filtered(logits, top_k, top_p), uniforms)`; with top-k, the rest happens among the k likeliest only."""
    if not 0 < top_k < logits.shape[-1] // 2:
        return draw(filtered(logits, top_k, top_p), uniforms)
    least = logits.topk(top_k, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
    kept = logits >= least
    counts = kept.sum(dim=-1)
    if int(counts.min()) != int(counts.max()):  # ties with the k-th largest
        return draw(filtered(logits, top_k, top_p), uniforms)
    codes = kept.nonzero()[:, -1].view(*logits.shape[:-1], -1)
    values = logits[kept].view_as(codes)
    return codes.gather(-1, draw(filtered(values, 0, top_p), uniforms)[..., None])[..., 0]


def tiles(
    class_ids: Tensor | None, seeds: Tensor, at_once: int = SAMPLES_AT_ONCE
) -> Iterator[tuple[Tensor | None, Tensor, int]]:
    """Class ids (N,) and seeds (N,) in batches of `at_once`, the last filled up by repeats, and how many are meant."""
    for start in range(0, len(seeds), at_once):
        rows = torch.arange(start, start + at_once).clamp(max=len(seeds) - 1)
        ids = None if class_ids is None else class_ids[rows.to(class_ids.device)]
        yield ids, seeds[rows.to(seeds.device)], min(at_once, len(seeds) - start)


def class_drops(seed: int, start: int, count: int, probability: float) -> Tensor:
    """Which of the samples `start` … `start + count − 1` of a run forget their class: bool (count,).

    A function of the sample's place in the run, like the data itself, so resumed and distributed runs agree.
    """
    draws = [seeding.derive(seed, "class drop", place) for place in range(start, start + count)]
    return torch.tensor([value < probability * 2**63 for value in draws], dtype=torch.bool)
