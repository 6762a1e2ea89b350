"""VAR's multi-scale VQ tokenizer: arXiv:2404.02905. Keys as in `vae_ch160v4096z32.pth`, a bare state dict."""

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
from latticebench.tokenizers.convolutional import MultiScaleTokenizer
from latticebench.tokenizers.residual_scales import Scales

NEEDS_TOKENIZER = False
STAND_INS: tuple[str, ...] = ()

_PHI = "quantize.quant_resi.qresi_ls."


@dataclasses.dataclass(frozen=True)
class Architecture:
    """None: read from the file's shapes.

    base, multipliers, blocks: of the encoder; the decoder has one block a level more
    latent, codebook_size: of the codebook
    scales: sides of the scales, coarse to fine
    smoothing: number of φ convolutions that the scales share
    image_size: in pixels; by default what the last scale says
    """

    base: int | None = None
    multipliers: tuple[int, ...] | None = None
    blocks: int | None = None
    latent: int | None = None
    codebook_size: int | None = None
    scales: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    smoothing: int | None = None
    image_size: int | None = None


def adapt(state_dict: Mapping[str, Tensor], options: Architecture) -> MultiScaleTokenizer:
    """The tokenizer with the file's weights."""
    released = Released("var-tokenizer", state_dict, needless=[r"quantize\.ema_vocab_hit_SV$"])
    family = convolution_names.Found(base=160, multipliers=(1, 1, 2, 2, 4), blocks=2, latent=32)
    found = convolution_names.find(released, "encoder.down.{}.block", family)
    values = agree(released.family, options, found, ("base", "multipliers", "blocks", "latent"))
    network = Convolutional(**values, attention=True)
    size = options.codebook_size or released.shape("quantize.embedding.weight", (4096, network.latent))[0]
    smoothing = released.count(r"quantize\.quant_resi\.qresi_ls\.(\d+)\.") or 4
    if options.smoothing is not None:
        smoothing = options.smoothing
    scales = Scales(options.scales, up="bicubic", next_input="area", smoothing=smoothing)
    quantizer = create("vq", dim=network.latent, codebook_size=size)
    image_size = options.image_size or options.scales[-1] * network.stride
    with torch.device("meta"):
        tokenizer = MultiScaleTokenizer(quantizer, image_size, Options(network, projection=3, scales=scales))
    names = convolution_names.taming(len(network.multipliers), attention=True)

    def source(name: str) -> Source | None:
        if name.startswith(("project.", "unproject.")):
            stem, leaf = name.split(".")
            return Source(({"project": "quant_conv.", "unproject": "post_quant_conv."}[stem] + leaf,))
        if name.startswith("residual.smoothings."):
            return Source((name.replace("residual.smoothings.", _PHI).replace(".conv.", "."),))
        if name == "residual.quantizer.weight":
            return Source(("quantize.embedding.weight",))
        return names(name)

    released.load(tokenizer, source)
    return tokenizer
