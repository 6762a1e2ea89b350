"""The extended binary Golay code: the [24, 12, 8] code, unique up to the order of its coordinates.

Conway and Sloane, "Sphere Packings, Lattices and Groups", chapters 3 and 11. The Leech lattice is
built on one such code; the released Leech codebook mixes two of them, the lexicode and a circulant
one, so both are here in their exact coordinate order.

A codeword is also written as a 24-bit word with coordinate 0 as the most significant bit.
"""

import functools

import numpy as np

LENGTH = 24
DIMENSION = 12
WEIGHTS = {0: 1, 8: 759, 12: 2576, 16: 759, 24: 1}
"""Weight -> number of codewords of every extended Golay code."""

_LEXICODE = (
    0x0000FF, 0x000F0F, 0x003333, 0x005555, 0x009669, 0x030356,
    0x050563, 0x09063A, 0x111178, 0x21121D, 0x41144E, 0x811724,
)  # fmt: skip
_CIRCULANT_ROW = (1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0)


def lexicode() -> np.ndarray:
    """The greedy code of length 24 and distance 8: (4096, 24) uint8 codewords in ascending order."""
    return _lexicode().copy()


def circulant() -> np.ndarray:
    """The code [P | I] with P a bordered 11 x 11 circulant: (4096, 24) uint8 codewords in ascending order.

    Row i of the circulant is 1 1 0 1 1 1 0 0 0 1 0 rolled right by i; the last row and column of P
    are ones and their corner is zero.
    """
    return _circulant().copy()


@functools.cache
def _lexicode() -> np.ndarray:
    return from_generator(bits(np.array(_LEXICODE)))


@functools.cache
def _circulant() -> np.ndarray:
    parity = np.ones((DIMENSION, DIMENSION), dtype=np.uint8)
    parity[:-1, :-1] = [np.roll(_CIRCULANT_ROW, i) for i in range(DIMENSION - 1)]
    parity[-1, -1] = 0
    return from_generator(np.hstack([parity, np.eye(DIMENSION, dtype=np.uint8)]))


def from_generator(rows: np.ndarray) -> np.ndarray:
    """All codewords of the code with generator matrix `rows` (12, 24) of zeros and ones.

    Returns (4096, 24) uint8 in ascending order. Raises ValueError unless the weights are those of
    an extended Golay code (any linear code with them is one).
    """
    rows = np.asarray(rows)
    if rows.shape != (DIMENSION, LENGTH) or not np.isin(rows, (0, 1)).all():
        raise ValueError(f"a generator matrix of a Golay code is 12 x 24 of zeros and ones, not {rows.shape}")
    combinations = bits(np.arange(2**DIMENSION), DIMENSION)
    code = (combinations.astype(np.int64) @ rows.astype(np.int64) % 2).astype(np.uint8)
    weights, counts = np.unique(code.sum(1), return_counts=True)
    found = dict(zip(weights.tolist(), counts.tolist(), strict=True))
    if found != WEIGHTS:
        raise ValueError(f"not an extended Golay code: weights {found} instead of {WEIGHTS}")
    return code[np.argsort(words(code))]


def octads(code: np.ndarray) -> np.ndarray:
    """The supports of the 759 words of weight 8: (759, 8) int64, ascending inside and as tuples."""
    octad_words = code[code.sum(1) == 8]
    # Ascending tuples are descending words: an earlier coordinate is a more significant bit.
    return np.nonzero(octad_words[::-1])[1].reshape(-1, 8)


def basis(code: np.ndarray) -> np.ndarray:
    """The reduced basis of a code in ascending order: (12,) int64 words, most significant pivot first.

    Codeword number r is the sum of basis[j] over the bits j of r, bit 11 - j counting from the
    least significant one, because each pivot is zero in all other basis words.
    """
    return words(code)[2 ** np.arange(DIMENSION)[::-1]]


def pivots(code: np.ndarray) -> np.ndarray:
    """The coordinates whose twelve bits, read as a number, are a codeword's rank: (12,) int64 ascending."""
    return np.argmax(bits(basis(code)), axis=1)


def words(code: np.ndarray) -> np.ndarray:
    """(..., 24) zeros and ones -> (...) int64 words, coordinate 0 most significant."""
    return np.asarray(code).astype(np.int64) @ (1 << np.arange(LENGTH - 1, -1, -1))


def bits(numbers: np.ndarray, width: int = LENGTH) -> np.ndarray:
    """(...) integers -> (..., width) uint8, most significant bit first."""
    return (np.asarray(numbers)[..., None] >> np.arange(width - 1, -1, -1) & 1).astype(np.uint8)
