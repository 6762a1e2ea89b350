"""Where a step that is not finite went wrong: the step is run again with an eye on every layer."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from latticebench.errors import LatticebenchError
from latticebench.quantizers.distributed import alone
from latticebench.training.task import Losses, Task, modules


def first_not_finite(task: Task, again: Callable[[], Losses]) -> str | None:
    """Names the first layer whose output is not finite, or else the parameter nearest to the loss whose gradient is
    not; None where all are finite.

    again: the forward pass of the bad step. It may move buffers: the training is over. What it raises is raised here
    where no layer before was found.
    """
    named = [(f"{name}.{key}".strip("."), m) for name, top in modules(task).items() for key, m in top.named_modules()]
    found: list[str] = []
    # Alone, because other processes do not come along.
    with alone(), _watched(named, found):
        try:
            losses = again()
        except (LatticebenchError, ValueError, RuntimeError, IndexError):
            # Layers after the one that is found may refuse their input.
            if not found:
                raise
    if found:
        return f"the output of {found[0] or 'the model'}"
    with _watched_gradients(task, found):
        losses["loss"].backward()
    return f"the gradient of {found[0]}" if found else None


@contextlib.contextmanager
def _watched(named: Iterable[tuple[str, nn.Module]], found: list[str]) -> Iterator[None]:
    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not all(_finite(tensor) for tensor in _tensors(output)):
                found.append(name)

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in named]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _watched_gradients(task: Task, found: list[str]) -> Iterator[None]:
    """The backward pass reaches parameters in its own order, from the loss on."""

    def hook(name: str) -> Callable[[Tensor], None]:
        def note(parameter: Tensor) -> None:
            if not found and not _finite(parameter.grad):
                found.append(name)

        return note

    handles = [
        parameter.register_post_accumulate_grad_hook(hook(f"{name}.{key}".strip(".")))
        for name, top in modules(task).items()
        for key, parameter in top.named_parameters()
        if parameter.requires_grad
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for part in output.values():
            yield from _tensors(part)
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _tensors(part)


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
