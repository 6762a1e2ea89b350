"""Lion: Chen et al., "Symbolic discovery of optimization algorithms" (arXiv:2302.06675), algorithm 2."""

from collections.abc import Iterable

import torch
from torch import Tensor

from latticebench.training.optimizers.base import Base, precise


class Lion(Base):
    """A step of the rate's size along the sign of β1·m + (1 − β1)·g; then m becomes β2·m + (1 − β2)·g."""

    def __init__(
        self, parameters: Iterable[Tensor], betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, weight_decay)
        self.betas = betas
        self.means = [torch.zeros_like(p, dtype=precise(p)) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for i, parameter in self.moved():
            mean, gradient = self.means[i], parameter.grad.to(self.means[i].dtype)
            parameter.add_(mean.lerp(gradient, 1 - self.betas[0]).sign_(), alpha=-self.rate)
            mean.lerp_(gradient, 1 - self.betas[1])

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{i}/mean": mean for i, mean in enumerate(self.means)}
