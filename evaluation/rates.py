"""The rates that need no coder: three of the five names of a rate, each its own number."""

import math

from evaluation.codebooks import scaled
from evaluation.protocols import protocol_id
from evaluation.records import Interval, Value, empty, measured


def values(
    codebook_size: int, tokens: int, pixels: int, entropy_bits: float, around: Interval | None, n: int
) -> dict[str, Value]:
    """Rates in bits per pixel of tokenizers whose every token is one of K codes.

    tokens: tokens of one image. pixels: its height x width. entropy_bits, around: the empirical entropy of a
    token and its interval. n: tokens of the whole split.
    """
    per_pixel = tokens / pixels
    # Exact for any K: the float log2 of 2^62 + 1 would round down.
    whole_bits = (codebook_size - 1).bit_length()
    return {
        "ceil_bpp": measured(whole_bits * per_pixel, protocol_id("ceil_bpp"), unit="bpp"),
        "nominal_bpp": measured(math.log2(codebook_size) * per_pixel, protocol_id("nominal_bpp"), unit="bpp"),
        "entropy_bpp": measured(
            entropy_bits * per_pixel,
            protocol_id("entropy_bpp"),
            unit="bpp",
            interval=scaled(around, per_pixel),
            n=n,
        ),
    }


def no_codes(reason: str) -> dict[str, Value]:
    """The empty cells of a subject that has no codes."""
    return {key: empty(protocol_id(key), reason) for key in ("ceil_bpp", "nominal_bpp", "entropy_bpp")}
