"""Several processes with one batch: `torchrun --nproc-per-node N -m latticebench.tokenizers.train …`.

Each process runs its rows of every batch, gradients are averaged, and what a loss or a codebook computes
over a batch is summed over processes (`latticebench.quantizers.distributed`). So N processes end where one
ends, up to rounding. The first process writes; the others only work. Without torchrun all of this is a no-op.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from latticebench.errors import BadInput

BUCKET_VALUES = 2**23
"""Gradients are averaged in flat pieces of about this many values."""


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Joins the processes that torchrun started, and leaves them at the end.

    Raises BadInput where there are fewer GPUs than processes on this node.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if torch.cuda.is_available():
        own, found = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if own >= found:
            wanted = os.environ.get("LOCAL_WORLD_SIZE", own + 1)
            raise BadInput(f"{wanted} processes share this node's {found} GPU{'s' * (found > 1)}; lower jobs.gpus")
        torch.cuda.set_device(own)
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if size() > 1 else 0


def first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def wait() -> None:
    """Returns when all processes are here."""
    if size() > 1:
        dist.barrier()


def any_of(flag: bool) -> bool:
    """Whether any process says so."""
    if size() == 1:
        return flag
    flags = torch.tensor([int(flag)])
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags.item())


def same(value: int) -> bool:
    """Whether all processes have this value."""
    if size() == 1:
        return True
    extremes = torch.tensor([value, -value])
    dist.all_reduce(extremes, dist.ReduceOp.MAX)
    return extremes[0].item() == -extremes[1].item() == value


@torch.no_grad()
def spread(modules: Iterable[nn.Module]) -> None:
    """Gives all processes the first one's parameters and buffers."""
    if size() == 1:
        return
    for module in modules:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """The gradient of every parameter becomes its mean over processes."""
    if size() == 1:
        return
    gradients: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            gradients.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for same_type in gradients.values():
        for bucket in _buckets(same_type):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat)
            flat /= size()
            for gradient, mean in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(mean.view_as(gradient))


def averaged(values: dict[str, float]) -> dict[str, float]:
    """Scalars of the same names on every process -> their means."""
    if size() == 1:
        return values
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(total)
    return dict(zip(values, (total / size()).tolist(), strict=True))


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    values = 0
    for gradient in gradients:
        if bucket and values + gradient.numel() > BUCKET_VALUES:
            yield bucket
            bucket, values = [], 0
        bucket.append(gradient)
        values += gradient.numel()
    if bucket:
        yield bucket
