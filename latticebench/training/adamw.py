"""AdamW: Loshchilov & Hutter, arXiv:1711.05101, over torch's own fused update.

torch.optim.AdamW computes the same (a test compares the bits), but making one imports the compiler:
two seconds in every training job, as much as torch itself.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

EPS = 1e-8


class AdamW:
    """All parameters in one group; `rate` may be set before each step. Decay is decoupled and on every parameter."""

    def __init__(self, parameters: Iterable[Tensor], betas: tuple[float, float], weight_decay: float) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        self.betas = betas
        self.weight_decay = weight_decay
        self.rate = 0.0
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        rows = [
            row
            for row in zip(self.parameters, self.means, self.squares, self.steps, strict=True)
            if row[0].grad is not None
        ]
        parameters, means, squares, steps = ([row[i] for row in rows] for i in range(4))
        adamw(
            parameters,
            [p.grad for p in parameters],
            means,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.rate,
            weight_decay=self.weight_decay,
            eps=EPS,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and step counts, named by the parameter's place."""
        state: dict[str, Tensor] = {}
        for i, (mean, square, step) in enumerate(zip(self.means, self.squares, self.steps, strict=True)):
            state |= {f"{i}/mean": mean, f"{i}/square": square, f"{i}/step": step}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises KeyError or ValueError where the state is of other parameters."""
        own = self.state_dict()
        if own.keys() != state.keys():
            raise KeyError(f"optimizer state of {len(state) // 3} parameters instead of {len(self.parameters)}")
        for key, tensor in own.items():
            if tensor.shape != state[key].shape:
                raise ValueError(f"optimizer state {key} has shape {tuple(state[key].shape)}")
            tensor.copy_(state[key])
