"""SimVQ's tokenizers at 128 px: arXiv:2411.02038. Keys as under "state_dict" of `vq_log/simvq_*`.

The codebook is embedding·Wᵀ + b. The moving average is taken where the file has one; it does not cover the
frozen embedding.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from latticebench.nn.convolutional import Convolutional
from latticebench.published import convolution_names, lightning
from latticebench.published.architecture import agree
from latticebench.published.keys import Source
from latticebench.quantizers import create
from latticebench.tokenizers.convolutional import Architecture as Options
from latticebench.tokenizers.convolutional import ConvolutionalTokenizer

NEEDS_TOKENIZER = False
STAND_INS: tuple[str, ...] = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
)

_BASIS = "quantize.embedding.weight"
_QUANTIZER = {
    "quantizer.basis": _BASIS,
    "quantizer.projection.weight": "quantize.embedding_proj.weight",
    "quantizer.projection.bias": "quantize.embedding_proj.bias",
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """None: read from the file's shapes.

    base, multipliers, blocks: of the encoder; the decoder and the middle have as many blocks
    latent, codebook_size: of the codebook
    weights: moving average (`ema`) or `raw`; by default the average where the file has it
    image_size: in pixels
    """

    base: int | None = None
    multipliers: tuple[int, ...] | None = None
    blocks: int | None = None
    latent: int | None = None
    codebook_size: int | None = None
    weights: lightning.Weights | None = None
    image_size: int = 128


def adapt(state_dict: Mapping[str, Tensor], options: Architecture) -> ConvolutionalTokenizer:
    """The tokenizer with the file's weights."""
    released, average = lightning.opened("simvq", state_dict, options.weights)
    family = convolution_names.Found(base=128, multipliers=(1, 2, 2, 4), blocks=2, latent=128)
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
    )
    size = options.codebook_size or released.shape(_BASIS, (65536, network.latent))[0]
    quantizer = create("simvq", dim=network.latent, codebook_size=size, bias=True)
    with torch.device("meta"):
        tokenizer = ConvolutionalTokenizer(quantizer, options.image_size, Options(network))
    names = convolution_names.magvit(len(network.multipliers))

    def source(name: str) -> Source | None:
        return Source((_QUANTIZER[name],)) if name in _QUANTIZER else names(name)

    released.load(tokenizer, lightning.from_average(source, frozen=(_BASIS,)) if average else source)
    return tokenizer
