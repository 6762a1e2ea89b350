"""A ViT encoder and decoder around a quantizer, with an optional linear path beside them."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from latticebench.errors import BadInput
from latticebench.nn.vit import GridTransformer, from_patches, to_patches
from latticebench.quantizers import Quantizer
from latticebench.tokenizers.base import Output, Tokenizer
from latticebench.tokenizers.linear_path import LinearPath


@dataclasses.dataclass(frozen=True)
class Architecture:
    """
    patch: side of a patch in pixels, so the stride
    width: of the transformers
    layers: blocks in each of encoder and decoder
    heads: of attention
    linear_path: a linear encoder and decoder beside the transformers, started from the training data
    """

    patch: int
    width: int
    layers: int
    heads: int
    linear_path: bool


class ViTTokenizer(Tokenizer):
    """Patches -> transformer -> quantizer -> transformer -> patches; pixels are standardised inside.

    With `linear_path` the transformers start at zero beside it (see `linear_path.py`).
    """

    architecture = "vit"

    def __init__(self, quantizer: Quantizer, image_size: int, options: Architecture, seed: int) -> None:
        super().__init__()
        if image_size % options.patch:
            raise BadInput(f"tokenizer.patch: {options.patch} does not divide the image side data.size = {image_size}")
        if options.width % options.heads:
            raise BadInput(f"tokenizer.width: {options.width} is not divisible by tokenizer.heads = {options.heads}")
        self.quantizer = quantizer
        self.stride = options.patch
        self.image_size = image_size
        self.options = options
        grid, values, dim = image_size // options.patch, 3 * options.patch**2, quantizer.dim
        sizes = (grid, options.width, options.layers, options.heads)
        self.register_buffer("pixel_mean", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("pixel_std", torch.full((1, 3, 1, 1), 0.25))
        self.encoder = GridTransformer(values, dim, *sizes)
        self.decoder = GridTransformer(dim, values, *sizes)
        self.linear = LinearPath(values, dim, grid, seed) if options.linear_path else None
        if self.linear is not None:
            for head in (self.encoder.head, self.decoder.head):
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    @property
    def pixel_layer(self) -> Tensor:
        return self.decoder.head.weight

    @property
    def latent_layer(self) -> Tensor:
        return self.encoder.head.weight

    @property
    def pixel_unit(self) -> Tensor:
        """The training pixels' deviation a channel, (1, 3, 1, 1)."""
        return self.pixel_std

    def forward(self, images: Tensor) -> Output:
        quantized = self.quantizer(self.encode_features(images))
        return Output(self._decode(quantized.vectors), quantized)

    def encode_features(self, images: Tensor) -> Tensor:
        self.check_images(images)
        h, w = images.shape[2] // self.stride, images.shape[3] // self.stride
        patches = to_patches(self._standardised(images), self.stride)
        latents = self.encoder(patches, h, w)
        if self.linear is not None:
            latents = latents + self.linear.encode(patches, h, w)
        return latents.reshape(len(images), h, w, -1)

    def decode_features(self, features: Tensor) -> Tensor:
        return self._decode(features).clamp(0, 1)

    def _decode(self, features: Tensor) -> Tensor:
        b, h, w, dim = features.shape
        tokens = features.reshape(b, h * w, dim).to(self.pixel_mean.dtype)
        if self.linear is None:
            patches = self.decoder(tokens, h, w)
        else:
            tokens = self.linear.centre(tokens, h, w)
            patches = self.decoder(tokens, h, w) + self.linear.decode(tokens, h, w)
        return from_patches(patches, self.stride, h, w) * self.pixel_std + self.pixel_mean

    def _standardised(self, images: Tensor) -> Tensor:
        return (images - self.pixel_mean) / self.pixel_std

    @torch.no_grad()
    def initialize(self, images: Tensor, quantized_images: int) -> None:
        """Sets what depends on training images (N, 3, image_size, image_size): pixel statistics and linear path.

        quantized_images: how many of them the linear decoder's least squares may quantize.
        """
        self.pixel_mean.copy_(images.mean((0, 2, 3), keepdim=True))
        self.pixel_std.copy_(images.std((0, 2, 3), keepdim=True).clamp(min=1e-3))
        if self.linear is not None:
            patches = to_patches(self._standardised(images), self.stride)
            self.linear.initialize(patches, self.quantizer, quantized_images)

    def definition(self) -> dict[str, Any]:
        """What `tokenizers.load` needs to build the module again."""
        return dataclasses.asdict(self.options)
