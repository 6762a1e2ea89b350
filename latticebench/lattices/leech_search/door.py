"""The door of the exact search: checks and scales the input, chooses the implementation, settles close calls."""

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from latticebench.lattices.leech_search import dense, exact, structured

BACKENDS = ("auto", "dense", "structured", "numba", "triton")


def search(z: Tensor, codebook: str, backend: str) -> Tensor:
    """See `leech.nearest`."""
    z = torch.as_tensor(z).detach()
    if z.shape[-1:] != (24,):
        raise ValueError(f"z must have 24 coordinates last, got shape {tuple(z.shape)}")
    if not z.is_floating_point():
        raise TypeError(f"z must be floating point, got {z.dtype}")
    if codebook not in ("shell", "released"):
        raise ValueError(f"codebook must be 'shell' or 'released', not {codebook!r}")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    return _operator(z, codebook, backend)


@torch.library.custom_op("latticebench::leech_nearest", mutates_args=())
def _operator(z: Tensor, codebook: str, backend: str) -> Tensor:
    """One node in a compiled graph: the search branches on its data (NaN, ties), which a graph cannot hold."""
    flat = z.reshape(-1, 24)
    flat = flat if flat.dtype == torch.float64 else flat.float()
    implementation = _implementation(backend, flat)
    with torch.no_grad(), torch.autocast(flat.device.type, enabled=False):
        scaled = power_of_two_scaled(flat)
        rows, unsure = implementation(scaled, codebook)
        close = unsure.nonzero()[:, 0]
        if len(close):
            rows[close] = _settle(scaled[close], rows[close], codebook)
    return rows.reshape(z.shape[:-1])


@_operator.register_fake
def _(z: Tensor, codebook: str, backend: str) -> Tensor:
    return z.new_empty(z.shape[:-1], dtype=torch.int64)


def power_of_two_scaled(flat: Tensor) -> Tensor:
    """Rows (N, 24) scaled by a power of two to a largest magnitude in [0.5, 1): exact, so that ties stay ties.

    Raises ValueError on NaN and infinity.
    """
    largest = flat.abs().amax(1, keepdim=True)
    if not bool(torch.isfinite(largest).all()):
        raise ValueError("z holds NaN or infinity: no code vector is nearest")
    _, exponent = torch.frexp(largest)
    half = -exponent // 2  # in two steps, because 2^-exponent of a subnormal number overflows
    one = torch.ones_like(largest)
    return flat * torch.ldexp(one, half) * torch.ldexp(one, -exponent - half)


def _settle(z: Tensor, found: Tensor, codebook: str) -> Tensor:
    """Exact rows of vectors with a close call; a zero vector, tied with every code vector, has row 0."""
    nonzero = (z != 0).any(1)
    rows = torch.zeros_like(found)
    rows[nonzero] = exact.nearest(z[nonzero], found[nonzero], codebook)
    return rows


def _implementation(backend: str, z: Tensor) -> Callable[[Tensor, str], tuple[Tensor, Tensor]]:
    if backend == "auto":
        # In float64 compiling for numba costs more than its speed returns.
        fast = {"cpu": "numba" if z.dtype == torch.float32 else "structured", "cuda": "triton"}
        backend = fast.get(z.device.type, "structured")
        backend = backend if backend == "structured" or importlib.util.find_spec(backend) else "structured"
    if backend == "dense":
        return dense.nearest
    if backend == "structured":
        return structured.nearest
    if backend == "numba":
        if z.device.type != "cpu":
            raise ValueError(f"backend 'numba' runs on the CPU, z is on {z.device}")
        from latticebench.lattices.leech_search import cpu

        return cpu.nearest
    from latticebench.lattices.leech_search import cuda

    return cuda.nearest
