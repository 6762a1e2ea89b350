"""Input of the searches, scaled by a power of two: exact, so that ties stay ties."""

import torch
from torch import Tensor

NOT_FINITE = "z holds NaN or infinity: no code vector is nearest"


def power_of_two_scaled(flat: Tensor) -> Tensor:
    """Rows (N, 24) scaled by a power of two to a largest magnitude in [0.5, 1); rows of zeros stay.

    Any device; cpu.py has a faster twin. Raises ValueError on NaN and infinity.
    """
    largest = flat.abs().amax(1, keepdim=True)
    if not bool(torch.isfinite(largest).all()):
        raise ValueError(NOT_FINITE)
    _, exponent = torch.frexp(largest)
    half = -exponent // 2  # in two steps, because 2^-exponent of a subnormal number overflows
    one = torch.ones_like(largest)
    return flat * torch.ldexp(one, half) * torch.ldexp(one, -exponent - half)
