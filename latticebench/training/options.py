"""The recipe of a training: what the `training` part of a configuration says."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch


@dataclasses.dataclass(frozen=True)
class Options:
    """
    steps: optimizer steps
    batch_size: samples a step
    learning_rate: of AdamW at its peak
    warmup_steps: linear rise to the peak
    final_rate: share of the peak that the cosine ends at
    betas: of AdamW
    weight_decay: of AdamW, on all parameters
    clip_norm: gradients are scaled down to this norm; 0 turns it off
    precision: `bf16` autocasts, `auto` does so where a GPU has it, `float32` and `float64` (of the model) never
    log_every: steps between rows of the log
    accumulate: equal parts that a batch is run in, one after the other; memory falls, and what a loss
        computes over its batch (entropies, usage) is of a part
    warmup_from: share of the peak that the rise starts from
    ema: decay of a moving average of the weights; 0 for none
    compile: whether torch.compile compiles the model
    gradient_checkpointing: whether blocks are computed again for the gradient instead of kept
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    final_rate: float
    betas: tuple[float, float]
    weight_decay: float
    clip_norm: float
    precision: Literal["auto", "bf16", "float32", "float64"]
    log_every: int
    accumulate: int = 1
    warmup_from: float = 0.0
    ema: float = 0.0
    compile: bool = False
    gradient_checkpointing: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Options":
        """From a configuration's `training` part; keys that belong to the task alone are left to it."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: tuple(v) if key == "betas" else v for key, v in values.items() if key in names})

    def rate(self, step: int) -> float:
        """Learning rate of step `step` (from 0): linear warm-up, then cosine down to `final_rate` of the peak."""
        warmup = min(self.warmup_steps, self.steps)
        if step < warmup:
            rise = self.learning_rate * (step + 1) / warmup
            return self.warmup_from * self.learning_rate + (1 - self.warmup_from) * rise
        fraction = (step - warmup) / max(self.steps - warmup, 1)
        cosine = 0.5 * (1 + math.cos(math.pi * fraction))
        return self.learning_rate * (self.final_rate + (1 - self.final_rate) * cosine)

    def autocast(self, device: torch.device) -> bool:
        """Whether the forward pass runs in bfloat16 on this device."""
        if self.precision == "auto":
            return device.type == "cuda" and torch.cuda.is_bf16_supported()
        return self.precision == "bf16"
