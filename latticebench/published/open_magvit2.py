"""Open-MAGVIT2's LFQ tokenizers: arXiv:2409.04410. Keys as under "state_dict" of `imagenet_*_L.ckpt`.

Bits: coordinate 0 is the least significant. The moving average is taken where the file has one.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from latticebench.nn.convolutional import Convolutional
from latticebench.published import convolution_names, lightning
from latticebench.published.architecture import agree
from latticebench.quantizers import create
from latticebench.tokenizers.convolutional import Architecture as Options
from latticebench.tokenizers.convolutional import ConvolutionalTokenizer

NEEDS_TOKENIZER = False
STAND_INS: tuple[str, ...] = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """None: read from the file's shapes.

    base, multipliers, blocks: of the encoder; the decoder and the middle have as many blocks
    latent: number of bits
    weights: moving average (`ema`) or `raw`; by default the average where the file has it
    image_size: in pixels
    """

    base: int | None = None
    multipliers: tuple[int, ...] | None = None
    blocks: int | None = None
    latent: int | None = None
    weights: lightning.Weights | None = None
    image_size: int = 256


def adapt(state_dict: Mapping[str, Tensor], options: Architecture) -> ConvolutionalTokenizer:
    """The tokenizer with the file's weights."""
    released, average = lightning.opened("open-magvit2", state_dict, options.weights)
    family = convolution_names.Found(base=128, multipliers=(1, 1, 2, 2, 4), blocks=4, latent=18)
    found = convolution_names.find(released, "encoder.down.{}.block", family)
    values = agree(released.family, options, found, ("base", "multipliers", "blocks", "latent"))
    network = Convolutional(
        **values,
        decoder_blocks=values["blocks"],
        middle=values["blocks"],
        bias=False,
        down="centred",
        up="depth-to-space",
        latent_kernel=1,
        adaptive=True,
    )
    quantizer = create("lfq", dim=network.latent, first_bit="least")
    with torch.device("meta"):
        tokenizer = ConvolutionalTokenizer(quantizer, options.image_size, Options(network))
    names = convolution_names.magvit(len(network.multipliers))
    released.load(tokenizer, lightning.from_average(names, frozen=()) if average else names)
    return tokenizer
