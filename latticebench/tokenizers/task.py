"""A tokenizer's training as a task of the training loop."""

import logging

import numpy as np
import torch

from latticebench import seeding
from latticebench.tokenizers.base import Tokenizer, device_of
from latticebench.tokenizers.losses.objective import Objective
from latticebench.tokenizers.losses.options import Options
from latticebench.tokenizers.usage import Usage
from latticebench.training import sampling
from latticebench.training.loop import WHOLE, Losses, Part

log = logging.getLogger(__name__)

INITIAL_IMAGES = 1024
"""Training images that the initial statistics are taken from, at most."""
INITIAL_TOKENS = 8192
"""Tokens that the initial least squares quantizes, at most: with large codebooks more would take many steps' time."""


class TokenizerTask:
    """A recipe's losses plus the quantizer's own terms, on random crops and flips of the training images.

    images: (N, H, W, 3) uint8 with sides of at least the tokenizer's `image_size`. objective: default: ℓ1 alone.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Tokenizer,
        images: np.ndarray,
        batch_size: int,
        flips: bool,
        seed: int,
        objective: Objective | None = None,
    ) -> None:
        self.name = name
        self.model = tokenizer
        self.images = images
        self.batch_size = batch_size
        self.flips = flips
        self.seed = seed
        self.objective = objective or Objective(Options(), tokenizer, seed)
        self.companions = self.objective.companions
        self.compiled = tokenizer.networks
        self.usage = Usage(name, tokenizer.quantizer.codebook_size)

    def initialize(self) -> None:
        """Lets the tokenizer look at centre crops of training images spread over the whole split."""
        tokenizer = self.model
        if type(tokenizer).initialize is Tokenizer.initialize:
            return
        side = tokenizer.image_size
        top, left = ((extent - side) // 2 for extent in self.images.shape[1:3])
        rows = np.linspace(0, len(self.images) - 1, min(len(self.images), INITIAL_IMAGES)).round().astype(int)
        # Shuffled, because the tokenizer may quantize the first of them only.
        rows = rows[torch.randperm(len(rows), generator=seeding.generator(self.seed, "initial images")).numpy()]
        crops = np.stack([self.images[row, top : top + side, left : left + side] for row in rows])
        images = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255)
        images = images.to(device_of(tokenizer), next(tokenizer.parameters()).dtype)
        tokenizer.initialize(images, max(1, INITIAL_TOKENS // tokenizer.tokens_per_image(side, side)))

    def losses(self, step: int, progress: float, part: Part = WHOLE) -> Losses:
        """A batch, or a part of one. Terms: the recipe's, `quantizer` and its parts as `term/<name>`, and the codes used."""
        tokenizer = self.model
        tokenizer.quantizer.set_progress(progress)
        rows = part.rows(self.batch_size)
        first = step * self.batch_size + rows.start
        side = tokenizer.image_size
        images = sampling.cropped(self.images, self.seed, first, len(rows), side, self.flips)
        images = images.to(device_of(tokenizer), next(tokenizer.parameters()).dtype, non_blocking=True)
        output = tokenizer(images)
        losses = self.objective.losses(images, output, step)
        return Losses(**losses, **self.usage(output.quantized.indices, step))

    def after_backward(self, step: int, progress: float, share: float) -> Losses:
        """The discriminator's turn, where the recipe has one."""
        return self.objective.discriminate(step, share)

    def fingerprint(self) -> str:
        return self.model.quantizer.fingerprint
