"""BSQ-ViT and the Λ24-SQ ViT (bsq-vit and npq-vit): arXiv:2406.07548 and arXiv:2512.14697.

Keys as in `checkpoint.pt`, "ema_state_dict" or "state_dict". Indices: BSQ with coordinate 0 as the most
significant bit, Λ24 as rows of the released file, against which the codebook of the state dict is checked.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from latticebench.errors import BadInput
from latticebench.published import leech_rows
from latticebench.published.keys import Released, Source
from latticebench.quantizers import Quantizer, create
from latticebench.tokenizers.paper_vit import Architecture as ViT
from latticebench.tokenizers.paper_vit import PaperViTTokenizer

NEEDS_TOKENIZER = False
STAND_INS = (
    "argparse.Namespace",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "typing.Any",
    "builtins.dict",
    "builtins.list",
    "builtins.int",
    "builtins.str",
    "builtins.bool",
    "builtins.float",
    "collections.defaultdict",
)
"""The file's "config" is an OmegaConf object and "args" a Namespace."""

_BLOCK = re.compile(r"(encoder|decoder)\.blocks\.(\d+)\.(.+)")
_IN_BLOCK = {
    "norm1": "ln_1",
    "norm2": "ln_2",
    "attention.qkv.weight": "attn.in_proj_weight",
    "attention.qkv.bias": "attn.in_proj_bias",
    "attention.out": "attn.out_proj",
    "mlp.0": "mlp.c_fc",
    "mlp.2": "mlp.c_proj",
}
_ELSEWHERE = {
    "encoder.embed": "encoder.conv1",
    "encoder.norm_in": "encoder.ln_pre",
    "encoder.norm_out": "encoder.ln_post",
    "encoder.head": "quant_embed",
    "decoder.embed": "post_quant_embed",
    "decoder.norm_in": "decoder.ln_pre",
    "decoder.norm_out": "decoder.ln_post",
    "decoder.head.0": "decoder.ffn.0",
    "decoder.head.2": "decoder.conv_out",
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """None: read from the file's shapes.

    quantizer: bsq, or leech for the released Leech codebook
    latent: dimension of the code vectors, for bsq the number of bits
    codebook_size: of leech: the first K rows of the released file
    width, layers: of each transformer
    heads: of attention; by default 64 dimensions a head
    head_width: width of the decoder's tanh layer
    patch, image_size: in pixels
    """

    quantizer: Literal["bsq", "leech"] | None = None
    latent: int | None = None
    codebook_size: int | None = None
    width: int | None = None
    layers: int | None = None
    heads: int | None = None
    head_width: int | None = None
    patch: int | None = None
    image_size: int | None = None


def adapt(state_dict: Mapping[str, Tensor], options: Architecture) -> PaperViTTokenizer:
    """The tokenizer with the file's weights."""
    released = Released("npq-vit", state_dict)
    width, values = released.shape("encoder.conv1.weight", (options.width or 768, 192))
    width = options.width or width
    patch = options.patch or round((values / 3) ** 0.5)
    cells = released.shape("encoder.positional_embedding", (1024, width))[0]
    head_width = options.head_width or released.shape("decoder.ffn.0.weight", (3072, width))[0]
    network = ViT(
        patch=patch,
        width=width,
        layers=options.layers or released.count(r"encoder\.transformer\.resblocks\.(\d+)\.") or 12,
        heads=options.heads or max(1, width // 64),
        head_width=head_width,
    )
    quantizer = _quantizer(released, options)
    with torch.device("meta"):
        tokenizer = PaperViTTokenizer(quantizer, options.image_size or patch * round(cells**0.5), network)
    positions = (tokenizer.encoder.grid**2, width)
    released.load(tokenizer, lambda name: _source(name, positions))
    return tokenizer


def _quantizer(released: Released, options: Architecture) -> Quantizer:
    kind = options.quantizer or ("leech" if "quantize.embedding.weight" in released.tensors else "bsq")
    latent = options.latent or released.shape("quant_embed.weight", (24 if kind == "leech" else 18, 0))[0]
    if kind == "leech":
        return leech_rows.checked(released, ("quantize.embedding.weight",), options.codebook_size, normalize=True)
    basis = released.take("quantize.basis")
    released.take("quantize.group_basis")
    if basis is not None and basis.tolist() != [2**bit for bit in range(latent)][::-1]:
        raise BadInput(f"npq-vit: quantize.basis is not {latent} powers of two, most significant first")
    return create("bsq", dim=latent)


def _source(name: str, positions: tuple[int, int]) -> Source | None:
    if name.endswith(".positions"):
        return Source((name.replace(".positions", ".positional_embedding"),), positions)
    if m := _BLOCK.fullmatch(name):
        side, block, rest = m.groups()
        return Source((f"{side}.transformer.resblocks.{block}.{_renamed(rest, _IN_BLOCK)}",))
    renamed = _renamed(name, _ELSEWHERE)
    return None if renamed == name else Source((renamed,))


def _renamed(name: str, table: dict[str, str]) -> str:
    for ours, theirs in table.items():
        if name == ours or name.startswith(ours + "."):
            return theirs + name[len(ours) :]
    return name
