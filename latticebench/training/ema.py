"""A moving average of a model's weights."""

import torch
from torch import Tensor, nn


class Ema:
    """values: the averaged state dict; parameters are averaged, buffers are the model's own.

    decay: at step n (from 0) the smaller of it and (1 + n)/(10 + n), so that a short run forgets its start too.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.values: dict[str, Tensor] = {key: value.detach().clone() for key, value in model.state_dict().items()}
        self._averaged = {name for name, parameter in model.named_parameters() if parameter.requires_grad}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the weights after step `step` in."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for key, value in self.model.state_dict().items():
            if key in self._averaged:
                self.values[key].lerp_(value, share)
            else:
                self.values[key].copy_(value)

    def load(self, values: dict[str, Tensor]) -> None:
        """Raises KeyError or RuntimeError where the values are of another model."""
        for key, value in self.values.items():
            value.copy_(values[key])
