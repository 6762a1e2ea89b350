"""Random choices that depend on a counter in the state dict alone: equal on all devices, processes and resumes."""

import torch
from torch import Tensor

from latticebench import seeding
from latticebench.quantizers import search
from latticebench.quantizers.distributed import all_sum, joined_rows

MASK = 2**32 - 1


def hashed(values: Tensor, key: int) -> Tensor:
    """Non-negative int64 values -> well-mixed 32-bit values in int64.

    Multiply-and-xorshift rounds whose products stay below 2^60: compilers may do as they like on overflow.
    """
    x = (values ^ key) & MASK
    for _ in range(3):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & MASK
    return x ^ (x >> 16)


def shuffled(count: int, counter: Tensor, key: int) -> Tensor:
    """A permutation of range(count), int64 (count,), fixed by the counter (an int64 scalar) and a derived seed."""
    places = torch.arange(count, device=counter.device)
    return hashed(hashed(places, key & MASK) + hashed(counter, key >> 32), 0).argsort(stable=True)


def random_tokens(tokens: Tensor, counts: list[int], wanted: int, counter: Tensor, key: int) -> Tensor:
    """`wanted` random rows (wanted, d) of the joined batch, each once before any comes twice.

    tokens (n, d) of this process; counts: tokens on each process, their sum at least 1; counter and key: `shuffled`.
    """
    order = shuffled(sum(counts), counter, key)
    positions = order[torch.arange(wanted, device=order.device) % len(order)]
    return joined_rows(tokens, positions, counts)


def first_tokens(tokens: Tensor, counts: list[int], wanted: int, seed: int) -> Tensor:
    """Initial centres (wanted, d): random tokens of the first joined batch.

    With fewer tokens than `wanted` they repeat, and N(0, 0.01²) is added to all (arXiv:2602.16086's code).
    """
    zero = torch.zeros((), dtype=torch.int64, device=tokens.device)
    centres = random_tokens(tokens, counts, wanted, zero, seeding.derive(seed, "first tokens"))
    if sum(counts) < wanted:
        noise = torch.randn(centres.shape, generator=seeding.generator(seed, "first tokens", "noise"))
        centres = centres + 0.01 * noise.to(centres)
    return centres


def lloyd(tokens: Tensor, centres: Tensor, tile_mb: float, steps: int = 10) -> Tensor:
    """Lloyd's k-means from the given centres (K, d) on the joined batch of tokens (n, d); empty cells stay."""
    for _ in range(steps):
        cells = search.nearest(tokens, centres, tile_mb)
        sums = tokens.new_zeros(len(centres), tokens.shape[1] + 1)
        sums.index_add_(0, cells, torch.cat([tokens, torch.ones_like(tokens[:, :1])], dim=1))
        sums = all_sum(sums)
        size = sums[:, -1:]
        centres = torch.where(size > 0, sums[:, :-1] / size.clamp(min=1), centres)
    return centres
