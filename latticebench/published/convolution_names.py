"""Names of convolutional encoders and decoders in released files, from the names of ours.

Ours: encoder.levels.L.{blocks,attentions}.B.*, encoder.levels.L.resize.conv, encoder.middle.I, and the same in the
decoder, whose level 0 has the LOWEST resolution.
"""

import dataclasses
import re
from collections.abc import Callable

from latticebench.published.keys import Released, Source

_LEVEL = re.compile(r"(encoder|decoder)\.levels\.(\d+)\.(?:(blocks|attentions)\.(\d+)|resize)\.(.+)")
_MIDDLE = re.compile(r"(encoder|decoder)\.middle\.(\d+)\.(.+)")
_ADAPTIVE = re.compile(r"decoder\.adaptive\.(\d+)\.(.+)")


@dataclasses.dataclass(frozen=True)
class Found:
    """What the shapes of a file say of its encoder and decoder; a family's own values where keys are absent."""

    base: int
    multipliers: tuple[int, ...]
    blocks: int
    latent: int


def taming(levels: int, attention: bool) -> Callable[[str], Source | None]:
    """VAR's names: encoder.down, decoder.up (counted from full resolution), mid.block_1, attn_1, block_2."""
    middle = ("block_1", "attn_1", "block_2") if attention else ("block_1", "block_2")

    def source(name: str) -> Source | None:
        if m := _LEVEL.fullmatch(name):
            side, level, kind, block, rest = m.groups()
            stem = _down_or_up(side, int(level), levels)
            if kind is None:
                return Source((f"{stem}.{'downsample' if side == 'encoder' else 'upsample'}.{rest}",))
            return Source((f"{stem}.{'block' if kind == 'blocks' else 'attn'}.{block}.{_inside(rest)}",))
        if m := _MIDDLE.fullmatch(name):
            return Source((f"{m[1]}.mid.{middle[int(m[2])]}.{_inside(m[3])}",))
        return Source((name,)) if name.startswith(("encoder.", "decoder.")) else None

    return source


def wrapped(released: Released, levels: int) -> Callable[[str], Source | None]:
    """Infinity's names: VAR's, with every convolution inside `.conv` and every norm inside `.norm`, or not."""
    plain = taming(levels, attention=False)

    def source(name: str) -> Source | None:
        found = plain(name)
        if found is None:
            return None
        stem, leaf = found.keys[0].rsplit(".", 1)
        inner = "norm" if ".norm" in stem else "conv"
        return Source((released.first(f"{stem}.{inner}.{leaf}", f"{stem}.{leaf}"),))

    return source


def magvit(levels: int) -> Callable[[str], Source | None]:
    """Open-MAGVIT2's and SimVQ's names: mid_block.I, a bare stride-2 convolution, upsample.conv1, adaptive norms."""

    def source(name: str) -> Source | None:
        if m := _LEVEL.fullmatch(name):
            side, level, kind, block, rest = m.groups()
            stem = _down_or_up(side, int(level), levels)
            if kind is None:
                leaf = rest.removeprefix("conv.")
                return Source((f"{stem}.downsample.{leaf}" if side == "encoder" else f"{stem}.upsample.conv1.{leaf}",))
            return Source((f"{stem}.block.{block}.{_inside(rest)}",))
        if m := _MIDDLE.fullmatch(name):
            return Source((f"{m[1]}.mid_block.{m[2]}.{_inside(m[3])}",))
        if m := _ADAPTIVE.fullmatch(name):
            return Source((f"decoder.adaptive.{levels - 1 - int(m[1])}.{m[2]}",))
        return Source((name,)) if name.startswith(("encoder.", "decoder.")) else None

    return source


def llamagen() -> Callable[[str], Source | None]:
    """LlamaGen's names: conv_blocks.L.{res,attn}, the decoder's from the lowest resolution; q, k and v apart."""

    def source(name: str) -> Source | None:
        if m := _LEVEL.fullmatch(name):
            side, level, kind, block, rest = m.groups()
            stem = f"{side}.conv_blocks.{level}"
            if kind is None:
                return Source((f"{stem}.{'downsample' if side == 'encoder' else 'upsample'}.{rest}",))
            return _separate(f"{stem}.{'res' if kind == 'blocks' else 'attn'}.{block}", rest)
        if m := _MIDDLE.fullmatch(name):
            return _separate(f"{m[1]}.mid.{m[2]}", m[3])
        return Source((name,)) if name.startswith(("encoder.", "decoder.")) else None

    return source


def find(released: Released, level: str, family: Found, suffix: str = "") -> Found:
    """Widths, depths and latent from the file.

    level: the encoder's path of level L with its row of blocks, e.g. `encoder.down.{}.block`; suffix: `.conv` where
    convolutions are wrapped. Keys that are absent leave the family's own value, and loading reports them.
    """
    pattern = re.escape(level).replace(r"\{\}", r"(\d+)")
    levels = released.count(pattern + r"\.") or len(family.multipliers)
    base = released.shape(f"encoder.conv_in{suffix}.weight", (family.base,))[0]
    widths = [
        released.shape(f"{level.format(i)}.0.conv2{suffix}.weight", (base * (family.multipliers * levels)[i],))[0]
        for i in range(levels)
    ]
    return Found(
        base=base,
        multipliers=tuple(max(1, width // max(1, base)) for width in widths),
        blocks=released.count(re.escape(level.format(0)) + r"\.(\d+)\.") or family.blocks,
        latent=released.shape(f"encoder.conv_out{suffix}.weight", (family.latent,))[0],
    )


def _down_or_up(side: str, level: int, levels: int) -> str:
    return f"encoder.down.{level}" if side == "encoder" else f"decoder.up.{levels - 1 - level}"


def _inside(rest: str) -> str:
    if rest.startswith("shortcut."):
        return "nin_" + rest
    return "proj_" + rest if rest.startswith("out.") else rest


def _separate(stem: str, rest: str) -> Source:
    if rest.startswith("qkv."):
        return Source(tuple(f"{stem}.{part}.{rest.removeprefix('qkv.')}" for part in "qkv"))
    return Source((f"{stem}.{_inside(rest)}",))
