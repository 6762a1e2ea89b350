"""The tables behind the structured search: the Golay code in Turyn's form.

Turyn's construction (Conway and Sloane, chapter 11, section 12): with H and H' two [8, 4, 4] Hamming
codes that meet in {0, 1}, the words (a + x | b + x | a + b + x), a and b in H, x in H', are an
extended Golay code over three blocks of eight coordinates. Complementing one block stays in the code,
so a block's word matters up to its complement: it is one of 64 even classes, coset x (8) and label
a (8), and the labels of the three blocks sum to zero.

Both classes of Leech vectors then maximise the same form, over cosets and labels with l3 = l1 xor l2:

    r1[l1] + r2[l2] + r3[l3] + max(d1[l1], d2[l2], d3[l3])

Class 3, 8 cosets: with y the block's coordinates signed by the word and P their sum, r = |P| and
r + d = max(P - 4 min y, 4 max y - P): exactly one block holds the ∓3.
Class 2, 7 cosets (x != 0): in each of them four of the eight labels are pairs and four are four-sets,
and an octad takes a pair in two blocks and a four-set in the third. A combined label 2 j + p numbers
the pair or the four-set (j) and the parity p of its minus signs; r is the pair's best value,
r + d the four-set's. Both numberings add like the labels.
Left over are 84 octads that miss one block, the 3 blocks, and class 4.
"""

import dataclasses
import functools

import numpy as np

from latticebench.lattices import golay, leech

HAMMING = (0xF0, 0xCC, 0xAA)
"""Basis of H without the all-one word; coordinate 0 of a block is the most significant of eight bits."""
OTHER_HAMMING = (0xE8, 0xD1, 0xB4)
"""Basis of H' without the all-one word."""

LEXICODE_ORDER = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 21, 20, 23, 22, 17, 16, 19, 18)
"""Turyn coordinate -> lexicode coordinate; found by matching octads one coordinate at a time."""
CIRCULANT_ORDER = (0, 1, 2, 3, 4, 6, 21, 18, 5, 20, 10, 17, 7, 16, 12, 8, 14, 22, 9, 23, 11, 19, 13, 15)
"""Turyn coordinate -> coordinate of the circulant code."""

GROUPS = 121
"""Groups of candidates: 8 first labels in each of 15 cosets, then one for what is left over."""
SIGN_GROUPS = 64
"""The first groups are class 3; the others up to the last are class 2."""
LEFT_OVER = 120

TRUSTED_GAP = 2.0**-17
"""Relative gap to the second best above which float32 rounding cannot have changed the winner (docs/lattices.md)."""

PAIRS = np.array([(u, v) for u in range(8) for v in range(u + 1, 8)])
"""The 28 pairs of a block's coordinates."""


@dataclasses.dataclass(frozen=True)
class Tables:
    """What the searches look up, for one codebook.

    order2, order3: (24,) Turyn coordinate -> coordinate of the code of class 2 and of class 3.
    words: (64,) the block word of class 8 x + a, as eight bits.
    pair: (28,) for class 2 coset x - 1 and number j at 4 (x - 1) + j, the pair's number in PAIRS.
    fours: (28, 2, 2) likewise the four-set and its complement, each as two numbers of PAIRS.
    zero_fours: (7, 2, 2) the same for labels 1..7 of coset 0.
    rank: (3, 256) contribution of a block's word to the rank of a class 3 codeword.
    octads: (759, 8) supports of class 2.
    octad_rank: (28, 4, 3, 2) octad at coset and j1, j2, block of the four-set, which of its two sets.
    left_octads: (87,) octads that no coset reaches.
    """

    order2: np.ndarray
    order3: np.ndarray
    words: np.ndarray
    pair: np.ndarray
    fours: np.ndarray
    zero_fours: np.ndarray
    rank: np.ndarray
    octads: np.ndarray
    octad_rank: np.ndarray
    left_octads: np.ndarray


@functools.cache
def tables(codebook: leech.Codebook) -> Tables:
    """The tables of a codebook; a few milliseconds."""
    code2, code3 = leech.codes(codebook)
    order2 = np.array(LEXICODE_ORDER)
    order3 = np.array(LEXICODE_ORDER if codebook == "shell" else CIRCULANT_ORDER)
    cosets, labels = _span(OTHER_HAMMING), _span(HAMMING)
    words = cosets[:, None] ^ labels[None, :]
    pair, fours = zip(*(_coset(words[x]) for x in range(1, 8)), strict=True)
    octads = golay.octads(code2)
    zero_fours = np.array([_four_sets(words[0, a]) for a in range(1, 8)])
    octad_rank = _octad_rank(np.array(pair), np.array(fours), octads, order2)
    return Tables(
        order2=order2,
        order3=order3,
        words=words.reshape(64),
        pair=np.concatenate(pair),
        fours=np.concatenate(fours),
        zero_fours=zero_fours,
        rank=_rank(code3, order3),
        octads=octads,
        octad_rank=octad_rank.reshape(28, 4, 3, 2),
        left_octads=np.setdiff1d(np.arange(759), octad_rank),
    )


def turyn_code() -> np.ndarray:
    """The Golay code of the construction, in its own coordinates: (4096, 24) ascending."""
    zero = 0
    rows = [(h, zero, h) for h in (*HAMMING, 255)] + [(zero, h, h) for h in (*HAMMING, 255)]
    rows += [(x, x, x) for x in (*OTHER_HAMMING, 255)]
    return golay.from_generator(np.array([np.concatenate(golay.bits(np.array(row), 8)) for row in rows]))


def _span(basis: tuple[int, ...]) -> np.ndarray:
    """The eight sums of three words, so numbered that numbers add like words."""
    numbers = np.arange(8)
    return np.bitwise_xor.reduce([word * (numbers >> i & 1) for i, word in enumerate(basis)], axis=0)


def _coset(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (4,) and four-sets (4, 2, 2) of a coset with words (8,), numbered alike."""
    weights = np.bitwise_count(words)
    four_labels = np.nonzero(weights == 4)[0]  # a subgroup of order 4: numbered by a basis
    first, second = four_labels[1], four_labels[2]
    numbered = np.array([0, first, second, first ^ second])
    offset = np.nonzero(weights != 4)[0][0]
    pairs = [_pair_number(*_support(w if np.bitwise_count(w) == 2 else w ^ 255)) for w in words[numbered ^ offset]]
    return np.array(pairs), np.array([_four_sets(w) for w in words[numbered]])


def _four_sets(word: int) -> np.ndarray:
    """A four-set and its complement, each as two disjoint pairs: (2, 2) numbers of PAIRS."""
    return np.array([[_pair_number(*s[:2]), _pair_number(*s[2:])] for s in (_support(word), _support(word ^ 255))])


def _support(word: int) -> np.ndarray:
    return np.nonzero(golay.bits(word, 8))[0]


def _pair_number(u: int, v: int) -> int:
    return int(np.nonzero(([u, v] == PAIRS).all(1))[0][0])


def _rank(code: np.ndarray, order: np.ndarray) -> np.ndarray:
    pivots = golay.pivots(code)
    value = np.zeros(24, dtype=np.int64)  # Turyn coordinate -> its bit in the rank
    for bit, pivot in enumerate(pivots):
        value[np.nonzero(order == pivot)[0][0]] = 1 << (11 - bit)
    return np.stack([golay.bits(np.arange(256), 8).astype(np.int64) @ value[8 * b : 8 * b + 8] for b in range(3)])


def _octad_rank(pair: np.ndarray, fours: np.ndarray, octads: np.ndarray, order: np.ndarray) -> np.ndarray:
    known = {tuple(octad): rank for rank, octad in enumerate(octads.tolist())}
    result = np.empty((7, 4, 4, 3, 2), dtype=np.int64)
    for x, j1, j2, holder, side in np.ndindex(result.shape):
        numbers = (j1, j2, j1 ^ j2)
        support = []
        for block in range(3):
            chosen = fours[x, numbers[block], side] if block == holder else pair[x, numbers[block], None]
            support += [order[8 * block + c] for c in PAIRS[chosen].ravel()]
        result[x, j1, j2, holder, side] = known[tuple(sorted(support))]
    return result
