"""The structured search in plain torch: any device, any float type, and its first pass compiles as one graph.

turyn.py has the mathematics. The first pass (`winners`) finds each vector's winning combination of
coset and labels, with the batch last so that every operation runs along it; rows.py then takes the
combination apart.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from latticebench.lattices.leech_search import rows, turyn

TILE = 512
"""Vectors a tile of the first pass: small enough for the cache on a CPU."""
ROWS_TILE = 8192
"""Vectors a tile of the second pass."""
GPU_TILE = 65_536

_EVEN = (0, 3, 5, 6, 9, 10, 12, 15)
_ODD = (1, 2, 4, 7, 8, 11, 13, 14)
"""Sign patterns of a half-block by parity. An even block word joins two halves of one parity, and up to
its complement the first half's pattern is below 8: 2 x 4 x 8 = 64 classes."""


def nearest(z: Tensor, codebook: str) -> tuple[Tensor, Tensor]:
    """z (N, 24) float32 or float64 -> rows (N,) int64, and (N,) bool where the gap is too small to trust."""
    on_cpu = z.device.type == "cpu"
    tables = device_tables(codebook, z.device)
    found = torch.empty(len(z), dtype=torch.int64, device=z.device)
    unsure = torch.empty(len(z), dtype=torch.bool, device=z.device)
    for start in range(0, len(z), ROWS_TILE if on_cpu else GPU_TILE):
        part = slice(start, start + (ROWS_TILE if on_cpu else GPU_TILE))
        tiles = [winners(tile, tables) for tile in z[part].split(TILE if on_cpu else GPU_TILE)]
        best, gap, combination = (torch.cat(values) for values in zip(*tiles, strict=True))
        found[part], unsure[part] = rows.take_apart(z[part], best, gap, combination, codebook)
    return found, unsure


@functools.lru_cache(maxsize=8)
def device_tables(codebook: str, device: torch.device) -> dict[str, Tensor]:
    """Turyn's tables as the first pass looks them up, on a device."""
    t = turyn.tables(codebook)
    labels = torch.arange(3) % 2
    extended = (4 * labels[:, None, None] + 2 * labels[:, None] + labels).flatten()
    # Where the rows of _sign_classes and _octad_classes stand in the order of cosets and labels.
    signs = [_outer_place(int(word)) for word in t.words]
    r_order = torch.tensor(signs + [64 + 28 * p + int(pair) for pair in t.pair for p in range(2)])
    s_order = torch.tensor(signs + [64 + 28 * p + i for i in range(28) for p in range(2)])
    fours = torch.from_numpy(_all_four_sets(t))
    tables = {
        "order2": torch.from_numpy(t.order2),
        "order3": torch.from_numpy(t.order3),
        "high": torch.tensor(_EVEN[:4] + _ODD[:4]),
        "low": torch.tensor(_EVEN + _ODD),
        "u": torch.from_numpy(turyn.PAIRS[:, 0].copy()),
        "v": torch.from_numpy(turyn.PAIRS[:, 1].copy()),
        "first": fours[0],
        "second": fours[1],
        "r_order": r_order,
        "s_order": s_order,
        "r_extended": r_order.view(15, 8)[:, extended].flatten(),
        "s_extended": s_order.view(15, 8)[:, extended].flatten(),
    }
    return {name: table.to(device) for name, table in tables.items()}


def _outer_place(word: int) -> int:
    high, low = (word >> 4, word & 15) if word < 128 else (15 - (word >> 4), 15 - (word & 15))
    parity = int(high in _ODD)
    patterns = (_EVEN, _ODD)[parity]
    return 32 * parity + 8 * patterns.index(high) + patterns.index(low)


def _all_four_sets(t: turyn.Tables) -> np.ndarray:
    """The 28 four-sets of the cosets, then the 7 of coset 0, each with its complement, as two pairs: (2, 2 x 35)."""
    return np.concatenate([t.fours, t.zero_fours]).transpose(2, 1, 0).reshape(2, 70)


def winners(z: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The first pass on one tile (B, 24), without branches on data.

    Returns the best value (B,), its distance to the best value of every other combination, and the
    combination as 64 coset + 8 l1 + l2 (rows.LEFT_OVER for what no coset reaches).
    """
    z = z.t().contiguous()
    doubled = 2 * z.index_select(0, tables["order2"])
    sign_r, sign_s = _sign_classes(z.index_select(0, tables["order3"]).view(3, 2, 4, -1), tables)
    octad_r, octad_s, left_over = _octad_classes(doubled.view(3, 8, -1), tables)
    left_over = torch.maximum(left_over, _class4(doubled))

    r, s = torch.cat([sign_r, octad_r], 1), torch.cat([sign_s, octad_s], 1)
    r12, s12 = _take(r[:2], tables["r_order"]), _take(s[:2], tables["s_order"])
    r3, s3 = r[2].index_select(0, tables["r_extended"]), s[2].index_select(0, tables["s_extended"])
    groups = _groups(r12, s12, r3, s3)
    best, group, gap = rows.top_two(torch.cat([groups, left_over[None]]))
    l2, label_gap = _second_label(group.clamp(max=turyn.LEFT_OVER - 1), r12, s12, r3, s3)
    reached = group < turyn.LEFT_OVER
    gap = torch.where(reached, torch.minimum(gap, label_gap), gap)
    return best, gap, torch.where(reached, 8 * group + l2, rows.LEFT_OVER)


def _sign_classes(halves: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Class 3: half-blocks (3, 2, 4, B) -> r and r + d (3, 64, B), in the outer order of _EVEN and _ODD."""
    signed = torch.stack([-halves, halves], 3)  # (3, 2, 4, 2, B)
    times4 = 4 * signed
    quantities = torch.stack(
        [
            _patterns(torch.add, signed),
            _patterns(torch.minimum, times4),
            _patterns(torch.maximum, times4),
        ]
    )  # (3, 3, 2, 16, B)
    high = quantities[:, :, 0].index_select(2, tables["high"]).unflatten(2, (2, 4, 1))
    low = quantities[:, :, 1].index_select(2, tables["low"]).unflatten(2, (2, 1, 8))
    total = (high[0] + low[0]).flatten(1, 3)
    least = torch.minimum(high[1], low[1]).flatten(1, 3)
    most = torch.maximum(high[2], low[2]).flatten(1, 3)
    return total.abs(), torch.maximum(total - least, most - total)


def _patterns(combine: Callable[[Tensor, Tensor], Tensor], signed: Tensor) -> Tensor:
    """signed (3, 2, 4, 2, B): four coordinates with both signs -> (3, 2, 16, B): combined under all sign patterns."""
    a, b, c, d = signed.unbind(2)
    ab = combine(a.unsqueeze(3), b.unsqueeze(2)).flatten(2, 3)
    cd = combine(c.unsqueeze(3), d.unsqueeze(2)).flatten(2, 3)
    return combine(ab.unsqueeze(3), cd.unsqueeze(2)).flatten(2, 3)


def _octad_classes(blocks: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Class 2: doubled blocks (3, 8, B) -> pairs and four-sets (3, 2 parities x 28, B), and the best octad (B,) left over."""
    u, v = _take(blocks, tables["u"]), _take(blocks, tables["v"])
    pairs = torch.stack([u + v, u - v], 1).abs()  # (3, 2, 28, B)
    first = pairs.index_select(2, tables["first"])  # (3, 2, 70, B)
    second = pairs.index_select(2, tables["second"])
    straight, crossed = first + second, first + second.flip(1)
    sets = torch.stack([torch.maximum(x[:, 0], x[:, 1]) for x in (straight, crossed)], 1)
    sets = sets.unflatten(2, (2, 35))  # (3, parity, set or complement, 35, B)
    best = torch.maximum(sets[:, :, 0], sets[:, :, 1])
    whole = sets[:, :, 0, 28] + sets[:, :, 1, 28]  # an octad that is a block
    zero = best[:, :, 28:]
    missing = torch.cat([zero[:1] + zero[1:], zero[1:2] + zero[2:]])  # octads that miss a block
    left_over = torch.maximum(whole.amax((0, 1)), missing.amax((0, 1, 2)))
    return pairs.flatten(1, 2), best[:, :, :28].flatten(1, 2), left_over


def _class4(doubled: Tensor) -> Tensor:
    """Doubled coordinates (24, B) -> the best value of class 4 (B,)."""
    first, _, gap = rows.top_two(doubled.abs())
    return 4 * first - 2 * gap


def _groups(r12: Tensor, s12: Tensor, r3: Tensor, s3: Tensor) -> Tensor:
    """The best value of each group (120, B) over its eight second labels.

    s is r + d. The labels of the third block, l1 xor l2, are slices of length two of its three
    axes, which hold the bits 0, 1, 0: no copies.
    """
    r1, r2 = r12.unflatten(1, (15, 8))
    s1, s2 = s12.unflatten(1, (15, 8))
    r2, s2 = r2.unflatten(1, (2, 2, 2)), s2.unflatten(1, (2, 2, 2))
    r3, s3 = r3.unflatten(0, (15, 3, 3, 3)), s3.unflatten(0, (15, 3, 3, 3))
    best = []
    for l1 in range(8):
        a, b, c = l1 >> 2, l1 >> 1 & 1, l1 & 1
        third, third_with = (x[:, a : a + 2, b : b + 2, c : c + 2] for x in (r3, s3))
        without = (r2 + third).amax((1, 2, 3))
        holding = torch.maximum(s2 + third, r2 + third_with).amax((1, 2, 3))
        best.append(torch.maximum(s1[:, l1] + without, r1[:, l1] + holding))
    return torch.stack(best, 1).flatten(0, 1)


def _second_label(group: Tensor, r12: Tensor, s12: Tensor, r3: Tensor, s3: Tensor) -> tuple[Tensor, Tensor]:
    """The best second label of a group (B,) below 120, and the gap to the next."""
    coset, l1 = group >> 3, group & 7
    l2 = torch.arange(8, device=group.device)[:, None]
    l3 = l1 ^ l2
    second = 8 * coset + l2
    third = 27 * coset + 9 * (l3 >> 2) + 3 * (l3 >> 1 & 1) + (l3 & 1)
    r1, s1 = r12[0].gather(0, group[None]), s12[0].gather(0, group[None])
    r2, s2 = r12[1].gather(0, second), s12[1].gather(0, second)
    r3, s3 = r3.gather(0, third), s3.gather(0, third)
    _, chosen, gap = rows.top_two(torch.maximum(s1 + (r2 + r3), r1 + torch.maximum(s2 + r3, r2 + s3)))
    return chosen, gap


def _take(x: Tensor, places: Tensor) -> Tensor:
    """x[:, places], by the operation that copies whole rows."""
    return x.index_select(1, places)
