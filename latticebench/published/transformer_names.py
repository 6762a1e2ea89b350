"""Names of next-scale transformers in released files, from the names of ours; VAR's and Infinity-CC's agree."""

import re
from collections.abc import Callable

from latticebench.generators.next_scale import NextScaleParameters
from latticebench.published.keys import Source

_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_IN_BLOCK = {
    "attention.qkv.weight": "attn.mat_qkv.weight",
    "attention.q_bias": "attn.q_bias",
    "attention.k_bias": "attn.zero_k_bias",
    "attention.v_bias": "attn.v_bias",
    "attention.log_factor": "attn.scale_mul_1H11",
    "attention.out.weight": "attn.proj.weight",
    "attention.out.bias": "attn.proj.bias",
    "up.weight": "ffn.fc1.weight",
    "up.bias": "ffn.fc1.bias",
    "down.weight": "ffn.fc2.weight",
    "down.bias": "ffn.fc2.bias",
    "offset": "ada_gss",
    "steer.weight": "ada_lin.1.weight",
    "steer.bias": "ada_lin.1.bias",
}
_ELSEWHERE = {
    "class_embedding.weight": "class_emb.weight",
    "start": "pos_start",
    "level_embedding.weight": "lvl_embed.weight",
    "place": "pos_1LC",
    "word.weight": "word_embed.weight",
    "word.bias": "word_embed.bias",
    "steer.weight": "shared_ada_lin.1.weight",
    "steer.bias": "shared_ada_lin.1.bias",
    "head_steer.weight": "head_nm.ada_lin.1.weight",
    "head_steer.bias": "head_nm.ada_lin.1.bias",
    "head.weight": "head.weight",
    "head.bias": "head.bias",
}


def sources(parameters: NextScaleParameters, block: Callable[[int], str]) -> Callable[[str], Source | None]:
    """block: number of a block -> its path in the file."""

    def source(name: str) -> Source | None:
        if m := _BLOCK.fullmatch(name):
            shape = (1, 1, 6, parameters.width) if m[2] == "offset" else None
            return Source((f"{block(int(m[1]))}.{_IN_BLOCK[m[2]]}",), shape)
        return Source((_ELSEWHERE[name],))

    return source
