"""Dion: Ahn et al., "Distributed orthonormalized updates" (arXiv:2504.05295), algorithm 1.

The momentum B = M + G (d_out, d_in) is approximated in rank r by one step of power iteration from the basis Q of the
step before: P = orthonormal(B·Q), R = Bᵀ·P. The update is P·Qᵀ with the columns of R, brought to unit length, as the
new Q, so all its directions count alike. M keeps what the approximation missed, and the share µ of what it had:
M = B − (1 − µ)·P·Rᵀ.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from latticebench.seeding import generator
from latticebench.training.optimizers.base import Base, precise

EPS = 1e-8
"""Added to a column's norm before dividing by it."""
OVERSAMPLING = 1.25
"""Rows of the sketch in randomised Cholesky QR, in ranks."""
TALL = 2
"""Matrices with this many times more rows than columns are made orthonormal by Cholesky QR in the fast path."""
STACKED = 2**26
"""Numbers in a stack of matrices that are updated at once."""


def reference_update(momentum: Tensor, basis: Tensor, gradient: Tensor, mu: float) -> Tensor:
    """Algorithm 1 for one matrix: moves momentum (m, n) and basis (n, r) in place, returns the direction P·Qᵀ (m, n)."""
    b = momentum + gradient
    p = torch.linalg.qr(b @ basis).Q
    r = b.T @ p
    momentum.copy_(b - (1 - mu) * p @ r.T)
    basis.copy_(unit_columns(r))
    return p @ basis.T


def unit_columns(r: Tensor) -> Tensor:
    """(..., n, r) with columns of unit length; a zero column stays zero."""
    return r / (torch.linalg.vector_norm(r, dim=-2, keepdim=True) + EPS)


class Dion(Base):
    """For matrices alone; the rate is scaled by √(d_out/d_in).

    rank_fraction: rank r as a share of a matrix's smaller side, rounded up. momentum: µ. seed: of the first bases and
    the sketches. fast: equal shapes are updated together and tall factors become orthonormal by randomised Cholesky QR,
    which differs from the reference by rounding; by default on GPUs alone, where many small kernels and Householder
    QR are slow. On a CPU the reference is the faster one.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        momentum: float = 0.95,
        rank_fraction: float = 1.0,
        weight_decay: float = 0.0,
        seed: int = 0,
        fast: bool | None = None,
    ) -> None:
        super().__init__(parameters, weight_decay)
        if any(p.ndim != 2 for p in self.parameters):
            raise ValueError("Dion moves matrices only")
        if not 0 < rank_fraction <= 1:
            raise ValueError(f"rank_fraction must lie in (0, 1], got {rank_fraction}")
        self.momentum, self.seed, self.fast = momentum, seed, fast
        self.steps = torch.zeros((), dtype=torch.int64)
        self.momenta = [torch.zeros_like(p, dtype=precise(p)) for p in self.parameters]
        self.bases = [self._first_basis(i, p, rank_fraction) for i, p in enumerate(self.parameters)]

    def _first_basis(self, place: int, parameter: Tensor, rank_fraction: float) -> Tensor:
        rank = math.ceil(rank_fraction * min(parameter.shape))
        draws = torch.randn(parameter.shape[1], rank, generator=generator(self.seed, "dion basis", place))
        return torch.linalg.qr(draws.double()).Q.to(parameter.device, precise(parameter))

    @torch.no_grad()
    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        self.steps += 1
        alike: dict[tuple, list[int]] = {}
        for i, parameter in self.moved():
            if parameter.is_cuda if self.fast is None else self.fast:
                alike.setdefault((parameter.shape, parameter.dtype, parameter.device), []).append(i)
            else:
                gradient = parameter.grad.to(self.momenta[i].dtype)
                self._move(parameter, reference_update(self.momenta[i], self.bases[i], gradient, self.momentum))
        for (shape, *_), places in alike.items():
            at_once = max(1, STACKED // shape.numel())
            for start in range(0, len(places), at_once):
                self._update_stack(places[start : start + at_once])

    def _update_stack(self, places: list[int]) -> None:
        gradients = [self.parameters[i].grad for i in places]
        b = torch.stack([self.momenta[i] for i in places])
        b += torch.stack(gradients)
        p = self._orthonormal(b @ torch.stack([self.bases[i] for i in places]))
        r = b.mT @ p
        q = unit_columns(r)
        b.baddbmm_(p, r.mT, alpha=self.momentum - 1)
        directions = p @ q.mT
        for place, momentum, basis, direction in zip(places, b, q, directions, strict=True):
            self.momenta[place].copy_(momentum)
            self.bases[place].copy_(basis)
            self._move(self.parameters[place], direction)

    def _move(self, parameter: Tensor, direction: Tensor) -> None:
        rows, columns = parameter.shape
        parameter.add_(direction.to(parameter.dtype), alpha=-self.rate * math.sqrt(rows / columns))

    def _orthonormal(self, y: Tensor) -> Tensor:
        """y (b, m, r) -> orthonormal columns of the same span, (b, m, r)."""
        rows, rank = y.shape[1:]
        if rows < TALL * rank:
            return torch.linalg.qr(y).Q
        sketched = min(rows, math.ceil(OVERSAMPLING * rank) + 8)
        # Every process draws the same sketch: it depends on the step alone.
        draws = torch.randn(sketched, rows, generator=generator(self.seed, "dion sketch", int(self.steps)))
        sketch = (draws / math.sqrt(sketched)).to(y.device, y.dtype)
        close = _solved(y, torch.linalg.qr(sketch @ y, mode="r").R)
        factor, failed = torch.linalg.cholesky_ex(close.mT @ close, upper=True)
        p = _solved(close, factor)
        # Without full rank the first factor is singular.
        return torch.linalg.qr(y).Q if bool(failed.any()) or not bool(p.isfinite().all()) else p

    def state_dict(self) -> dict[str, Tensor]:
        state = {"steps": self.steps}
        for i, (momentum, basis) in enumerate(zip(self.momenta, self.bases, strict=True)):
            state |= {f"{i}/momentum": momentum, f"{i}/basis": basis}
        return state


def _solved(y: Tensor, upper: Tensor) -> Tensor:
    """y · upper⁻¹."""
    return torch.linalg.solve_triangular(upper, y, upper=True, left=False)
