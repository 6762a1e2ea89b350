"""Gradient checkpointing: blocks computed again for the gradient instead of kept (Chen et al., arXiv:1604.06174)."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Checkpointed(nn.Module):
    """Runs its stages; in training it may keep only their inputs and compute the rest again for the gradient."""

    gradient_checkpointing: bool = False

    def _stage(self, stage: nn.Module, x: Tensor) -> Tensor:
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(stage, x, use_reentrant=False)
        return stage(x)


def set_gradient_checkpointing(module: nn.Module, on: bool) -> None:
    """Whether the parts of `module` that can do so compute their inner values again for the gradient."""
    for part in module.modules():
        if isinstance(part, Checkpointed):
            part.gradient_checkpointing = on
