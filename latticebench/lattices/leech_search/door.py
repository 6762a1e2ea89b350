"""The door of the exact search: checks and scales the input, chooses the implementation."""

import torch
from torch import Tensor

from latticebench.lattices.leech_search import dense


def search(z: Tensor, codebook: str, backend: str) -> Tensor:
    """See `leech.nearest`."""
    z = torch.as_tensor(z)
    if z.shape[-1:] != (24,):
        raise ValueError(f"z must have 24 coordinates last, got shape {tuple(z.shape)}")
    if not z.is_floating_point():
        raise TypeError(f"z must be floating point, got {z.dtype}")
    flat = z.detach().reshape(-1, 24)
    flat = flat if flat.dtype == torch.float64 else flat.float()
    if not bool(torch.isfinite(flat).all()):
        raise ValueError("z holds NaN or infinity: no code vector is nearest")
    with torch.no_grad(), torch.autocast(flat.device.type, enabled=False):
        return dense.nearest(power_of_two_scaled(flat), codebook).reshape(z.shape[:-1])


def power_of_two_scaled(flat: Tensor) -> Tensor:
    """Rows (N, 24) scaled by a power of two to a largest magnitude in [0.5, 1): exact, so that ties stay ties."""
    _, exponent = torch.frexp(flat.abs().amax(1, keepdim=True))
    half = -exponent // 2  # in two steps, because 2^-exponent of a subnormal number overflows
    return torch.ldexp(torch.ldexp(flat, half), -exponent - half)
