"""LlamaGen's VQ tokenizers: arXiv:2406.06525. Keys as under "ema", "model" or "state_dict" of `vq_ds*_c2i.pt`.

Vectors and codes are brought to unit length before the search, and the unit row is the code.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from latticebench.nn.convolutional import Convolutional
from latticebench.published import convolution_names
from latticebench.published.architecture import agree
from latticebench.published.keys import Released, Source
from latticebench.quantizers import create
from latticebench.tokenizers.convolutional import Architecture as Options
from latticebench.tokenizers.convolutional import ConvolutionalTokenizer

NEEDS_TOKENIZER = False
STAND_INS: tuple[str, ...] = ("argparse.Namespace",)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """None: read from the file's shapes.

    base, multipliers, blocks: of the encoder; the decoder has one block a level more
    latent: channels between encoder and decoder
    dim, codebook_size: of the codebook
    image_size: in pixels
    """

    base: int | None = None
    multipliers: tuple[int, ...] | None = None
    blocks: int | None = None
    latent: int | None = None
    dim: int | None = None
    codebook_size: int | None = None
    image_size: int = 256


def adapt(state_dict: Mapping[str, Tensor], options: Architecture) -> ConvolutionalTokenizer:
    """The tokenizer with the file's weights."""
    released = Released("llamagen", state_dict, needless=[r"quantize\.codebook_used$"])
    family = convolution_names.Found(base=128, multipliers=(1, 1, 2, 2, 4), blocks=2, latent=256)
    found = convolution_names.find(released, "encoder.conv_blocks.{}.res", family)
    values = agree(released.family, options, found, ("base", "multipliers", "blocks", "latent"))
    network = Convolutional(**values, attention=True)
    shape = released.shape("quantize.embedding.weight", (16384, 8))
    quantizer = create(
        "vq", dim=options.dim or shape[-1], codebook_size=options.codebook_size or shape[0], metric="cosine"
    )
    with torch.device("meta"):
        tokenizer = ConvolutionalTokenizer(quantizer, options.image_size, Options(network, projection=1))
    names = convolution_names.llamagen()

    def source(name: str) -> Source | None:
        if name.startswith(("project.", "unproject.")):
            stem, leaf = name.split(".")
            return Source(({"project": "quant_conv.", "unproject": "post_quant_conv."}[stem] + leaf,))
        return Source(("quantize.embedding.weight",)) if name == "quantizer.weight" else names(name)

    released.load(tokenizer, source)
    return tokenizer
