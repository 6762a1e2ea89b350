"""Nearest code vector by tiled dense products: exact up to rounding, ties to the lowest index."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


def tile_rows(columns: int, dtype: torch.dtype, tile_mb: float) -> int:
    """How many rows of a (rows, columns) matrix fit into `tile_mb` MiB; at least one."""
    return max(1, int(tile_mb * 2**20) // max(1, columns * dtype.itemsize))


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
    rows = tile_rows(len(codebook), z.dtype, tile_mb)
    if len(z) <= rows:
        return scores(z, codebook, offset).argmax(dim=-1)
    return torch.cat([scores(tile, codebook, offset).argmax(dim=-1) for tile in z.split(rows)])


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
