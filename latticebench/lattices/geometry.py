"""What makes a set of points on the sphere a good codebook: distances, bounds, and use by a uniform source.

Distances are chords between unit vectors; the angle of a chord c is 2·asin(c/2). Caps: a cap of angular
radius φ covers the share I_{sin²φ}((d-1)/2, 1/2)/2 of S^{d-1} (φ <= π/2), see S. Li, "Concise formulas for
the area and volume of a hyperspherical cap", 2011.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from latticebench.seeding import generator

TILE = 4096
_TREE_DIMENSIONS = 8
"""A k-d tree beats all pairs up to about this dimension."""


def uniform_directions(n: int, d: int, seed: int, *uses: str | int) -> Tensor:
    """n directions, uniform on S^{d-1}: (n, d) float32."""
    normal = torch.randn(n, d, generator=generator(seed, "uniform directions", *uses))
    return normal / normal.norm(dim=1, keepdim=True)


def smallest_distance(points: Tensor) -> float:
    """The smallest Euclidean distance between two of the points (K, d), K >= 2, over all pairs; float64 at the end."""
    if len(points) < 2:
        raise ValueError("a smallest distance needs two points")
    if points.shape[1] <= _TREE_DIMENSIONS:
        from scipy.spatial import cKDTree

        coordinates = points.double().numpy()
        return float(cKDTree(coordinates).query(coordinates, k=2)[0][:, 1].min())
    squares = points.square().sum(1)
    least = torch.full((len(points),), torch.inf)
    for start in range(0, len(points), TILE):
        rows = slice(start, start + TILE)
        for other in range(start, len(points), TILE):
            columns = slice(other, other + TILE)
            distance = squares[rows, None] + squares[columns] - 2 * points[rows] @ points[columns].t()
            if other == start:
                distance.fill_diagonal_(torch.inf)
            least[rows] = torch.minimum(least[rows], distance.amin(1))
    # Products in float32 rank the pairs to about 1e-5; the closest ones are measured again by their differences.
    close = torch.nonzero(least <= least.min() + 1e-5 * squares.max())[:64, 0]
    exact = torch.cdist(points[close].double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")
    exact[torch.arange(len(close)), close] = torch.inf
    return float(exact.min())


def angle(chord: float) -> float:
    """The angle in degrees between two unit vectors at a distance in [0, 2]."""
    return math.degrees(2 * math.asin(min(1.0, chord / 2)))


def worst_angle(z: Tensor, nearest: Callable[[Tensor], Tensor], steps: int = 40) -> float:
    """The largest angle in degrees found between a direction and its code: a lower bound of the covering radius.

    z (n, d) unit starting directions, best far from every code already; nearest maps directions to unit
    code vectors. Each step moves every direction away from its nearest code by a shrinking share.
    """
    worst = 1.0
    for step in range(steps + 1):
        q = nearest(z)
        cosine = (z * q).sum(1, keepdim=True)
        worst = min(worst, float(cosine.min()))
        z = z - 0.1 * 0.93**step * (q - cosine * z)
        z = z / z.norm(dim=1, keepdim=True)
    return math.degrees(math.acos(max(-1.0, worst)))


def cap_share(phi: float, d: int) -> float:
    """The share of S^{d-1} within an angle phi (radians) of a direction."""
    from scipy.special import betainc

    half = 0.5 * float(betainc((d - 1) / 2, 0.5, math.sin(phi) ** 2))
    return half if phi <= math.pi / 2 else 1 - half


def cap_angle(share: float, d: int) -> float:
    """The angular radius (radians) of a cap with a share of the sphere of at most one half."""
    from scipy.special import betaincinv

    return math.asin(math.sqrt(float(betaincinv((d - 1) / 2, 0.5, 2 * share))))


def largest_distance_bound(K: int, d: int) -> float:
    """No K >= 2 points of S^{d-1} have a larger smallest distance: K disjoint caps of half its angle fit at most."""
    return 2 * math.sin(cap_angle(1 / K, d))


def smallest_error_bound(K: int, d: int) -> float:
    """No K >= 2 unit code vectors have a smaller E‖z - q‖² on uniform directions: every cell would be a cap."""
    phi = cap_angle(1 / K, d)
    # The mean height of a cap times its share is its sphere-weighted first moment.
    moment = math.exp(math.lgamma(d / 2) - math.lgamma((d - 1) / 2)) / math.sqrt(math.pi) / (d - 1)
    return 2 - 2 * K * moment * math.sin(phi) ** (d - 1)


def entropy_bits(counts: np.ndarray) -> float:
    """Entropy in bits of the source behind counts (K,) of its symbols: plug-in plus Miller and Madow's (m - 1)/2N nats.

    m is the number of symbols seen, N of draws. Without the term a uniform source looks 0.18 bits short
    at N = 4 K; with it the rest is of order (K/N)²/12 nats, so N should be at least 4 K.
    """
    counts = counts[counts > 0].astype(np.float64)
    n = counts.sum()
    p = counts / n
    return float(-(p * np.log2(p)).sum() + (len(counts) - 1) / (2 * n * math.log(2)))
