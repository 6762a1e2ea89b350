"""Frozen points on the unit sphere: the base of random, fibonacci and leech."""

from typing import Any

from torch import Tensor, nn

from latticebench.quantizers import search
from latticebench.quantizers.base import Quantized, Quantizer, full_precision, straight_through
from latticebench.quantizers.checks import zero_loss


class FixedSphere(Quantizer):
    """The code vector of largest inner product with z; straight-through onto the unit z, so the gradient passes
    the normalisation's Jacobian (onto z itself with `normalize: false`, as a residual quantizer needs it).

    The search sees z as it came: the nearest direction is the same, and dividing by the norm would move ties.
    A zero vector gets index 0.
    """

    points: Tensor

    def _set_up(self, points: Tensor, normalize: bool, tile_mb: float) -> None:
        """points (K, d) of unit length, in index order."""
        self.codebook_size, self.dim = points.shape
        self.normalize = normalize
        self.tile_mb = tile_mb
        # Rebuilt from the parameters, so not in the state dict; the fingerprint covers them.
        self.register_buffer("points", points.float(), persistent=False)

    def _nearest(self, z: Tensor) -> Tensor:
        """z (N, d) in full precision -> indices (N,)."""
        return search.largest_score(z, self._table().to(z.dtype), None, self.tile_mb)

    def _vectors(self, indices: Tensor) -> Tensor:
        """indices (...) -> code vectors (..., d) float32."""
        return self._table()[indices]

    def _table(self) -> Tensor:
        return self.points.float()

    def forward(self, z: Tensor) -> Quantized:
        self.check_input(z)
        with full_precision(z) as z:
            indices = self._nearest(z.detach().reshape(-1, self.dim)).reshape(z.shape[:-1])
            u = nn.functional.normalize(z, dim=-1) if self.normalize else z
            return Quantized(straight_through(self._vectors(indices).to(z.dtype), u), indices, zero_loss(z), {})

    def encode(self, z: Tensor) -> Tensor:
        self.check_input(z)
        search.check_finite(self.name, z)
        with full_precision(z.detach()) as z:
            return self._nearest(z.reshape(-1, self.dim)).reshape(z.shape[:-1])

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self._vectors(indices)

    def definition(self) -> dict[str, Any]:
        return {"points": self.name}

    def definition_tensors(self) -> dict[str, Tensor]:
        return {"points": self.points}
