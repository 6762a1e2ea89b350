"""Infinity-CC's multi-scale Λ24 tokenizer: arXiv:2512.14697. Keys as under "vae" in `model_step_499999.ckpt`.

Infinity's encoder and decoder with the released Leech codebook, whose rows the state dict repeats and
which is checked; indices are its rows.
"""

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from latticebench.published import leech_rows
from latticebench.published.infinity_tokenizer import encoder_of, loaded
from latticebench.published.keys import Released
from latticebench.tokenizers.convolutional import MultiScaleTokenizer

NEEDS_TOKENIZER = False
STAND_INS: tuple[str, ...] = ("argparse.Namespace",)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """None: read from the file's shapes.

    base, multipliers, blocks: of the encoder; the decoder has one block a level more
    latent: 24
    codebook_size: the first K rows of the released codebook
    scales: sides of the scales, coarse to fine
    image_size: in pixels; by default what the last scale says
    """

    base: int | None = None
    multipliers: tuple[int, ...] | None = None
    blocks: int | None = None
    latent: int | None = None
    codebook_size: int | None = None
    scales: tuple[int, ...] = (1, 2, 4, 6, 8, 12, 16)
    image_size: int | None = None


def adapt(state_dict: Mapping[str, Tensor], options: Architecture) -> MultiScaleTokenizer:
    """The tokenizer with the file's weights."""
    released = Released("infinitycc-tokenizer", state_dict)
    network = encoder_of(released, options, latent=24)
    aliases = ("quantizer.lfq.embedding.weight", "quantize.lfq.embedding.weight")
    quantizer = leech_rows.checked(released, aliases, options.codebook_size, normalize=False)
    return loaded(released, network, quantizer, options)
