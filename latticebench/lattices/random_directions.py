"""Random directions: a projected normal, drawn once and frozen (arXiv:2202.01855, as used in arXiv:2512.14697)."""

import torch
from torch import Tensor

from latticebench.seeding import generator


def points(K: int, d: int, seed: int = 0) -> Tensor:
    """K independent directions, uniform on the unit sphere of R^d: (K, d) float32."""
    if K < 1 or d < 1:
        raise ValueError(f"K and d must be at least 1, got K={K}, d={d}")
    normal = torch.randn(K, d, dtype=torch.float64, generator=generator(seed, "random directions", K, d))
    return (normal / normal.norm(dim=1, keepdim=True)).float()
