"""Muon: Jordan et al., https://kellerjordan.github.io/posts/muon/, over torch's own update.

torch.optim.Muon computes the same (a test compares the bits), but making one imports the compiler: two seconds in
every training job, as much as torch itself.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim._muon import DEFAULT_A, DEFAULT_B, DEFAULT_C, DEFAULT_NS_STEPS, EPS, muon

from latticebench.training.optimizers.base import Base


class Muon(Base):
    """Momentum (Nesterov's), made nearly orthogonal by five Newton–Schulz steps in bfloat16; for matrices alone.

    The rate is scaled by √max(1, d_out/d_in), as in the post.
    """

    def __init__(self, parameters: Iterable[Tensor], momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, weight_decay)
        if any(p.ndim != 2 for p in self.parameters):
            raise ValueError("Muon moves matrices only")
        self.momentum = momentum
        self.momenta = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        places = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        muon(
            [self.parameters[i] for i in places],
            [self.parameters[i].grad for i in places],
            [self.momenta[i] for i in places],
            lr=self.rate,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            nesterov=True,
            ns_coefficients=(DEFAULT_A, DEFAULT_B, DEFAULT_C),
            ns_steps=DEFAULT_NS_STEPS,
            eps=EPS,
            adjust_lr_fn="original",
            has_complex=False,
        )

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{i}/momentum": momentum for i, momentum in enumerate(self.momenta)}
