"""Infinity's multi-scale BSQ tokenizers: arXiv:2412.04431. Keys as under "vae" in `infinity_vae_d*.pth`.

Bits: coordinate 0 is the most significant. 64 bits have no int64 index: use the tokenizer's `encode_digits`.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from latticebench.errors import BadInput
from latticebench.nn.convolutional import Convolutional
from latticebench.published import convolution_names
from latticebench.published.architecture import agree
from latticebench.published.keys import Released, Source
from latticebench.quantizers import Quantizer, create
from latticebench.tokenizers.convolutional import Architecture as Options
from latticebench.tokenizers.convolutional import MultiScaleTokenizer
from latticebench.tokenizers.residual_scales import Scales

NEEDS_TOKENIZER = False
STAND_INS: tuple[str, ...] = ("argparse.Namespace",)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """None: read from the file's shapes.

    base, multipliers, blocks: of the encoder; the decoder has one block a level more
    latent: number of bits
    scales: sides of the scales, coarse to fine
    image_size: in pixels; by default what the last scale says
    """

    base: int | None = None
    multipliers: tuple[int, ...] | None = None
    blocks: int | None = None
    latent: int | None = None
    scales: tuple[int, ...] = (1, 2, 4, 6, 8, 12, 16)
    image_size: int | None = None


def adapt(state_dict: Mapping[str, Tensor], options: Architecture) -> MultiScaleTokenizer:
    """The tokenizer with the file's weights."""
    released = Released("infinity-tokenizer", state_dict)
    network = encoder_of(released, options, latent=32)
    mask = released.take(released.first("quantizer.lfq.mask", "quantize.lfq.mask"))
    if mask is None:
        raise BadInput("infinity-tokenizer: 1 missing: quantizer.lfq.mask")
    if mask.tolist() != _powers(network.latent):
        raise BadInput(
            f"infinity-tokenizer: 1 misshaped: quantizer.lfq.mask is not {network.latent} powers of two, "
            "most significant first"
        )
    # Infinity's port passes the gradient to the unit residual as it is; the scales see the raw residual.
    quantizer = create("bsq", dim=network.latent, normalize=False, gradient="straight-through")
    return loaded(released, network, quantizer, options)


def encoder_of(released: Released, options, latent: int) -> Convolutional:
    """Encoder and decoder of the options and the file; `latent` where both are silent."""
    suffix = ".conv" if "encoder.conv_in.conv.weight" in released.tensors else ""
    family = convolution_names.Found(base=128, multipliers=(1, 2, 4, 4, 4), blocks=2, latent=latent)
    found = convolution_names.find(released, "encoder.down.{}.block", family, suffix)
    return Convolutional(**agree(released.family, options, found, ("base", "multipliers", "blocks", "latent")))


def loaded(released: Released, network: Convolutional, quantizer: Quantizer, options) -> MultiScaleTokenizer:
    """The multi-scale tokenizer of Infinity and Infinity-CC with the file's weights."""
    scales = Scales(options.scales, up="trilinear", next_input="trilinear")
    size = options.image_size or options.scales[-1] * network.stride
    with torch.device("meta"):
        tokenizer = MultiScaleTokenizer(quantizer, size, Options(network, scales=scales))
    names = convolution_names.wrapped(released, len(network.multipliers))

    def source(name: str) -> Source | None:
        return None if name.startswith("residual.") else names(name)

    released.load(tokenizer, source)
    return tokenizer


def _powers(bits: int) -> list[int]:
    """2^(bits − 1) … 1 as int64 holds them: the sixty-fourth wraps around."""
    return [value - 2**64 if value >= 2**63 else value for value in (2**bit for bit in range(bits - 1, -1, -1))]
