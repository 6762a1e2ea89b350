"""The second pass of the searches in torch: the row inside a winning combination, and the gap to the next.

turyn.py has the mathematics. Vectors of one kind are taken together, with the batch last.
"""

import functools

import torch
from torch import Tensor

from latticebench.lattices import golay, leech
from latticebench.lattices.leech_search import turyn

SIGNS, LEFT_OVER = 512, 960
"""Combinations are 64 coset + 8 l1 + l2: class 3 below SIGNS, class 2 below LEFT_OVER, which is what no coset reaches."""


def take_apart(z: Tensor, best: Tensor, gap: Tensor, combination: Tensor, codebook: str) -> tuple[Tensor, Tensor]:
    """z (N, 24), and of each vector the best value, the gap to other combinations, and the combination.

    Returns rows (N,) int64, and (N,) bool where the gap is too small to trust.
    """
    tables = device_tables(codebook, z.device)
    rows, gap = torch.zeros_like(combination), gap.clone()
    bounds = {_sign_row: (0, SIGNS), _octad_row: (SIGNS, LEFT_OVER), _left_over_row: (LEFT_OVER, LEFT_OVER + 1)}
    for search, (low, high) in bounds.items():
        chosen = ((combination >= low) & (combination < high)).nonzero()[:, 0]
        if len(chosen):
            row, inner = search(z.index_select(0, chosen).t().contiguous(), combination[chosen], tables)
            rows[chosen] = row
            gap[chosen] = torch.minimum(gap[chosen], inner)
    return rows, ~(gap > best * turyn.TRUSTED_GAP)


def top_two(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """values (n, B) -> the largest, its place, and its distance to the second."""
    best, place = values.max(0)
    second = values.scatter(0, place[None], -torch.inf).amax(0)
    return best, place, best - second


@functools.lru_cache(maxsize=8)
def device_tables(codebook: str, device: torch.device) -> dict[str, Tensor]:
    """Turyn's tables as the second pass looks them up, on a device."""
    t = turyn.tables(codebook)
    tables = {
        "order3": torch.from_numpy(t.order3),
        "words": torch.from_numpy(t.words),
        "word_signs": torch.from_numpy(2 * golay.bits(t.words, 8).astype("int8") - 1),
        "rank": torch.from_numpy(t.rank),
        "octads": torch.from_numpy(t.octads),
        "octad_rank": torch.from_numpy(t.octad_rank.reshape(28, 4, 6)),
        "left_octads": torch.from_numpy(t.left_octads),
    }
    return {name: table.to(device) for name, table in tables.items()}


def _sign_row(z: Tensor, combination: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Class 3: z (24, B) -> row, and gap to the next code vector of the combination.

    Another code vector has the ∓3 in another block, or a block upside down, or the ∓3 elsewhere in
    its block; the smallest loss of one such step bounds them all.
    """
    coset, l1, l2 = combination >> 6, combination >> 3 & 7, combination & 7
    classes = 8 * coset + torch.stack([l1, l2, l1 ^ l2])  # (3, B)
    signed = z.index_select(0, tables["order3"]).view(3, 8, -1)
    signed = signed * tables["word_signs"].index_select(0, classes.flatten()).view(3, -1, 8).transpose(1, 2)
    total = signed.sum(1)
    upright, upside_down = total - 4 * signed.amin(1), 4 * signed.amax(1) - total
    size = total.abs()
    _, holder, gap = top_two(torch.maximum(upright, upside_down) - size)
    holds = torch.arange(3, device=z.device)[:, None] == holder
    flip = torch.where(holds, upright < upside_down, total < 0)  # (3, B)
    gap = torch.minimum(gap, torch.where(holds, (upright - upside_down).abs(), 2 * size).amin(0))
    signed = torch.where(flip[:, None], -signed, signed).flatten(0, 1)
    _, place, step = top_two(-signed)  # smallest first
    words = tables["words"][classes] ^ torch.where(flip, 255, 0)
    rank = tables["rank"].gather(1, words).sum(0)
    rows = leech.CLASSES["class3"].start + 4096 * tables["order3"][place] + rank
    return rows, torch.minimum(gap, 4 * step)


def _octad_row(z: Tensor, combination: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Class 2: z (24, B) -> row, and gap among the six octads of the combination."""
    coset, l1, l2 = combination >> 6, combination >> 3 & 7, combination & 7
    candidates = tables["octad_rank"][4 * (coset - 8) + (l1 >> 1), l2 >> 1].t()  # (6, B)
    supports = tables["octads"].index_select(0, candidates.flatten()).view(6, -1, 8).transpose(1, 2)
    chosen, gap = _best_octad(z.gather(0, supports.flatten(0, 1)).view(supports.shape))[1:]
    return _octad_index(z, candidates.gather(0, chosen[None])[0], tables), gap


def _left_over_row(z: Tensor, combination: Tensor, tables: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """z (24, B) -> row and gap among class 4 and the octads that no coset reaches."""
    octads = tables["octads"][tables["left_octads"]]
    value, chosen, inner = _best_octad(z.index_select(0, octads.flatten()).unflatten(0, octads.shape))
    pair_value, pair_row, pair_inner = _class4(z)
    is_pair = pair_value > value
    row = torch.where(is_pair, pair_row, _octad_index(z, tables["left_octads"][chosen], tables))
    gap = torch.minimum((pair_value - value).abs(), torch.where(is_pair, pair_inner, inner))
    return row, gap


def _best_octad(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates on n octads (n, 8, B) -> the best value (B,), which of the n, and the gap to the next code vector."""
    sizes = values.abs()
    least = next_least = torch.full_like(sizes[:, 0], torch.inf)
    for size in sizes.unbind(1):
        next_least = torch.minimum(next_least, torch.maximum(least, size))
        least = torch.minimum(least, size)
    odd = functools.reduce(torch.logical_xor, (values < 0).unbind(1))
    value = 2 * sizes.sum(1) - torch.where(odd, 4 * least, 0)
    inner = 4 * torch.where(odd, next_least - least, next_least + least)
    best, chosen, gap = top_two(value)
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
    """z (24, B) -> best value, row, and gap to the next code vector of class 4."""
    sizes, at = z.abs().topk(3, dim=0)
    first, last = at[:2].amin(0), at[:2].amax(0)
    signs = (z.gather(0, torch.stack([first, last])) >= 0).long()
    pair = first * (47 - first) // 2 + last - first - 1
    row = leech.CLASSES["class4"].start + 4 * pair + 2 * signs[0] + signs[1]
    gap = 4 * torch.minimum(sizes[1] - sizes[2], 2 * sizes[1])
    return 4 * (sizes[0] + sizes[1]), row, gap
