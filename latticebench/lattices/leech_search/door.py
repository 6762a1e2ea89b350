"""The door of the exact search: checks and scales the input, chooses the implementation, settles close calls."""

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

from latticebench.lattices.leech_search import dense, exact, structured
from latticebench.lattices.leech_search.scaling import power_of_two_scaled

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
    # The operator costs as much as a hundred vectors, and only a graph needs it.
    return (_operator if torch.compiler.is_compiling() else _search)(z, codebook, backend)


@torch.library.custom_op("latticebench::leech_nearest", mutates_args=())
def _operator(z: Tensor, codebook: str, backend: str) -> Tensor:
    """One node in a compiled graph: the search branches on its data (NaN, ties), which a graph cannot hold."""
    return _search(z, codebook, backend)


@_operator.register_fake
def _(z: Tensor, codebook: str, backend: str) -> Tensor:
    return z.new_empty(z.shape[:-1], dtype=torch.int64)


def _search(z: Tensor, codebook: str, backend: str) -> Tensor:
    flat = z.reshape(-1, 24)
    flat = flat if flat.dtype == torch.float64 else flat.float()
    scale, implementation = _implementation(backend, flat)
    with torch.no_grad(), torch.autocast(flat.device.type, enabled=False):
        scaled = scale(flat)
        rows, unsure = implementation(scaled, codebook)
        close = unsure.nonzero()[:, 0]
        if len(close):
            rows[close] = _settle(scaled[close], rows[close], codebook)
    return rows.reshape(z.shape[:-1])


def _settle(z: Tensor, found: Tensor, codebook: str) -> Tensor:
    """Exact rows of vectors with a close call; a zero vector, tied with every code vector, has row 0."""
    nonzero = (z != 0).any(1)
    rows = torch.zeros_like(found)
    rows[nonzero] = exact.nearest(z[nonzero], found[nonzero], codebook)
    return rows


def _implementation(
    backend: str, z: Tensor
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, str], tuple[Tensor, Tensor]]]:
    """How z (N, 24) is scaled, and how the scaled z is searched."""
    if backend == "auto":
        # In float64 compiling for numba costs more than its speed returns.
        fast = {"cpu": "numba" if z.dtype == torch.float32 else "structured", "cuda": "triton"}
        backend = fast.get(z.device.type, "structured")
        backend = backend if backend == "structured" or importlib.util.find_spec(backend) else "structured"
    if backend == "dense":
        return power_of_two_scaled, dense.nearest
    if backend == "structured":
        return power_of_two_scaled, structured.nearest
    if backend == "numba":
        if z.device.type != "cpu":
            raise ValueError(f"backend 'numba' runs on the CPU, z is on {z.device}")
        from latticebench.lattices.leech_search import cpu

        return cpu.power_of_two_scaled, cpu.nearest
    from latticebench.lattices.leech_search import cuda

    return power_of_two_scaled, cuda.nearest
