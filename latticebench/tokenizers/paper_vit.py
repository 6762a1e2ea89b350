"""The ViT tokenizer of BSQ (arXiv:2406.07548) and Λ24-SQ (arXiv:2512.14697), without anything beside it.

Patches enter through a linear map without bias, positions are learned, and the decoder ends in a wide
tanh layer before the linear map to pixels. Inside, pixels lie in [-1, 1].
"""

import dataclasses
from typing import Any

from torch import Tensor, nn

from latticebench.errors import BadInput
from latticebench.nn.vit import GridTransformer, from_patches, to_patches
from latticebench.quantizers import Quantizer
from latticebench.tokenizers.base import Output, Tokenizer


@dataclasses.dataclass(frozen=True)
class Architecture:
    """
    patch: side of a patch in pixels, so the stride
    width, layers, heads: of each transformer (paper: 768, 12, 12; its small one: 512, 8, 8)
    head_width: width of the decoder's tanh layer
    """

    patch: int = 8
    width: int = 768
    layers: int = 12
    heads: int = 12
    head_width: int = 3072


class PaperViTTokenizer(Tokenizer):
    """Patches -> transformer -> linear -> quantizer -> linear -> transformer -> tanh layer -> patches."""

    architecture = "paper-vit"
    pixel_unit = 0.5

    def __init__(self, quantizer: Quantizer, image_size: int, options: Architecture) -> None:
        super().__init__()
        if image_size % options.patch:
            raise BadInput(f"tokenizer.patch: {options.patch} does not divide the image side {image_size}")
        self.quantizer = quantizer
        self.stride = options.patch
        self.image_size = image_size
        self.options = options
        values, dim, width = 3 * options.patch**2, quantizer.dim, options.width
        sizes = (image_size // options.patch, width, options.layers, options.heads)
        self.encoder = GridTransformer(values, dim, *sizes)
        self.encoder.embed = nn.Linear(values, width, bias=False)
        self.decoder = GridTransformer(dim, values, *sizes)
        self.decoder.head = nn.Sequential(
            nn.Linear(width, options.head_width), nn.Tanh(), nn.Linear(options.head_width, values)
        )

    @property
    def pixel_layer(self) -> Tensor:
        return self.decoder.head[-1].weight

    @property
    def latent_layer(self) -> Tensor:
        return self.encoder.head.weight

    def forward(self, images: Tensor) -> Output:
        quantized = self.quantizer(self.encode_features(images))
        return Output(self._decode(quantized.vectors), quantized)

    def encode_features(self, images: Tensor) -> Tensor:
        self.check_images(images)
        h, w = images.shape[2] // self.stride, images.shape[3] // self.stride
        latents = self.encoder(to_patches(images * 2 - 1, self.stride), h, w)
        return latents.unflatten(1, (h, w))

    def decode_features(self, features: Tensor) -> Tensor:
        return self._decode(features).clamp(0, 1)

    def _decode(self, features: Tensor) -> Tensor:
        h, w = features.shape[1:3]
        patches = self.decoder(features.flatten(1, 2), h, w)
        return (from_patches(patches, self.stride, h, w) + 1) / 2

    def definition(self) -> dict[str, Any]:
        """What `tokenizers.load` needs to build the module again."""
        return dataclasses.asdict(self.options)
