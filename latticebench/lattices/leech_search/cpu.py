"""The structured search on the CPU: numba with explicit SIMD lanes, one vector a lane.

The readable twin is structured.py; turyn.py has the mathematics. A first pass finds, for WIDTH
vectors at once and without a branch, the best value, the second best over groups, and the group; a
second pass takes each vector's group apart. Both bound the gap to the second best code vector, and
rows with a small gap are left to exact arithmetic.
"""

import functools
import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from latticebench.lattices import leech
from latticebench.lattices.leech_search import turyn
from latticebench.lattices.leech_search.scaling import NOT_FINITE
from latticebench.lattices.leech_search.simd import (
    WIDTH,
    jit,
    jit_inner,
    largest,
    load,
    magnitude,
    smallest,
    splat,
    store,
    where_greater,
)

_SHARE = 4096
"""Vectors that are worth a thread of their own."""

_CLASS3 = leech.CLASSES["class3"].start
_CLASS4 = leech.CLASSES["class4"].start
_LEFT_OVER = turyn.LEFT_OVER
_SIGN_GROUPS = turyn.SIGN_GROUPS
_PAIRS = turyn.PAIRS
_TRUSTED_GAP = turyn.TRUSTED_GAP
_FLOOR = 1 - 2 * turyn.TRUSTED_GAP
"""Share of the best value below which a candidate is out of the trusted gap, rounding included."""
_FAR = 1e9
"""Beyond every value: inputs are scaled to magnitudes below 1."""

# Rows of the workspace, each WIDTH long: r and d of 3 blocks x 120 classes, then what they are made of.
_R, _D = 0, 360
_SIGNED = 720  # -z and z of 24 coordinates
_DOUBLED = 768  # 2 z of 24 coordinates, in the order of class 2
_SUM, _MIN = 792, 888  # signed sum and smallest signed value: 6 half-blocks x 16 sign patterns
_SAME, _OPPOSITE = 984, 1068  # |u + v| and |u - v|: 3 blocks x 28 pairs
_BEST, _SECOND, _GROUP = 1152, 1153, 1154
_ROWS = 1155


def power_of_two_scaled(flat: Tensor) -> Tensor:
    """The twin of scaling.py's: rows (N, 24) scaled to a largest magnitude in [0.5, 1). Raises ValueError likewise."""
    scaled = np.empty(flat.shape, flat.numpy().dtype)
    if not _scale(flat.contiguous().numpy(), scaled):
        raise ValueError(NOT_FINITE)
    return torch.from_numpy(scaled)


def nearest(z: Tensor, codebook: str) -> tuple[Tensor, Tensor]:
    """z (N, 24) float32 or float64 on the CPU -> rows (N,) int64, and (N,) bool where the gap is too small to trust."""
    z = z.contiguous().numpy()
    rows, unsure = np.empty(len(z), np.int64), np.empty(len(z), np.bool_)
    threads = min(torch.get_num_threads(), -(-len(z) // _SHARE))
    if threads > 1:
        bounds = [len(z) * t // threads for t in range(threads + 1)]
        parts = [slice(*pair) for pair in itertools.pairwise(bounds)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda p: _search(z[p], rows[p], unsure[p], *_arguments(codebook)), parts))
    else:
        _search(z, rows, unsure, *_arguments(codebook))
    return torch.from_numpy(rows), torch.from_numpy(unsure)


@functools.cache
def _arguments(codebook: str) -> tuple[np.ndarray, ...]:
    t = turyn.tables(codebook)
    return (
        *(np.ascontiguousarray(a, dtype=np.int64) for a in (t.order2, t.order3, t.words, t.pair, t.fours)),
        *(np.ascontiguousarray(a, dtype=np.int64) for a in (t.zero_fours, t.rank, t.octads)),
        *(np.ascontiguousarray(a, dtype=np.int64) for a in (t.octad_rank, t.left_octads)),
    )


@jit
def _scale(z, scaled):
    """Writes the scaled rows; False where one holds NaN or infinity."""
    for i in range(len(z)):
        largest_one = abs(z[i, 0])
        finite = True
        for j in range(24):
            size = abs(z[i, j])
            finite &= size < math.inf
            largest_one = max(largest_one, size)
        if not finite:
            return False
        exponent = math.frexp(largest_one)[1]
        half = -exponent // 2  # in two steps, because 2^-exponent of a subnormal number overflows
        one, other = math.ldexp(1.0, half), math.ldexp(1.0, -exponent - half)
        for j in range(24):
            scaled[i, j] = z[i, j] * one * other
    return True


@jit
def _search(z, rows, unsure, order2, order3, words, pair, fours, zero_fours, rank, octads, octad_rank, left_octads):
    work = np.zeros((_ROWS, WIDTH), z.dtype)
    for start in range(0, len(z), WIDTH):
        lanes = min(WIDTH, len(z) - start)
        for i in range(24):
            for lane in range(lanes):
                value = z[start + lane, order3[i]]
                work[_SIGNED + 2 * i, lane] = -value
                work[_SIGNED + 2 * i + 1, lane] = value
                work[_DOUBLED + i, lane] = 2 * z[start + lane, order2[i]]
        _sign_classes(work, words)
        _octad_classes(work, pair, fours)
        _groups(work, zero_fours)
        for lane in range(lanes):
            vector = z[start + lane]
            group = int(work[_GROUP, lane])
            best = work[_BEST, lane]
            if group < _SIGN_GROUPS:
                row, gap = _sign_row(work, lane, group, words, rank, order3)
            elif group < _LEFT_OVER:
                row, gap = _octad_row(work, lane, group, vector, octads, octad_rank)
            else:
                row, gap = _left_over_row(vector, best * _FLOOR, octads, left_octads)
            rows[start + lane] = row
            gap = min(gap, best - work[_SECOND, lane])
            unsure[start + lane] = not gap > best * _TRUSTED_GAP


@jit_inner
def _sign_classes(work, words):
    """r and d of class 3: 3 blocks x 64 classes."""
    for half in range(6):
        base = _SIGNED + 8 * half
        for p in range(16):
            a = load(work, base + (p >> 3 & 1))
            b = load(work, base + 2 + (p >> 2 & 1))
            c = load(work, base + 4 + (p >> 1 & 1))
            d = load(work, base + 6 + (p & 1))
            store(work, _SUM + 16 * half + p, (a + b) + (c + d))
            store(work, _MIN + 16 * half + p, smallest(smallest(a, b), smallest(c, d)))
    four = splat(load(work, 0), 4)
    for block in range(3):
        left, right = 32 * block, 32 * block + 16
        for i in range(64):
            high, low = words[i] >> 4, words[i] & 15
            total = load(work, _SUM + left + high) + load(work, _SUM + right + low)
            least = smallest(load(work, _MIN + left + high), load(work, _MIN + right + low))
            most = smallest(load(work, _MIN + left + 15 - high), load(work, _MIN + right + 15 - low))  # negated
            r = magnitude(total)
            store(work, _R + 120 * block + i, r)
            store(work, _D + 120 * block + i, largest(total - four * least, -(total + four * most)) - r)


@jit_inner
def _four_set(work, block, sets):
    """Best values of a four-set and its complement with an even and with an odd number of minus signs."""
    a, b = 28 * block + sets[0, 0], 28 * block + sets[0, 1]
    c, d = 28 * block + sets[1, 0], 28 * block + sets[1, 1]
    sa, sb, ta, tb = load(work, _SAME + a), load(work, _SAME + b), load(work, _OPPOSITE + a), load(work, _OPPOSITE + b)
    sc, sd, tc, td = load(work, _SAME + c), load(work, _SAME + d), load(work, _OPPOSITE + c), load(work, _OPPOSITE + d)
    return (
        largest(sa + sb, ta + tb),
        largest(sa + tb, ta + sb),
        largest(sc + sd, tc + td),
        largest(sc + td, tc + sd),
    )


@jit_inner
def _octad_classes(work, pair, fours):
    """r and d of class 2: 3 blocks x 7 cosets x 8 combined labels."""
    for block in range(3):
        for i in range(28):
            u, v = load(work, _DOUBLED + 8 * block + _PAIRS[i, 0]), load(work, _DOUBLED + 8 * block + _PAIRS[i, 1])
            store(work, _SAME + 28 * block + i, magnitude(u + v))
            store(work, _OPPOSITE + 28 * block + i, magnitude(u - v))
        for i in range(28):
            even, odd, other_even, other_odd = _four_set(work, block, fours[i])
            same = load(work, _SAME + 28 * block + pair[i])
            opposite = load(work, _OPPOSITE + 28 * block + pair[i])
            row = 120 * block + _SIGN_GROUPS + 2 * i
            store(work, _R + row, same)
            store(work, _R + row + 1, opposite)
            store(work, _D + row, largest(even, other_even) - same)
            store(work, _D + row + 1, largest(odd, other_odd) - opposite)


@jit_inner
def _groups(work, zero_fours):
    """The best value, its group, and the best value of all other groups."""
    best = splat(load(work, 0), 0)
    second, group = best, best
    for coset in range(15):
        row = 8 * coset
        for l1 in range(0, 8, 2):  # two first labels and two second labels at a time: each load serves twice
            d1, e1 = load(work, _D + row + l1), load(work, _D + row + l1 + 1)
            value, other = splat(best, -_FAR), splat(best, -_FAR)
            for l2 in range(0, 8, 2):
                two, three = row + 120 + l2, row + 240 + (l1 ^ l2)
                r2, s2 = load(work, _R + two), load(work, _R + two + 1)
                d2, e2 = load(work, _D + two), load(work, _D + two + 1)
                r3, s3 = load(work, _R + three), load(work, _R + three + 1)
                d3, e3 = load(work, _D + three), load(work, _D + three + 1)
                value = largest(value, (r2 + r3) + largest(d1, largest(d2, d3)))
                value = largest(value, (s2 + s3) + largest(d1, largest(e2, e3)))
                other = largest(other, (r2 + s3) + largest(e1, largest(d2, e3)))
                other = largest(other, (s2 + r3) + largest(e1, largest(e2, d3)))
            value = value + load(work, _R + row + l1)
            other = other + load(work, _R + row + l1 + 1)
            second = largest(second, smallest(value, best))
            group = where_greater(value, best, splat(best, row + l1), group)
            best = largest(value, best)
            second = largest(second, smallest(other, best))
            group = where_greater(other, best, splat(best, row + l1 + 1), group)
            best = largest(other, best)
    value = _left_over(work, zero_fours)
    second = largest(second, smallest(value, best))
    group = where_greater(value, best, splat(best, _LEFT_OVER), group)
    store(work, _BEST, largest(value, best))
    store(work, _SECOND, second)
    store(work, _GROUP, group)


@jit_inner
def _left_over(work, zero_fours):
    """The best value of the octads that miss a block, of the blocks, and of class 4."""
    value = splat(load(work, 0), 0)
    for i in range(7):
        e0, o0, f0, p0 = _four_set(work, 0, zero_fours[i])
        e1, o1, f1, p1 = _four_set(work, 1, zero_fours[i])
        e2, o2, f2, p2 = _four_set(work, 2, zero_fours[i])
        if i == 0:
            value = largest(value, largest(e0 + f0, o0 + p0))
            value = largest(value, largest(e1 + f1, o1 + p1))
            value = largest(value, largest(e2 + f2, o2 + p2))
        e0, o0, e1, o1, e2, o2 = (
            largest(e0, f0),
            largest(o0, p0),
            largest(e1, f1),
            largest(o1, p1),
            largest(e2, f2),
            largest(o2, p2),
        )
        value = largest(value, largest(e0 + e1, o0 + o1))
        value = largest(value, largest(e0 + e2, o0 + o2))
        value = largest(value, largest(e1 + e2, o1 + o2))
    first = magnitude(load(work, _DOUBLED))
    second = splat(first, 0)
    for i in range(1, 24):
        next_one = magnitude(load(work, _DOUBLED + i))
        second = largest(second, smallest(first, next_one))
        first = largest(first, next_one)
    return largest(value, splat(value, 2) * (first + second))


@jit_inner
def _combination(work, lane, row, l1):
    """Best second label of a group, the gap to the next combination, the deciding block and the gap to the next."""
    best, second, chosen = -_FAR, -_FAR, 0
    r1, d1 = work[_R + row + l1, lane], work[_D + row + l1, lane]
    for l2 in range(8):
        l3 = l1 ^ l2
        r = r1 + work[_R + 120 + row + l2, lane] + work[_R + 240 + row + l3, lane]
        value = r + max(max(d1, work[_D + 120 + row + l2, lane]), work[_D + 240 + row + l3, lane])
        second = max(second, min(best, value))
        chosen = l2 if value > best else chosen
        best = max(best, value)
    d2, d3 = work[_D + 120 + row + chosen, lane], work[_D + 240 + row + (l1 ^ chosen), lane]
    most = max(max(d1, d2), d3)
    middle = max(min(d1, d2), min(max(d1, d2), d3))
    block = 0 if d1 == most else (1 if d2 == most else 2)
    return chosen, block, min(best - second, most - middle)


@jit_inner
def _signed_sum(work, lane, block, word):
    """Sum of a block's coordinates, signed by a word of eight bits."""
    total = 0.0
    for j in range(8):
        total += work[_SIGNED + 16 * block + 2 * j + (word >> (7 - j) & 1), lane]
    return total


@jit_inner
def _sign_row(work, lane, group, words, rank, order):
    """Class 3: the row, and the gap to the next code vector of the group."""
    coset, l1 = group >> 3, group & 7
    l2, holder, gap = _combination(work, lane, 8 * coset, l1)
    total_rank = 0
    for block in range(3):
        word = words[8 * coset + (l1 if block == 0 else (l2 if block == 1 else l1 ^ l2))]
        total = _signed_sum(work, lane, block, word)
        upright = total > 0
        size = 2 * abs(total)
        total_rank |= rank[block, word if upright else 255 - word] if block != holder else 0
        gap = min(gap, size) if block != holder else gap
    word = words[8 * coset + (l1 if holder == 0 else (l2 if holder == 1 else l1 ^ l2))]
    total = _signed_sum(work, lane, holder, word)
    least, most = _FAR, -_FAR
    for j in range(8):
        y = work[_SIGNED + 16 * holder + 2 * j + (word >> (7 - j) & 1), lane]
        least, most = min(least, y), max(most, y)
    upper, lower = total - 4 * least, 4 * most - total
    word = word if upper > lower else 255 - word
    first, second, position = _FAR, _FAR, 0
    for j in range(8):
        y = work[_SIGNED + 16 * holder + 2 * j + (word >> (7 - j) & 1), lane]
        second = min(second, max(first, y))
        position = j if y < first else position
        first = min(first, y)
    gap = min(min(gap, abs(upper - lower)), 4 * (second - first))
    total_rank |= rank[holder, word]
    return _CLASS3 + 4096 * order[8 * holder + position] + total_rank, gap


@jit_inner
def _octad_value(vector, support):
    """Closed form of an octad: its best value and the gap to its next sign pattern."""
    total = 0.0
    least, second = _FAR, _FAR
    minuses = 0
    for j in range(8):
        value = vector[support[j]]
        minuses += value < 0
        size = abs(value)
        total += size
        second = min(second, max(least, size))
        least = min(least, size)
    odd = minuses & 1
    return 2 * total - (4 * least if odd else 0.0), 4 * (second - least if odd else second + least)


@jit_inner
def _octad_index(vector, octad, support):
    """Class 2: the row of an octad's best sign pattern."""
    pattern, minuses, at_least = 0, 0, 0
    least = _FAR
    for j in range(8):
        value = vector[support[j]]
        pattern = 2 * pattern + (value >= 0)
        minuses += value < 0
        at_least = j if abs(value) < least else at_least
        least = min(least, abs(value))
    pattern ^= 128 >> at_least if minuses & 1 else 0
    return 759 * (pattern >> 1) + octad


@jit_inner
def _octad_row(work, lane, group, vector, octads, octad_rank):
    """Class 2: the row, and the gap to the next code vector of the group."""
    coset, l1 = group >> 3, group & 7
    l2, holder, gap = _combination(work, lane, 8 * coset, l1)
    candidates = octad_rank[4 * (coset - 8) + (l1 >> 1), l2 >> 1, holder]
    value, inner = _octad_value(vector, octads[candidates[0]])
    other_value, other_inner = _octad_value(vector, octads[candidates[1]])
    gap = min(gap, abs(value - other_value))
    if other_value > value:
        return _octad_index(vector, candidates[1], octads[candidates[1]]), min(gap, other_inner)
    return _octad_index(vector, candidates[0], octads[candidates[0]]), min(gap, inner)


@jit_inner
def _left_over_row(vector, floor, octads, left_octads):
    """The row among the octads that miss a block, the blocks and class 4, and the gap to the next.

    Octads whose magnitudes cannot reach `floor` are passed over: it lies below what the gap is trusted to.
    """
    best, second, inner, chosen = -1.0, -1.0, 0.0, 0
    for octad in left_octads:
        bound = 0.0
        for j in range(8):
            bound += abs(vector[octads[octad, j]])
        if 2 * bound >= floor:
            value, gap = _octad_value(vector, octads[octad])
            if value > best:
                best, second, inner, chosen = value, best, gap, octad
            elif value > second:
                second = value
    first, next_one, third = -1.0, -1.0, -1.0
    at_first, at_next = 0, 0
    for i in range(24):
        size = abs(vector[i])
        if size > first:
            first, next_one, third, at_first, at_next = size, first, next_one, i, at_first
        elif size > next_one:
            next_one, third, at_next = size, next_one, i
        elif size > third:
            third = size
    value = 4 * (first + next_one)
    if value > best:
        low, high = min(at_first, at_next), max(at_first, at_next)
        pair = low * (47 - low) // 2 + high - low - 1
        row = _CLASS4 + 4 * pair + 2 * (vector[low] >= 0) + (vector[high] >= 0)
        return row, min(value - best, 4 * (next_one - third), 8 * next_one)
    return _octad_index(vector, chosen, octads[chosen]), min(best - max(second, value), inner)
