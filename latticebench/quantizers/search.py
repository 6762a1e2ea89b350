"""Nearest code vector by tiled dense products: exact up to rounding, ties to the lowest index."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

CPU_TILE_MB = 2.0
"""On a CPU tiles that stay in its cache are several times faster than large ones."""

COLUMNS = 2048
"""Code vectors a tile where a whole row of scores would leave too few rows to reuse each code vector in the cache."""


def tile_rows(columns: int, like: Tensor, tile_mb: float) -> int:
    """How many rows of a (rows, columns) matrix like `like` fit into `tile_mb` MiB (into the cache of a CPU); >= 1."""
    if not like.is_cuda:
        tile_mb = min(tile_mb, CPU_TILE_MB)
    return max(1, int(tile_mb * 2**20) // max(1, columns * like.dtype.itemsize))


def half_square_norms(codebook: Tensor) -> Tensor:
    """codebook (K, d) -> ‖c‖²/2 (K,)."""
    return codebook.square().sum(dim=-1) / 2


def scores(z: Tensor, codebook: Tensor, offset: Tensor | None) -> Tensor:
    """z (N, d), codebook (K, d) -> z·c − offset (N, K); with offset ‖c‖²/2 the largest is the nearest by ℓ2."""
    with _ieee_products(z):
        if offset is None:
            return z @ codebook.t()
        return torch.addmm(offset, z, codebook.t(), beta=-1)


def largest_score(z: Tensor, codebook: Tensor, offset: Tensor | None, tile_mb: float) -> Tensor:
    """The row of the codebook with the largest score for each z.

    z (N, d) and codebook (K, d) in one full-precision dtype; offset (K,) or None, see `scores`.
    Returns int64 (N,); of equal scores the lowest index. No matrix above `tile_mb` MiB is alive.
    """
    columns = len(codebook)
    rows = tile_rows(columns, z, tile_mb)
    if rows < 64 < columns:
        columns = min(columns, COLUMNS)
        rows = tile_rows(columns, z, tile_mb)
    return torch.cat([_largest_in_row_tile(tile, codebook, offset, columns) for tile in z.split(rows)])


def _largest_in_row_tile(z: Tensor, codebook: Tensor, offset: Tensor | None, columns: int) -> Tensor:
    if columns >= len(codebook):
        return first_argmax(scores(z, codebook, offset))
    best_score = torch.full((len(z),), -torch.inf, dtype=z.dtype, device=z.device)
    best = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    for start in range(0, len(codebook), columns):
        part = slice(start, start + columns)
        s = scores(z, codebook[part], None if offset is None else offset[part])
        position = first_argmax(s)
        score = s.gather(1, position[:, None]).squeeze(1)
        better = score > best_score  # strictly: an equal score in a later tile has a higher index
        best_score = torch.where(better, score, best_score)
        best = torch.where(better, position + start, best)
    return best


def first_argmax(s: Tensor) -> Tensor:
    """s (N, K) -> the first position of each row's maximum (N,) int64.

    `amax` is vectorised on the CPU and `argmax` is not, so the latter sees one block of each row only.
    """
    columns = s.shape[1]
    block = next((size for size in range(64, 31, -1) if columns % size == 0), None)
    if block is None or s.is_cuda:
        return s.argmax(dim=-1)
    blocks = s.view(len(s), columns // block, block)
    best = blocks.amax(dim=-1).argmax(dim=-1)
    inner = blocks[torch.arange(len(s), device=s.device), best].argmax(dim=-1)
    return best * block + inner


def nearest(z: Tensor, codebook: Tensor, tile_mb: float) -> Tensor:
    """Index (N,) int64 of the row of codebook (K, d) nearest to each z (N, d) by ℓ2; see `largest_score`."""
    return largest_score(z, codebook, half_square_norms(codebook), tile_mb)


def check_finite(name: str, z: Tensor) -> None:
    """Raises ValueError on NaN or infinity, which have no nearest code vector."""
    if not bool(torch.isfinite(z).all()):
        raise ValueError(f"{name}: z holds NaN or infinity, which have no nearest code vector")


@contextlib.contextmanager
def _ieee_products(z: Tensor) -> Iterator[None]:
    # TF32 keeps ten bits of the mantissa and picks other codes, so a trainer's setting must not reach the search.
    if not z.is_cuda or torch.get_float32_matmul_precision() == "highest":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
