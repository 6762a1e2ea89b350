"""What the optimizers of this package share: their parameters, and a state of named tensors."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def precise(parameter: Tensor) -> torch.dtype:
    """The type of a parameter's state: float32 at least."""
    return torch.promote_types(parameter.dtype, torch.float32)


class Base:
    """parameters: those that need a gradient; `rate` may be set before each step.

    weight_decay: decoupled, as in AdamW: each step takes rate·weight_decay of a parameter off it.
    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.weight_decay = weight_decay
        self.rate = 0.0

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def moved(self) -> Iterator[tuple[int, Tensor]]:
        """The parameters that have a gradient, with their places; their decay is done."""
        for i, parameter in enumerate(self.parameters):
            if parameter.grad is not None:
                if self.weight_decay:
                    parameter.mul_(1 - self.rate * self.weight_decay)
                yield i, parameter

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that the next step depends on, named by the parameter's place."""
        raise NotImplementedError

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Raises KeyError or ValueError where the state is of other parameters."""
        own = self.state_dict()
        if own.keys() != state.keys():
            wrong = sorted(own.keys() ^ state.keys())
            raise KeyError(f"{type(self).__name__} state of other parameters: {', '.join(wrong[:3])}")
        for key, tensor in own.items():
            if tensor.shape != state[key].shape:
                raise ValueError(f"{type(self).__name__} state {key} has shape {tuple(state[key].shape)}")
            tensor.copy_(state[key])
