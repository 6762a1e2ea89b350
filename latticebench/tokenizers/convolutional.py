"""A convolutional encoder and decoder around a quantizer, at one scale or as a residual over several.

One class covers the equal-budget backbone of LGQ (arXiv:2602.16086) and the released tokenizers of VAR,
Infinity, Infinity-CC, Open-MAGVIT2, SimVQ and LlamaGen; `latticebench.nn.convolutional` says how they
differ.
"""

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latticebench.errors import BadInput
from latticebench.nn.convolutional import Convolutional, ConvolutionalDecoder, ConvolutionalEncoder, group_norm
from latticebench.quantizers import Quantizer
from latticebench.quantizers.base import MAX_INDEX_SIZE
from latticebench.tokenizers.base import Output, Tokenizer
from latticebench.tokenizers.residual_scales import ResidualScales, Scales

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """
    network: encoder and decoder
    projection: kernel of a convolution from `network.latent` channels to the quantizer's dimension and of one back;
        None for neither, the two are equal then
    latent_norm: a group norm right before the quantizer, as in the equal-budget comparison
    scales: the schedule of a multi-scale residual tokenizer; None for one scale
    pixels: what the networks see: pixels in [-1, 1], or with ImageNet's mean and deviation taken off
    """

    network: Convolutional
    projection: int | None = None
    latent_norm: bool = False
    scales: Scales | None = None
    pixels: Literal["signed", "imagenet"] = "signed"

    @classmethod
    def from_definition(cls, definition: dict[str, Any]) -> "Architecture":
        """The inverse of `dataclasses.asdict`, from JSON too."""
        network = {**definition["network"], "multipliers": tuple(definition["network"]["multipliers"])}
        scales = definition.get("scales")
        return cls(
            network=Convolutional(**network),
            projection=definition.get("projection"),
            latent_norm=definition.get("latent_norm", False),
            scales=Scales(**{**scales, "sides": tuple(scales["sides"])}) if scales else None,
            pixels=definition.get("pixels", "signed"),
        )


class ConvolutionalTokenizer(Tokenizer):
    """Encoder, optional projection, quantizer, projection back, decoder; one index map an image."""

    architecture = "convolutional"

    def __init__(self, quantizer: Quantizer, image_size: int, options: Architecture) -> None:
        super().__init__()
        network, dim = options.network, quantizer.dim
        if options.projection is None and network.latent != dim:
            raise BadInput(
                f"convolutional tokenizer: latent {network.latent} differs from the quantizer's dim {dim}; "
                "set `projection`, or make them equal"
            )
        if image_size % network.stride:
            raise BadInput(f"convolutional tokenizer: image side {image_size} is no multiple of {network.stride}")
        self.stride = network.stride
        self.image_size = image_size
        self.options = options
        self.encoder = ConvolutionalEncoder(network)
        self.decoder = ConvolutionalDecoder(network)
        self.project, self.unproject = _projections(network.latent, dim, options.projection)
        self.latent_norm = group_norm(dim) if options.latent_norm else nn.Identity()
        self._hold(quantizer, options)

    def _hold(self, quantizer: Quantizer, options: Architecture) -> None:
        if options.scales is not None:
            raise BadInput("convolutional tokenizer: a schedule of scales needs the multi-scale tokenizer")
        self.quantizer = quantizer

    def forward(self, images: Tensor) -> Output:
        quantized = self.quantizer(self.encode_features(images))
        return Output(self._decode(quantized.vectors), quantized)

    def encode_features(self, images: Tensor) -> Tensor:
        self.check_images(images)
        features = self.latent_norm(self.project(self.encoder(self._inside(images))))
        return features.permute(0, 2, 3, 1).contiguous()

    def decode_features(self, features: Tensor) -> Tensor:
        return self._decode(features).clamp(0, 1)

    def _decode(self, features: Tensor) -> Tensor:
        pixels = self.decoder(self.unproject(features.permute(0, 3, 1, 2).contiguous()))
        if self.options.pixels == "signed":
            return (pixels + 1) / 2
        return pixels * self.pixel_unit + _channels(IMAGENET_MEAN, pixels)

    @property
    def pixel_layer(self) -> Tensor:
        return self.decoder.conv_out.weight

    @property
    def latent_layer(self) -> Tensor:
        return self.encoder.conv_out.weight

    @property
    def pixel_unit(self) -> Tensor | float:
        return 0.5 if self.options.pixels == "signed" else _channels(IMAGENET_DEVIATION, self.decoder.conv_in.weight)

    def _inside(self, images: Tensor) -> Tensor:
        if self.options.pixels == "signed":
            return images * 2 - 1
        return (images - _channels(IMAGENET_MEAN, images)) / self.pixel_unit

    def definition(self) -> dict[str, Any]:
        """What `tokenizers.load` needs to build the module again."""
        return dataclasses.asdict(self.options)


class MultiScaleTokenizer(ConvolutionalTokenizer):
    """The same with a residual quantizer over several scales; images are squares of `image_size`."""

    architecture = "multi-scale"

    residual: ResidualScales

    def _hold(self, quantizer: Quantizer, options: Architecture) -> None:
        if options.scales is None:
            raise BadInput("multi-scale tokenizer: `scales` is missing")
        if options.scales.sides[-1] != self.image_size // self.stride:
            raise BadInput(
                f"multi-scale tokenizer: the last scale has side {options.scales.sides[-1]}, "
                f"the features of a {self.image_size} px image {self.image_size // self.stride}"
            )
        self.residual = ResidualScales(quantizer, options.scales)

    @property
    def quantizer(self) -> Quantizer:
        """The base quantizer, the same at every scale."""
        return self.residual.quantizer

    @property
    def scales(self) -> tuple[int, ...]:
        return self.residual.scales.sides

    def forward(self, images: Tensor) -> Output:
        quantized = self.residual(self.encode_features(images).permute(0, 3, 1, 2))
        vectors = quantized.vectors.permute(0, 2, 3, 1)
        return Output(self._decode(vectors), quantized._replace(vectors=vectors))

    def encode(self, images: Tensor) -> list[Tensor]:
        return self.residual.encode(self.encode_features(images).permute(0, 3, 1, 2))

    def encode_digits(self, images: Tensor) -> list[Tensor]:
        """images -> digits (B, side, side, n) a scale; exists for every K."""
        return self.residual.encode_digits(self.encode_features(images).permute(0, 3, 1, 2))

    def decode_digits(self, digits: list[Tensor]) -> Tensor:
        """Digits of all scales -> images."""
        self._check_maps(digits, len(self.scales))
        return self.decode_features(self.residual.partial_sums_of_digits(digits)[-1].permute(0, 2, 3, 1))

    def decode(self, indices: list[Tensor]) -> Tensor:
        self._check_maps(indices, len(self.scales))
        return super().decode(indices)

    def partial_sums(self, indices: list[Tensor]) -> list[Tensor]:
        """Index maps of the first scales -> the features (B, s, s, d) after each."""
        self._check_maps(indices, len(indices))
        return [total.permute(0, 2, 3, 1) for total in self.residual.partial_sums(indices)]

    def next_input(self, partial_sum: Tensor, scale: int) -> Tensor:
        """(B, s, s, d) -> (B, side, side, d) at the side of scale number `scale`."""
        return self.residual.next_input(partial_sum.permute(0, 3, 1, 2), scale).permute(0, 2, 3, 1)

    def reconstruct(self, images: Tensor) -> Tensor:
        if self.quantizer.quantizes and self.quantizer.codebook_size > MAX_INDEX_SIZE:
            return self.decode_digits(self.encode_digits(images))
        return super().reconstruct(images)

    def tokens_per_image(self, height: int, width: int) -> int:
        if (height, width) != (self.image_size, self.image_size):
            raise ValueError(f"a multi-scale tokenizer takes {self.image_size} px squares, got {height} x {width}")
        return self.residual.scales.tokens

    def _check_maps(self, maps: list[Tensor], expected: int) -> None:
        sides = [tuple(m.shape[1:3]) for m in maps]
        if len(maps) != expected or not maps or sides != [(s, s) for s in self.scales[: len(maps)]]:
            raise ValueError(f"index maps of sides {self.scales[:expected]} expected, got {sides}")


def build(quantizer: Quantizer, image_size: int, options: Architecture) -> ConvolutionalTokenizer:
    """The multi-scale tokenizer where `options` has scales, else the single-scale one."""
    kind = ConvolutionalTokenizer if options.scales is None else MultiScaleTokenizer
    return kind(quantizer, image_size, options)


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).reshape(1, 3, 1, 1)


def _projections(latent: int, dim: int, kernel: int | None) -> tuple[nn.Module, nn.Module]:
    if kernel is None:
        return nn.Identity(), nn.Identity()
    padding = kernel // 2
    return nn.Conv2d(latent, dim, kernel, padding=padding), nn.Conv2d(dim, latent, kernel, padding=padding)
