"""The structured search in plain torch: any device, any float type, and it compiles as one graph.

turyn.py has the mathematics. Tensors carry the batch last, so that every operation runs along it.
"""

import functools

import torch
from torch import Tensor

from latticebench.lattices import golay, leech
from latticebench.lattices.leech_search import turyn

TILE = 1024
"""Vectors a tile: small enough for the cache on a CPU."""
GPU_TILE = 65_536


def nearest(z: Tensor, codebook: str) -> tuple[Tensor, Tensor]:
    """z (N, 24) float32 or float64 -> rows (N,) int64, and (N,) bool where the gap is too small to trust."""
    tables = device_tables(codebook, z.device)
    size = TILE if z.device.type == "cpu" else GPU_TILE
    tiles = [nearest_tile(tile, tables) for tile in z.split(size)] if len(z) else [nearest_tile(z, tables)]
    rows, unsure = zip(*tiles, strict=True)
    return torch.cat(rows), torch.cat(unsure)


@functools.lru_cache(maxsize=8)
def device_tables(codebook: str, device: torch.device) -> dict[str, Tensor]:
    """Turyn's tables as tensors on a device."""
    t = turyn.tables(codebook)
    words = torch.from_numpy(t.words)
    tables = {
        "order2": torch.from_numpy(t.order2),
        "order3": torch.from_numpy(t.order3),
        "words": words,
        "high": words >> 4,
        "low": words & 15,
        "pair": torch.from_numpy(t.pair),
        "four_first": torch.from_numpy(t.fours[:, :, 0].copy()),
        "four_second": torch.from_numpy(t.fours[:, :, 1].copy()),
        "u": torch.from_numpy(turyn.PAIRS[:, 0].copy()),
        "v": torch.from_numpy(turyn.PAIRS[:, 1].copy()),
        "rank": torch.from_numpy(t.rank),
        "octads": torch.from_numpy(t.octads),
        "octad_rank": torch.from_numpy(t.octad_rank.reshape(28, 4, 6)),
        "left_octads": torch.from_numpy(t.left_octads),
        "word_signs": torch.from_numpy(2 * golay.bits(t.words, 8).astype("int8") - 1),
        "flips": torch.from_numpy(2 * golay.bits(range(8), 3).astype("int8") - 1),
    }
    return {name: table.to(device) for name, table in tables.items()}


def nearest_tile(z: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """One tile, without branches on data: see `nearest`."""
    by_sign = z[:, tables["order3"]].t().contiguous()
    doubled = 2 * z[:, tables["order2"]].t()
    r3, d3 = _sign_classes(by_sign.view(3, 2, 4, -1), tables)
    r2, d2 = _octad_classes(doubled.reshape(3, 8, -1), tables)
    r, d = torch.cat([r3, r2], 1), torch.cat([d3, d2], 1)

    left_value, left_octad, left_gap = _octads(z.t(), tables["octads"][tables["left_octads"]].unsqueeze(-1))
    pair_value, pair_row, pair_gap = _class4(z)
    values = torch.cat([_combinations(r, d), left_value[None], pair_value[None]])
    best, group, gap = _top_two(values)

    coset, l1 = group.clamp(max=turyn.LEFT_OVER - 1) >> 3, group & 7
    l2, combination_gap = _second_label(r, d, coset, l1)
    in_signs, sign_gap = sign_row(by_sign.view(3, 8, -1), coset, l1, l2, tables)
    in_octads, octad_gap = octad_row(z.t(), coset, l1, l2, tables)
    left_row = _octad_index(z.t(), tables["left_octads"][left_octad], tables)

    is_sign, is_octad = group < turyn.SIGN_GROUPS, group < turyn.LEFT_OVER
    is_left = group == turyn.LEFT_OVER
    rows = torch.where(is_sign, in_signs, torch.where(is_octad, in_octads, torch.where(is_left, left_row, pair_row)))
    inner = torch.where(is_sign, sign_gap, torch.where(is_octad, octad_gap, torch.where(is_left, left_gap, pair_gap)))
    gap = torch.minimum(gap, torch.where(is_octad, torch.minimum(inner, combination_gap), inner))
    return rows, ~(gap > best * turyn.TRUSTED_GAP)


def _sign_classes(half_blocks: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Class 3: half-blocks (3, 2, 4, B) -> r, d (3, 64, B)."""
    signed = torch.stack([-half_blocks, half_blocks], 2)
    a, b, c, d = signed.unbind(3)  # (3, 2, 2, B) each: block, half, sign
    ab = (a.unsqueeze(3) + b.unsqueeze(2)).flatten(2, 3).unsqueeze(3)
    cd = (c.unsqueeze(3) + d.unsqueeze(2)).flatten(2, 3).unsqueeze(2)
    sums = (ab + cd).flatten(2, 3)  # (3, 2, 16, B)
    ab = torch.minimum(a.unsqueeze(3), b.unsqueeze(2)).flatten(2, 3).unsqueeze(3)
    cd = torch.minimum(c.unsqueeze(3), d.unsqueeze(2)).flatten(2, 3).unsqueeze(2)
    least = torch.minimum(ab, cd).flatten(2, 3)
    high, low = tables["high"], tables["low"]
    total = _take(sums[:, 0], high) + _take(sums[:, 1], low)
    smallest = torch.minimum(_take(least[:, 0], high), _take(least[:, 1], low))
    largest = torch.minimum(_take(least[:, 0], 15 - high), _take(least[:, 1], 15 - low))  # negated
    r = total.abs()
    return r, torch.maximum(total - 4 * smallest, -(total + 4 * largest)) - r


def _octad_classes(blocks: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Class 2: doubled blocks (3, 8, B) -> r, d (3, 56, B)."""
    u, v = _take(blocks, tables["u"]), _take(blocks, tables["v"])
    same, opposite = (u + v).abs(), (u - v).abs()
    first, second = tables["four_first"], tables["four_second"]  # (28, 2): number, set or complement
    same1, opposite1 = _take(same, first), _take(opposite, first)
    same2, opposite2 = _take(same, second), _take(opposite, second)
    even = torch.maximum(same1 + same2, opposite1 + opposite2).amax(2)
    odd = torch.maximum(same1 + opposite2, opposite1 + same2).amax(2)
    r = torch.stack([_take(same, tables["pair"]), _take(opposite, tables["pair"])], 2)
    return r.flatten(1, 2), (torch.stack([even, odd], 2) - r).flatten(1, 2)


def _combinations(r: Tensor, d: Tensor) -> Tensor:
    """r, d (3, 120, B) -> the best value of each group (120, B)."""
    r1, r2, r3 = r.unflatten(1, (15, 8)).unbind(0)
    d1, d2, d3 = d.unflatten(1, (15, 8)).unbind(0)
    best = []
    for l1 in range(8):
        l3 = torch.arange(8, device=r.device) ^ l1
        value = torch.maximum(torch.maximum(d1[:, l1, None], d2), _take(d3, l3))
        best.append((value + ((r1[:, l1, None] + r2) + _take(r3, l3))).amax(1))
    return torch.stack(best, 1).flatten(0, 1)


def _second_label(r: Tensor, d: Tensor, coset: Tensor, l1: Tensor) -> tuple[Tensor, Tensor]:
    """The winning group taken apart: l2 (B,), and the gap to its next combination."""
    l2 = torch.arange(8, device=r.device)[:, None]
    rows = 8 * coset + torch.stack([l1.expand(8, -1), l2.expand(8, len(l1)), l1 ^ l2])  # (3, 8, B)
    value = r.gather(1, rows).sum(0) + d.gather(1, rows).amax(0)
    _, chosen, gap = _top_two(value)
    return chosen, gap


def sign_row(blocks: Tensor, coset: Tensor, l1: Tensor, l2: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Class 3: row and gap among the 8 x 24 code vectors of a combination (garbage for other classes)."""
    classes = (8 * coset + torch.stack([l1, l2, l1 ^ l2])).clamp(max=turyn.SIGN_GROUPS - 1)  # (3, B)
    signed = tables["word_signs"][classes].transpose(1, 2) * blocks  # (3, 8, B)
    flips = tables["flips"]  # (8, 3): the blocks' complements
    totals = (flips[:, :, None] * signed.sum(1)).sum(1)  # (8, B)
    threes = (flips[:, :, None, None] * signed).flatten(1, 2)  # (8, 24, B)
    _, chosen, gap = _top_two((totals[:, None] - 4 * threes).flatten(0, 1))
    position = tables["order3"][chosen % 24]
    words = tables["words"][classes] ^ torch.where(flips[chosen // 24].t() > 0, 0, 255)
    rank = tables["rank"].gather(1, words).sum(0)
    return leech.CLASSES["class3"].start + 4096 * position + rank, gap


def octad_row(z: Tensor, coset: Tensor, l1: Tensor, l2: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Class 2: row and gap among the six octads of a combination (garbage for class 3)."""
    candidates = tables["octad_rank"][(4 * (coset - 8) + (l1 >> 1)).clamp(min=0), l2 >> 1].t()  # (6, B)
    supports = tables["octads"][candidates].transpose(1, 2)  # (6, 8, B)
    _, chosen, gap = _octads(z, supports)
    return _octad_index(z, candidates.gather(0, chosen[None])[0], tables), gap


def left_over_row(z: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """z (B, 24) -> row and gap among class 4 and the octads that no coset reaches."""
    value, octad, inner = _octads(z.t(), tables["octads"][tables["left_octads"]].unsqueeze(-1))
    pair_value, pair_row, pair_inner = _class4(z)
    row = _octad_index(z.t(), tables["left_octads"][octad], tables)
    is_pair = pair_value > value
    gap = torch.minimum((pair_value - value).abs(), torch.where(is_pair, pair_inner, inner))
    return torch.where(is_pair, pair_row, row), gap


def _octads(z: Tensor, supports: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """z (24, B), supports (n, 8, B) or (n, 8, 1) -> best value, which of the n, and gap to the next sign pattern."""
    if supports.shape[-1] == 1:
        values = z.index_select(0, supports.flatten()).unflatten(0, supports.shape[:2])
    else:
        values = z.gather(0, supports.flatten(0, 1)).view(supports.shape)
    sizes = values.abs()
    least = next_least = torch.full_like(sizes[:, 0], torch.inf)
    for size in sizes.unbind(1):
        next_least = torch.minimum(next_least, torch.maximum(least, size))
        least = torch.minimum(least, size)
    odd = ((values < 0).sum(1) & 1).bool()
    value = 2 * sizes.sum(1) - torch.where(odd, 4 * least, 0)
    inner = 4 * torch.where(odd, next_least - least, next_least + least)
    best, chosen, gap = _top_two(value)
    return best, chosen, torch.minimum(gap, inner.gather(0, chosen[None])[0])


def _octad_index(z: Tensor, octad: Tensor, tables: dict[str, Tensor]) -> Tensor:
    """Class 2: z (24, B), octads (B,) -> the rows of their best sign patterns."""
    values = z.gather(0, tables["octads"][octad].t())
    positive = values >= 0
    odd = (~positive).sum(0, keepdim=True) & 1
    at_least = values.abs().argmin(0, keepdim=True)
    place = torch.arange(8, device=z.device)[:, None]
    positive = positive ^ ((place == at_least) & odd.bool())
    return 759 * (positive[:7].long() << (6 - place[:7])).sum(0) + octad


def _class4(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """z (B, 24) -> best value, row, and gap to the next code vector of class 4."""
    sizes, at = z.abs().topk(3, dim=1)
    first, last = at[:, :2].amin(1), at[:, :2].amax(1)
    signs = (z.gather(1, torch.stack([first, last], 1)) >= 0).long()
    pair = first * (47 - first) // 2 + last - first - 1
    row = leech.CLASSES["class4"].start + 4 * pair + 2 * signs[:, 0] + signs[:, 1]
    gap = 4 * torch.minimum(sizes[:, 1] - sizes[:, 2], 2 * sizes[:, 1])
    return 4 * (sizes[:, 0] + sizes[:, 1]), row, gap


def _top_two(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """values (n, B) -> the largest, its place, and its distance to the second."""
    best, place = values.max(0)
    second = values.scatter(0, place[None], -torch.inf).amax(0)
    return best, place, best - second


def _take(x: Tensor, places: Tensor) -> Tensor:
    """x[:, places], by the operation that copies whole rows."""
    return x.index_select(1, places.flatten()).unflatten(1, places.shape)
