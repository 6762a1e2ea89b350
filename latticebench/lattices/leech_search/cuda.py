"""The structured search as a Triton kernel: one vector a lane, one pass without branches.

turyn.py has the mathematics, structured.py is the readable twin. The kernel finds the best combination,
of 15 cosets x 64 label pairs and what is left over, and the best value outside it; torch then takes the
winning combination apart. Not measured on a GPU: proven in Triton's interpreter (TRITON_INTERPRET=1).
"""

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from latticebench.lattices import golay
from latticebench.lattices.leech_search import rows, turyn

TILE = 131_072
"""Vectors a launch; bounds the memory of the reordered copies."""
BLOCK = 128
_LEFT_OVER = tl.constexpr(960)


def nearest(z: Tensor, codebook: str) -> tuple[Tensor, Tensor]:
    """z (N, 24) float32 or float64 -> rows (N,) int64, and (N,) bool where the gap is too small to trust."""
    found = torch.empty(len(z), dtype=torch.int64, device=z.device)
    unsure = torch.empty(len(z), dtype=torch.bool, device=z.device)
    for start in range(0, len(z), TILE):
        part = slice(start, start + TILE)
        found[part], unsure[part] = _tile(z[part], codebook)
    return found, unsure


def _tile(z: Tensor, codebook: str) -> tuple[Tensor, Tensor]:
    n, t = len(z), turyn.tables(codebook)
    by_sign = z[:, t.order3.tolist()].t().contiguous()
    doubled = (2 * z[:, t.order2.tolist()]).t().contiguous()
    best, second = torch.empty(2, n, dtype=z.dtype, device=z.device)
    combination = torch.empty(n, dtype=torch.int32, device=z.device)
    _kernel[(triton.cdiv(n, BLOCK),)](
        by_sign, doubled, best, second, combination, *_kernel_tables(codebook, z.device), n, BLOCK=BLOCK
    )
    return rows.take_apart(z, best, best - second, combination.long(), codebook)


@functools.lru_cache(maxsize=8)
def _kernel_tables(codebook: str, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Signs of the cosets (8, 8), pairs (28, 2), four-sets (28, 2, 4) and those of coset 0 (7, 2, 4), int32."""
    t = turyn.tables(codebook)
    signs = 2 * torch.from_numpy(golay.bits(t.words[::8], 8)).int() - 1
    pairs = turyn.PAIRS
    return (
        signs.to(device),
        torch.from_numpy(pairs[t.pair]).int().to(device),
        torch.from_numpy(pairs[t.fours].reshape(28, 2, 4)).int().to(device),
        torch.from_numpy(pairs[t.zero_fours].reshape(7, 2, 4)).int().to(device),
    )


@triton.jit
def _halves(a, b, c, d):
    """Sums, minima and maxima of four values under the sign patterns ----, ++--, +-+-, -++- of H."""
    sums = (-(a + b) - (c + d), (a + b) - (c + d), (a - b) + (c - d), (b - a) + (c - d))
    least = (
        tl.minimum(tl.minimum(-a, -b), tl.minimum(-c, -d)),
        tl.minimum(tl.minimum(a, b), tl.minimum(-c, -d)),
        tl.minimum(tl.minimum(a, -b), tl.minimum(c, -d)),
        tl.minimum(tl.minimum(-a, b), tl.minimum(c, -d)),
    )
    most = (
        tl.maximum(tl.maximum(-a, -b), tl.maximum(-c, -d)),
        tl.maximum(tl.maximum(a, b), tl.maximum(-c, -d)),
        tl.maximum(tl.maximum(a, -b), tl.maximum(c, -d)),
        tl.maximum(tl.maximum(-a, b), tl.maximum(c, -d)),
    )
    return sums, least, most


@triton.jit
def _sign_class(total, least, most):
    r = tl.abs(total)
    return r, tl.maximum(total - 4 * least, 4 * most - total) - r


@triton.jit
def _sign_block(y, block: tl.constexpr, signs, coset, n, lane, valid):
    """Class 3: r and d (8 each) of one block in a coset."""
    row = y + (8 * block) * n + lane
    sign = signs + 8 * coset
    y0 = tl.load(row, valid, other=0.0) * tl.load(sign)
    y1 = tl.load(row + n, valid, other=0.0) * tl.load(sign + 1)
    y2 = tl.load(row + 2 * n, valid, other=0.0) * tl.load(sign + 2)
    y3 = tl.load(row + 3 * n, valid, other=0.0) * tl.load(sign + 3)
    y4 = tl.load(row + 4 * n, valid, other=0.0) * tl.load(sign + 4)
    y5 = tl.load(row + 5 * n, valid, other=0.0) * tl.load(sign + 5)
    y6 = tl.load(row + 6 * n, valid, other=0.0) * tl.load(sign + 6)
    y7 = tl.load(row + 7 * n, valid, other=0.0) * tl.load(sign + 7)
    s, m, x = _halves(y0, y1, y2, y3)
    t, k, w = _halves(y4, y5, y6, y7)
    # Label 2 p + 1 complements the first half of label 2 p.
    r0, d0 = _sign_class(s[0] + t[0], tl.minimum(m[0], k[0]), tl.maximum(x[0], w[0]))
    r1, d1 = _sign_class(t[0] - s[0], tl.minimum(-x[0], k[0]), tl.maximum(-m[0], w[0]))
    r2, d2 = _sign_class(s[1] + t[1], tl.minimum(m[1], k[1]), tl.maximum(x[1], w[1]))
    r3, d3 = _sign_class(t[1] - s[1], tl.minimum(-x[1], k[1]), tl.maximum(-m[1], w[1]))
    r4, d4 = _sign_class(s[2] + t[2], tl.minimum(m[2], k[2]), tl.maximum(x[2], w[2]))
    r5, d5 = _sign_class(t[2] - s[2], tl.minimum(-x[2], k[2]), tl.maximum(-m[2], w[2]))
    r6, d6 = _sign_class(s[3] + t[3], tl.minimum(m[3], k[3]), tl.maximum(x[3], w[3]))
    r7, d7 = _sign_class(t[3] - s[3], tl.minimum(-x[3], k[3]), tl.maximum(-m[3], w[3]))
    return (r0, r1, r2, r3, r4, r5, r6, r7), (d0, d1, d2, d3, d4, d5, d6, d7)


@triton.jit
def _four_set(row, at, n, valid):
    """Best even and odd value of a four-set whose coordinates stand at `at`."""
    a = tl.load(row + tl.load(at) * n, valid, other=0.0)
    b = tl.load(row + tl.load(at + 1) * n, valid, other=0.0)
    c = tl.load(row + tl.load(at + 2) * n, valid, other=0.0)
    d = tl.load(row + tl.load(at + 3) * n, valid, other=0.0)
    s, t, u, v = tl.abs(a + b), tl.abs(a - b), tl.abs(c + d), tl.abs(c - d)
    return tl.maximum(s + u, t + v), tl.maximum(s + v, t + u)


@triton.jit
def _octad_class(row, pair, four, n, valid):
    u = tl.load(row + tl.load(pair) * n, valid, other=0.0)
    v = tl.load(row + tl.load(pair + 1) * n, valid, other=0.0)
    even, odd = _four_set(row, four, n, valid)
    other_even, other_odd = _four_set(row, four + 4, n, valid)
    same, opposite = tl.abs(u + v), tl.abs(u - v)
    return same, opposite, tl.maximum(even, other_even) - same, tl.maximum(odd, other_odd) - opposite


@triton.jit
def _octad_block(z, block: tl.constexpr, pairs, fours, coset, n, lane, valid):
    """Class 2: r and d (8 each) of one block in coset `coset` + 1."""
    row = z + (8 * block) * n + lane
    r0, r1, d0, d1 = _octad_class(row, pairs + 8 * coset, fours + 32 * coset, n, valid)
    r2, r3, d2, d3 = _octad_class(row, pairs + 8 * coset + 2, fours + 32 * coset + 8, n, valid)
    r4, r5, d4, d5 = _octad_class(row, pairs + 8 * coset + 4, fours + 32 * coset + 16, n, valid)
    r6, r7, d6, d7 = _octad_class(row, pairs + 8 * coset + 6, fours + 32 * coset + 24, n, valid)
    return (r0, r1, r2, r3, r4, r5, r6, r7), (d0, d1, d2, d3, d4, d5, d6, d7)


@triton.jit
def _keep(value, number, best, second, chosen):
    second = tl.maximum(second, tl.minimum(value, best))
    chosen = tl.where(value > best, number, chosen)
    return tl.maximum(value, best), second, chosen


@triton.jit
def _combine(ra, da, rb, db, rc, dc, first, best, second, chosen):
    """The 64 combinations of a coset."""
    for l1 in tl.static_range(8):
        for l2 in tl.static_range(8):
            r = (ra[l1] + rb[l2]) + rc[l1 ^ l2]
            value = r + tl.maximum(tl.maximum(da[l1], db[l2]), dc[l1 ^ l2])
            best, second, chosen = _keep(value, first + 8 * l1 + l2, best, second, chosen)
    return best, second, chosen


@triton.jit
def _left_over(z, zero_fours, n, lane, valid):
    """The best value of the octads that miss a block, of the blocks, and of class 4."""
    first = tl.abs(tl.load(z + lane, valid, other=0.0))
    second = tl.zeros_like(first)
    for i in range(1, 24):
        size = tl.abs(tl.load(z + i * n + lane, valid, other=0.0))
        second = tl.maximum(second, tl.minimum(first, size))
        first = tl.maximum(first, size)
    value = 2 * (first + second)
    for i in range(7):
        four = zero_fours + 8 * i
        e0, o0 = _four_set(z + lane, four, n, valid)
        f0, p0 = _four_set(z + lane, four + 4, n, valid)
        e1, o1 = _four_set(z + 8 * n + lane, four, n, valid)
        f1, p1 = _four_set(z + 8 * n + lane, four + 4, n, valid)
        e2, o2 = _four_set(z + 16 * n + lane, four, n, valid)
        f2, p2 = _four_set(z + 16 * n + lane, four + 4, n, valid)
        value = tl.maximum(value, tl.maximum(e0 + f0, o0 + p0))
        value = tl.maximum(value, tl.maximum(e1 + f1, o1 + p1))
        value = tl.maximum(value, tl.maximum(e2 + f2, o2 + p2))
        e0, o0 = tl.maximum(e0, f0), tl.maximum(o0, p0)
        e1, o1 = tl.maximum(e1, f1), tl.maximum(o1, p1)
        e2, o2 = tl.maximum(e2, f2), tl.maximum(o2, p2)
        value = tl.maximum(value, tl.maximum(e0 + e1, o0 + o1))
        value = tl.maximum(value, tl.maximum(e0 + e2, o0 + o2))
        value = tl.maximum(value, tl.maximum(e1 + e2, o1 + o2))
    return value


@triton.jit
def _kernel(
    by_sign, doubled, best_out, second_out, chosen_out, signs, pairs, fours, zero_fours, n, BLOCK: tl.constexpr
):
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = lane < n
    best = _left_over(doubled, zero_fours, n, lane, valid)
    second = tl.zeros_like(best)
    chosen = tl.zeros_like(lane) + _LEFT_OVER
    for coset in range(8):
        ra, da = _sign_block(by_sign, 0, signs, coset, n, lane, valid)
        rb, db = _sign_block(by_sign, 1, signs, coset, n, lane, valid)
        rc, dc = _sign_block(by_sign, 2, signs, coset, n, lane, valid)
        best, second, chosen = _combine(ra, da, rb, db, rc, dc, 64 * coset, best, second, chosen)
    for coset in range(7):
        ra, da = _octad_block(doubled, 0, pairs, fours, coset, n, lane, valid)
        rb, db = _octad_block(doubled, 1, pairs, fours, coset, n, lane, valid)
        rc, dc = _octad_block(doubled, 2, pairs, fours, coset, n, lane, valid)
        best, second, chosen = _combine(ra, da, rb, db, rc, dc, 64 * (coset + 8), best, second, chosen)
    tl.store(best_out + lane, best, valid)
    tl.store(second_out + lane, second, valid)
    tl.store(chosen_out + lane, chosen, valid)
