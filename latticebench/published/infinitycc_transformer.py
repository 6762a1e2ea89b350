"""Infinity-CC's transformers: arXiv:2512.14697. Keys as under ["trainer"]["gpt_fsdp"] of `ar-ckpt-*-last.pth`.

Blocks sit in chunks: block i is block_chunks.(i // n).module.(i % n). Class c is row c + 1 of the embedding.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from latticebench.errors import BadInput
from latticebench.generators.next_scale import NextScaleGenerator, NextScaleParameters, NextScaleTransformer
from latticebench.published import transformer_names
from latticebench.published.keys import Released

NEEDS_TOKENIZER = True
STAND_INS: tuple[str, ...] = ("argparse.Namespace",)


@dataclasses.dataclass(frozen=True)
class Architecture:
    """None: read from the file's shapes; scales, latent and K are the tokenizer's.

    layers, width, heads: of the transformer
    hidden: inner width of the feed-forward layers
    shared_norm: one adaptive norm for all blocks
    classes: without the row of no class
    grid: cells a side of the grid that all scales' rotary positions share
    """

    layers: int | None = None
    width: int | None = None
    heads: int | None = None
    hidden: int | None = None
    shared_norm: bool | None = None
    classes: int | None = None
    grid: int = 64


def adapt(state_dict: Mapping[str, Tensor], options: Architecture, tokenizer: nn.Module) -> NextScaleGenerator:
    """The generator over `tokenizer` with the file's weights."""
    derived = [r"lvl_1L$", r"attn_bias_for_masking$", r"Infinity_(in)?visible_(kv|q)len$"]
    released = Released("infinitycc-transformer", state_dict, needless=derived)
    chunks = released.count(r"block_chunks\.(\d+)\.")
    in_chunk = released.count(r"block_chunks\.0\.module\.(\d+)\.")
    layers = options.layers or chunks * in_chunk or released.count(r"blocks\.(\d+)\.") or 12
    if chunks and layers % chunks:
        raise BadInput(f"infinitycc-transformer: {layers} layers do not fill the file's {chunks} chunks")

    def block(i: int) -> str:
        each = layers // chunks if chunks else layers
        return f"block_chunks.{i // each}.module.{i % each}" if chunks else f"blocks.{i}"

    width = options.width or released.shape("word_embed.weight", (768, 24))[0]
    shared = "shared_ada_lin.1.weight" in released.tensors
    parameters = NextScaleParameters(
        latent=tokenizer.quantizer.dim,
        digit_sizes=_digits(released, tokenizer),
        sides=tuple(tokenizer.scales),
        width=width,
        layers=layers,
        heads=options.heads or released.shape(f"{block(0)}.attn.scale_mul_1H11", (1, max(1, width // 96), 1, 1))[1],
        hidden=options.hidden or released.shape(f"{block(0)}.ffn.fc1.weight", (round(width / 64) * 256, width))[0],
        classes=options.classes or released.shape("class_emb.weight", (1001, width))[0] - 1,
        no_class="first",
        positions="rotary",
        shared_norm=shared if options.shared_norm is None else options.shared_norm,
        levels=released.shape("lvl_embed.weight", (15, width))[0],
        grid=options.grid,
    )
    with torch.device("meta"):
        transformer = NextScaleTransformer(parameters)
    released.load(transformer, transformer_names.sources(parameters, block))
    return NextScaleGenerator(transformer, tokenizer)


def _digits(released: Released, tokenizer: nn.Module) -> tuple[int, ...]:
    """One softmax over all codes, or the tokenizer's digits where the head is as long as their sum."""
    quantizer = tokenizer.quantizer
    outputs = released.shape("head.weight", (quantizer.codebook_size, 0))[0]
    sizes = tuple(quantizer.digit_sizes)
    return sizes if outputs == sum(sizes) != quantizer.codebook_size else (quantizer.codebook_size,)
