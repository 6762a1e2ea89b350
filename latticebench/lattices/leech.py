"""The first shell of the Leech lattice, and the codebook that was released under its name.

Conway and Sloane, "Sphere Packings, Lattices and Groups", chapter 4, equation (135): with one Golay
code the 196,560 vectors of smallest norm are, before scaling by 1/√32,

  class 2: (±2^8, 0^16) on an octad, with an even number of minus signs (97,152);
  class 3: (∓3, ±1^23), the upper signs on a codeword (98,304);
  class 4: (±4^2, 0^22) (1,104).

`shell` takes the lexicode for classes 2 and 3: the true lattice. `released` takes the circulant code
for class 3, as the file `leech_lattices_normalized.npy` of arXiv:2512.14697 does; the two codes share
no octad, so that file is not the shell of one lattice (largest cosine 20/32 instead of 16/32).

Both have the file's row order, which gives every row a closed form (`coordinates`, `index`):

  class 2: 759·s + o, s the sign pattern (first seven signs as bits, plus is one), o the octad;
  class 3: 97,152 + 4,096·k + c, k the position of the ∓3, c the codeword's rank;
  class 4: 195,456 + 4·p + s, p the pair in order, s its two signs as bits.
"""

import functools
import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from latticebench.errors import BadInput
from latticebench.lattices import golay
from latticebench.seeding import generator

Codebook = Literal["shell", "released"]
Backend = Literal["auto", "dense", "structured", "numba", "triton"]
Rule = Literal["random", "first", "class2", "class3", "class4"]

DIM = 24
SIZE = 196_560
NORM = math.sqrt(32)
"""Length of every vector before scaling."""

CLASSES = {"class2": range(0, 97_152), "class3": range(97_152, 195_456), "class4": range(195_456, SIZE)}
"""Class -> its rows."""

_PAIRS = np.array([(i, j) for i in range(DIM) for j in range(i + 1, DIM)])


def shell() -> np.ndarray:
    """The 196,560 minimal vectors of the Leech lattice before scaling: (196560, 24) int8."""
    return integers("shell").copy()


def released() -> np.ndarray:
    """The rows of the released file before scaling: (196560, 24) int8."""
    return integers("released").copy()


def codes(codebook: Codebook) -> tuple[np.ndarray, np.ndarray]:
    """The Golay codes (4096, 24) of class 2 and of class 3. Raises ValueError on an unknown codebook."""
    if codebook not in ("shell", "released"):
        raise ValueError(f"codebook must be 'shell' or 'released', not {codebook!r}")
    return golay.lexicode(), golay.lexicode() if codebook == "shell" else golay.circulant()


def coordinates(indices: Tensor, codebook: Codebook = "shell") -> Tensor:
    """indices (...) int64 -> vectors before scaling (..., 24) int8, from the closed form of a row.

    Needs the octads and twelve codewords, not the table. Raises IndexError outside [0, 196560).
    """
    indices = _checked(indices)
    tables = _tables(codebook, indices.device)
    flat = indices.reshape(-1)
    result = torch.zeros(flat.numel(), DIM, dtype=torch.int8, device=flat.device)
    two, four = flat < CLASSES["class3"].start, flat >= CLASSES["class4"].start
    three = ~(two | four)

    pattern, octad = flat[two] // 759, flat[two] % 759
    seven = pattern[:, None] >> torch.arange(6, -1, -1, device=flat.device) & 1
    signs = torch.cat([seven, seven.sum(1, keepdim=True) & 1], 1)  # an even number of minuses among eight
    result[two] = result[two].scatter(1, tables["octads"][octad], (4 * signs - 2).to(torch.int8))

    row = flat[three] - CLASSES["class3"].start
    position, rank = row[:, None] >> 12, row & 4095
    signs = 2 * _bits(_codeword(rank, tables["basis"])) - 1
    result[three] = torch.where(torch.arange(DIM, device=flat.device) == position, -3 * signs, signs).to(torch.int8)

    row = flat[four] - CLASSES["class4"].start
    signs = torch.stack([row >> 1 & 1, row & 1], 1)
    result[four] = result[four].scatter(1, tables["pairs"][row >> 2], (8 * signs - 4).to(torch.int8))
    return result.reshape(*indices.shape, DIM)


def vectors(indices: Tensor, codebook: Codebook = "shell") -> Tensor:
    """indices (...) int64 -> unit vectors (..., 24) float32. Raises IndexError outside [0, 196560)."""
    # The operator costs as much as a thousand rows, and only a graph needs it.
    return (_operator if torch.compiler.is_compiling() else _vectors)(torch.as_tensor(indices), codebook)


def _vectors(indices: Tensor, codebook: Codebook) -> Tensor:
    indices = _checked(indices)
    return _unit(codebook, indices.device).index_select(0, indices.reshape(-1)).reshape(*indices.shape, DIM)


@torch.library.custom_op("latticebench::leech_vectors", mutates_args=())
def _operator(indices: Tensor, codebook: str) -> Tensor:
    """One node in a compiled graph, which cannot hold the check of the range and the cached table."""
    return _vectors(indices, codebook)


@_operator.register_fake
def _(indices: Tensor, codebook: str) -> Tensor:
    return indices.new_empty((*indices.shape, DIM), dtype=torch.float32)


def index(vectors: Tensor, codebook: Codebook = "shell") -> Tensor:
    """Code vectors (..., 24) -> their rows (...) int64, without the table.

    vectors: floating point of unit length (to 1e-3 a coordinate), or integers before scaling.
    Raises ValueError that names the first vector that is not in the codebook.
    """
    vectors = torch.as_tensor(vectors)
    if vectors.shape[-1:] != (DIM,):
        raise ValueError(f"vectors must have {DIM} coordinates last, got shape {tuple(vectors.shape)}")
    tables = _tables(codebook, vectors.device)
    flat = vectors.reshape(-1, DIM)
    if flat.is_floating_point():
        scaled = flat.to(torch.promote_types(flat.dtype, torch.float32)) * NORM
        x = torch.nan_to_num(scaled).round().clamp(-5, 5).long()
        member = ((scaled - x).abs() <= 1e-3 * NORM).all(1)
    else:
        x, member = flat.long().clamp(-5, 5), torch.ones(len(flat), dtype=torch.bool, device=flat.device)

    largest = x.abs().amax(1)
    rows = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    two, three, four = largest == 2, largest == 3, largest == 4

    octad = torch.searchsorted(tables["octad_words"], _word(x[two] != 0)).clamp(max=758)
    positive = (x[two].gather(1, tables["octads"].flip(0)[octad]) > 0).long()
    seven = (positive[:, :7] << torch.arange(6, -1, -1, device=x.device)).sum(1)
    rows[two] = 759 * seven + 758 - octad

    position = x[three].abs().argmax(1, keepdim=True)
    bit = (x[three] > 0) ^ (torch.arange(DIM, device=x.device) == position)
    rank = (bit[:, tables["pivots"]].long() << torch.arange(11, -1, -1, device=x.device)).sum(1)
    rows[three] = CLASSES["class3"].start + 4096 * position[:, 0] + rank

    first = x[four].abs().argmax(1)
    last = DIM - 1 - x[four].abs().flip(1).argmax(1)
    pair = first * (2 * DIM - 1 - first) // 2 + (last - first - 1).clamp(min=0)
    signs = (x[four].gather(1, torch.stack([first, last], 1)) > 0).long()
    rows[four] = (CLASSES["class4"].start + 4 * pair + 2 * signs[:, 0] + signs[:, 1]).clamp(max=SIZE - 1)

    member &= (coordinates(rows, codebook).long() == x).all(1)
    if not bool(member.all()):
        wrong = int((~member).nonzero()[0])
        raise ValueError(f"vector {wrong} is not in the {codebook} codebook: {flat[wrong].tolist()}")
    return rows.reshape(vectors.shape[:-1])


def subset(n: int, rule: Rule, seed: int = 0) -> Tensor:
    """The rows of a smaller codebook: (n,) int64 ascending.

    rule: `first` takes the first n rows, as the released code does (one-sided for small n: all of
    them are class 2); `random` draws n of all rows with `seed`; `class2`, `class3` and `class4` draw
    n rows of that class. Raises BadInput where n does not fit.
    """
    if rule not in ("random", "first", *CLASSES):
        raise BadInput(f"subset must be random, first, class2, class3 or class4, got {rule!r}")
    rows = CLASSES.get(rule, range(SIZE))
    if not 1 <= n <= len(rows):
        raise BadInput(f"a {rule} subset of the Leech shell has 1 to {len(rows)} vectors, not {n}")
    if rule == "first" or n == len(rows):
        return torch.arange(rows.start, rows.start + n)
    drawn = torch.randperm(len(rows), generator=generator(seed, "leech subset", rule))[:n]
    return rows.start + drawn.sort().values


def nearest(z: Tensor, codebook: Codebook = "shell", backend: Backend = "auto") -> Tensor:
    """The row of the code vector with the largest inner product: z (..., 24) float -> (...) int64.

    Exact: equal scores go to the lowest row, and every backend gives the same rows. z need not have
    unit length; it is scaled by a power of two inside. Half precision is upcast, float64 is searched
    in float64. A zero vector is tied with every code vector and has row 0.

    backend: `auto` takes numba on the CPU and triton on CUDA where they are installed, else
    `structured` (plain torch, any device); `dense` computes all inner products.
    Raises ValueError on NaN, infinity or a wrong last dimension, TypeError on integers.
    """
    from latticebench.lattices.leech_search import search

    return search(z, codebook, backend)


def _checked(indices: Tensor) -> Tensor:
    indices = torch.as_tensor(indices)
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise TypeError(f"indices must be integers, got {indices.dtype}")
    indices = indices.long()
    if indices.numel() and not bool(((indices >= 0) & (indices < SIZE)).all()):
        raise IndexError(f"Leech indices lie in [0, {SIZE}), got {int(indices.min())} to {int(indices.max())}")
    return indices


@functools.cache
def integers(codebook: Codebook) -> np.ndarray:
    """The cached, read-only table (196560, 24) int8 before scaling."""
    # In parts: the closed form takes about a kilobyte a row.
    table = torch.cat([coordinates(rows, codebook) for rows in torch.arange(SIZE).split(8192)]).numpy()
    table.flags.writeable = False
    return table


@functools.lru_cache(maxsize=8)
def table(codebook: Codebook, device: torch.device) -> Tensor:
    """The cached table (196560, 24) int8 before scaling, on a device. Not to be written to."""
    return torch.from_numpy(integers(codebook).copy()).to(device)


@functools.lru_cache(maxsize=8)
def _unit(codebook: Codebook, device: torch.device) -> Tensor:
    # Divided in float64, like the released file, and rounded once.
    return torch.from_numpy((integers(codebook) / NORM).astype(np.float32)).to(device)


@functools.lru_cache(maxsize=8)
def _tables(codebook: Codebook, device: torch.device) -> dict[str, Tensor]:
    two, three = codes(codebook)
    tables = {
        "octads": golay.octads(two),
        "octad_words": golay.words(two[two.sum(1) == 8]),
        "basis": golay.basis(three),
        "pivots": golay.pivots(three),
        "pairs": _PAIRS,
    }
    return {name: torch.from_numpy(np.ascontiguousarray(table)).to(device) for name, table in tables.items()}


def _codeword(rank: Tensor, basis: Tensor) -> Tensor:
    word = torch.zeros_like(rank)
    for j in range(golay.DIMENSION):
        word ^= (rank >> (golay.DIMENSION - 1 - j) & 1) * basis[j]
    return word


def _bits(word: Tensor) -> Tensor:
    return word[..., None] >> torch.arange(DIM - 1, -1, -1, device=word.device) & 1


def _word(bits: Tensor) -> Tensor:
    return (bits.long() << torch.arange(DIM - 1, -1, -1, device=bits.device)).sum(-1)
