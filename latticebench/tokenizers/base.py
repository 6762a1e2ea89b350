"""The tokenizer contract: images to maps of indices and back, whatever lies between.

Images are float32 (B, 3, H, W) in [0, 1] at these doors. A single-scale tokenizer has one index map;
a multi-scale one has a list of them, from coarse to fine, whose code vectors add up to the features.
"""

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from latticebench.quantizers import Quantized, Quantizer


class Output(NamedTuple):
    """What a training step needs: the unclamped reconstruction (B, 3, H, W) and the quantizer's answer."""

    images: Tensor
    quantized: Quantized


class Tokenizer(nn.Module):
    """A subclass sets `quantizer`, `stride` and `image_size`, and implements the three methods below.

    encoder, decoder: the networks before and after the quantizer.
    pixel_layer, latent_layer: weights of the decoder's and of the encoder's last layer, where adaptive losses look.
    pixel_unit: what pixels in [0, 1] are divided by inside, (1, 3, 1, 1) or a number; ℓ1 is measured in it.
    stride: pixels a token side. image_size: side in pixels that it was made for; other multiples of the stride
    may be given. metadata: what tokenizer.json says (subject, seed, spec, data, fingerprint, cost of training).
    """

    architecture: ClassVar[str]

    quantizer: Quantizer
    stride: int
    image_size: int
    pixel_unit: Tensor | float
    encoder: nn.Module
    decoder: nn.Module
    pixel_layer: Tensor
    latent_layer: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.metadata: dict[str, Any] = {}

    # What an architecture implements ------------------------------------------------------------

    def forward(self, images: Tensor) -> Output:
        """images -> Output with gradients; in training mode the quantizer may move its state."""
        raise NotImplementedError

    def encode_features(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> what the quantizer is given, (B, h, w, d)."""
        raise NotImplementedError

    def decode_features(self, features: Tensor) -> Tensor:
        """Code vectors, or their sum over scales, (B, h, w, d) -> images clamped to [0, 1]."""
        raise NotImplementedError

    def initialize(self, images: Tensor, quantized_images: int) -> None:
        """Sets what depends on training images (N, 3, image_size, image_size), before step 0. Default: nothing.

        quantized_images: how many of them may be quantized for it.
        """

    @property
    def networks(self) -> list[nn.Module]:
        """What may be compiled: encoder and decoder, not the quantizer, whose state moves in a forward pass."""
        return [self.encoder, self.decoder]

    # What follows for a single scale, and is overridden by multi-scale tokenizers --------------------

    @property
    def scales(self) -> tuple[int, ...]:
        """Sides of the index maps of an `image_size` image, from coarse to fine."""
        return (self.image_size // self.stride,)

    def encode(self, images: Tensor) -> list[Tensor]:
        """images -> one int64 index map (B, h, w) a scale. Raises TypeError where nothing is quantized."""
        return [self.quantizer.encode(self.encode_features(images))]

    def decode(self, indices: list[Tensor]) -> Tensor:
        """Index maps -> images. Raises ValueError on a wrong number of maps."""
        return self.decode_features(self.partial_sums(indices)[-1])

    def encode_digits(self, images: Tensor) -> list[Tensor]:
        """images -> digits (B, h, w, n) a scale; exists for every K, where `encode` stops at 2^62."""
        return [self.quantizer.encode_digits(self.encode_features(images))]

    def decode_digits(self, digits: list[Tensor]) -> Tensor:
        """Digits of all scales -> images."""
        return self.decode_features(self.quantizer.decode_digits(digits[0]))

    def partial_sums(self, indices: list[Tensor]) -> list[Tensor]:
        """The features (B, h, w, d) after each scale; the last is what `decode_features` takes."""
        if len(indices) != 1:
            raise ValueError(f"{self.architecture}: one index map expected, got {len(indices)}")
        return [self.quantizer.decode(indices[0])]

    def next_input(self, partial_sum: Tensor, scale: int) -> Tensor:
        """The partial sum brought to the side of scale number `scale`: a generator's next input."""
        raise TypeError(f"{self.architecture} has a single scale, so there is no next one")

    def reconstruct(self, images: Tensor) -> Tensor:
        """`decode(encode(images))`, or for `identity` the images through unquantized features."""
        if not self.quantizer.quantizes:
            return self.decode_features(self.encode_features(images))
        return self.decode(self.encode(images))

    def tokens_per_image(self, height: int, width: int) -> int:
        """Tokens of an image of `height` x `width` pixels, all scales together."""
        return (height // self.stride) * (width // self.stride)

    def bits_per_image(self, height: int, width: int) -> float:
        """Nominal bits (tokens x log2 K) of an image of `height` x `width` pixels; infinite for `identity`."""
        return self.tokens_per_image(height, width) * self.quantizer.bits

    # Doors -----------------------------------------------------------------------------------------

    def check_images(self, images: Tensor) -> None:
        """Raises ValueError unless images are floating (B, 3, H, W) with sides divisible by the stride."""
        if not images.is_floating_point() or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be float (B, 3, H, W) in [0, 1], got {images.dtype} {tuple(images.shape)}")
        height, width = images.shape[2:]
        if not height or not width or height % self.stride or width % self.stride:
            raise ValueError(f"image sides {height} x {width} must be multiples of the stride {self.stride}")


def trainable_parameters(tokenizer: nn.Module) -> int:
    """Number of parameters that training moves."""
    return sum(parameter.numel() for parameter in tokenizer.parameters() if parameter.requires_grad)


def device_of(tokenizer: nn.Module) -> torch.device:
    """Where a tokenizer lies."""
    return next(tokenizer.parameters()).device
