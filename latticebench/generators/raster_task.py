"""A raster transformer's training as a task of the training loop."""

import torch
from torch import Tensor

from latticebench.generators.raster import RasterTransformer
from latticebench.training import sampling
from latticebench.training.loop import Losses


class RasterTask:
    """Cross-entropy of whole token grids, in bits a token.

    digits: (N, positions, n) int64 on any device. class_ids: (N,) int64, or None.
    """

    def __init__(
        self,
        name: str,
        model: RasterTransformer,
        digits: Tensor,
        batch_size: int,
        seed: int,
        class_ids: Tensor | None = None,
    ) -> None:
        self.name, self.model, self.digits, self.class_ids = name, model, digits, class_ids
        self.batch_size, self.seed = batch_size, seed

    def initialize(self) -> None:
        """Starts from the digits' frequencies."""
        self.model.start_from(self.digits)

    def losses(self, step: int, progress: float) -> Losses:
        """One batch. The unit is bits."""
        rows = torch.tensor(
            sampling.sample_indices(self.seed, step * self.batch_size, self.batch_size, len(self.digits))
        )
        rows = rows.to(self.digits.device)
        class_ids = None if self.class_ids is None else self.class_ids[rows]
        return Losses(loss=self.model.loss(class_ids, self.digits[rows]))

    def fingerprint(self) -> str:
        """Of the tokenizer whose tokens are modelled."""
        return self.model.tokenizer
