"""Sums over the joined batch of all processes; without a process group each function is a no-op.

The backward pass of `all_sum` sums the gradients of all processes. Under DistributedDataParallel,
which averages parameter gradients, a loss of a joined mean then has the gradient of one process
with the joined batch.
"""

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

_alone = False


def active() -> bool:
    """Whether there is a process group of more than one process, and this one is not `alone`."""
    return not _alone and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside the block this process takes its own batch for the whole: what all processes do alike is done once."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def all_sum(x: Tensor, joined: bool = True) -> Tensor:
    """x of one shape on every process -> its sum over processes, differentiable; x itself where not `joined`.

    Quantizers join in training mode only: in evaluation the processes may see different numbers of batches.
    """
    return _AllSum.apply(x) if joined and active() else x


def token_counts(count: int, device: torch.device) -> list[int]:
    """The number of tokens on each process, in rank order."""
    if not active():
        return [count]
    counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=device)
    counts[dist.get_rank()] = count
    dist.all_reduce(counts)
    return counts.tolist()


def joined_mean(sums: Tensor, count: int, joined: bool) -> Tensor:
    """Sums over `count` local tokens -> the mean over the joined batch; zero where there are no tokens."""
    if joined and active():
        count = sum(token_counts(count, sums.device))
    return all_sum(sums, joined) / max(count, 1)


def joined_rows(rows: Tensor, positions: Tensor, counts: list[int]) -> Tensor:
    """Rows of the joined batch: rows (n, d) of this process, positions (m,) in rank order -> (m, d), no gradient."""
    rows = rows.detach()
    if len(counts) == 1:
        return rows[positions]
    offset = sum(counts[: dist.get_rank()])
    local = (positions >= offset) & (positions < offset + len(rows))
    found = rows.new_zeros(len(positions), rows.shape[1])
    found[local] = rows[positions[local] - offset]
    dist.all_reduce(found)
    return found


def gathered(x: Tensor) -> Tensor:
    """x of one shape on every process -> all of them after one another in rank order, no gradient; x itself alone."""
    if not active():
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)
