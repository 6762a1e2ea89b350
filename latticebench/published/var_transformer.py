"""VAR's transformers: arXiv:2404.02905. Keys as in `var_d*.pth`, a bare state dict. The last class row is no class."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from latticebench.errors import BadInput
from latticebench.generators.next_scale import NextScaleGenerator, NextScaleParameters, NextScaleTransformer
from latticebench.published import transformer_names
from latticebench.published.keys import Released

NEEDS_TOKENIZER = True
STAND_INS: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Architecture:
    """None: read from the file's shapes; scales, latent and K are the tokenizer's.

    layers, width, heads: of the transformer (depth d has width 64·d and d heads)
    hidden: inner width of the feed-forward layers
    shared_norm: one adaptive norm for all blocks, as in the 512 px model
    classes: without the row of no class
    """

    layers: int | None = None
    width: int | None = None
    heads: int | None = None
    hidden: int | None = None
    shared_norm: bool | None = None
    classes: int | None = None


def adapt(state_dict: Mapping[str, Tensor], options: Architecture, tokenizer: nn.Module) -> NextScaleGenerator:
    """The generator over `tokenizer` with the file's weights."""
    released = Released("var-transformer", state_dict)
    width = options.width or released.shape("word_embed.weight", (1024, 32))[0]
    shared = "shared_ada_lin.1.weight" in released.tensors
    parameters = NextScaleParameters(
        latent=tokenizer.quantizer.dim,
        digit_sizes=(tokenizer.quantizer.codebook_size,),
        sides=tuple(tokenizer.scales),
        width=width,
        layers=options.layers or released.count(r"blocks\.(\d+)\.") or 16,
        heads=options.heads or released.shape("blocks.0.attn.scale_mul_1H11", (1, max(1, width // 64), 1, 1))[1],
        hidden=options.hidden or released.shape("blocks.0.ffn.fc1.weight", (4 * width, width))[0],
        classes=options.classes or released.shape("class_emb.weight", (1001, width))[0] - 1,
        no_class="last",
        positions="learned",
        shared_norm=shared if options.shared_norm is None else options.shared_norm,
        levels=len(tokenizer.scales),
    )
    _check_schedule(released, parameters.sides)
    with torch.device("meta"):
        transformer = NextScaleTransformer(parameters)
    released.load(transformer, transformer_names.sources(parameters, "blocks.{}".format))
    return NextScaleGenerator(transformer, tokenizer)


def _check_schedule(released: Released, sides: tuple[int, ...]) -> None:
    """The file's buffers repeat the schedule: which scale a token belongs to, and what it may see."""
    levels = torch.cat([torch.full((side * side,), i) for i, side in enumerate(sides)])
    expected = {
        "lvl_1L": levels[None],
        "attn_bias_for_masking": torch.where(levels[:, None] >= levels, 0.0, -torch.inf)[None, None],
    }
    for key, value in expected.items():
        found = released.take(key)
        if found is not None and (found.shape != value.shape or not torch.equal(found.to(value.dtype), value)):
            raise BadInput(f"var-transformer: 1 misshaped: {key} does not belong to scales {sides}")
