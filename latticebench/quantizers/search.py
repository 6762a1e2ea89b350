"""Nearest code vector by tiled dense products: exact up to rounding, ties to the lowest index."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

CPU_TILE_MB = 2.0
"""On a CPU tiles that stay in its cache are several times faster than large ones."""


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
    rows = tile_rows(len(codebook), z, tile_mb)
    return torch.cat([first_argmax(scores(tile, codebook, offset)) for tile in z.split(rows)])


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
