"""Codes as digits below 2^16: what a probability table of the coder can hold, for K up to 2^62."""

import functools
import math

import numpy as np

from latticebench.errors import BadInput

MAX_DIGIT = 2**16
MAX_CODEBOOK = 2**62
_TRIED = 4096


@functools.cache
def digit_sizes(codebook_size: int) -> tuple[int, ...]:
    """Sizes of the digits of a code, most significant first; each at most 2^16.

    As few digits as will do, all of one base but the first, which is as small as K allows. Of the bases at and
    above the n-th root of K the one whose product wastes least is taken, so 196,560 is 432 x 455 exactly.
    One code needs no digits. Raises BadInput outside 1 <= K <= 2^62.
    """
    if not 1 <= codebook_size <= MAX_CODEBOOK:
        raise BadInput(f"a bitstream holds codebooks of 1 to 2^62 codes, got K = {codebook_size}")
    if codebook_size == 1:
        return ()
    count = -(-(codebook_size - 1).bit_length() // 16)
    if count == 1:
        return (codebook_size,)
    root = _root(codebook_size, count)
    candidates = [
        (-(-codebook_size // base ** (count - 1)), base) for base in range(root, min(root + _TRIED, MAX_DIGIT) + 1)
    ]
    first, base = min(candidates, key=lambda pair: (pair[0] * pair[1] ** (count - 1), pair[1]))
    return (first, *(base,) * (count - 1))


def _root(value: int, n: int) -> int:
    """The smallest integer whose n-th power is at least `value`; exact, where a float root is not."""
    root = round(value ** (1 / n))
    while root**n >= value:
        root -= 1
    while root**n < value:
        root += 1
    return root


def split(codes: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """codes (...) int64 -> digits (..., n) int64, most significant first."""
    digits = np.empty((*codes.shape, len(sizes)), np.int64)
    rest = codes
    for place in range(len(sizes) - 1, -1, -1):
        rest, digits[..., place] = np.divmod(rest, sizes[place])
    return digits


def join(digits: np.ndarray, codebook_size: int) -> np.ndarray:
    """digits (..., n) -> codes (...) int64. Raises BadInput on a digit string at or above K."""
    sizes = digit_sizes(codebook_size)
    codes = np.zeros(digits.shape[:-1], np.int64)
    for place, size in enumerate(sizes):
        codes = codes * size + digits[..., place]
    # A product of sizes exceeds K by a little, and below 2^63 always: no wrap-around hides an invalid string.
    if codes.size and codes.max() >= codebook_size:
        raise BadInput(f"a coded token lies outside the codebook of {codebook_size} codes: the file is damaged")
    return codes


def bits(codebook_size: int) -> float:
    """What one code costs when every digit is equally likely: log2 K plus what the digits waste."""
    return sum(math.log2(size) for size in digit_sizes(codebook_size))
