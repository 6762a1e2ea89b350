"""The Fréchet distance between two sets of features: features -> moments -> distance.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017 (https://arxiv.org/abs/1706.08500), eq. 6:
d² = |m1 − m2|² + tr(C1) + tr(C2) − 2 tr((C1 C2)^½), covariances with N − 1.
"""

import dataclasses
import math

import numpy as np

from evaluation.errors import TooFew
from latticebench.errors import BadInput


@dataclasses.dataclass
class Moments:
    """Float64 sums of features: merged sums of shards equal the sums of the whole.

    n: number of features. total: (d,) their sum. outer: (d, d) sum of their outer products.
    """

    n: int
    total: np.ndarray
    outer: np.ndarray

    @classmethod
    def zero(cls, dim: int) -> "Moments":
        return cls(0, np.zeros(dim), np.zeros((dim, dim)))

    def update(self, features: np.ndarray) -> None:
        """Adds features (B, d). Raises BadInput on NaN or infinite features."""
        x = np.asarray(features, dtype=np.float64)
        if not np.isfinite(x).all():
            row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
            raise BadInput(f"features of image {self.n + row} are not finite; the weights or the image are broken")
        self.n += len(x)
        self.total += x.sum(axis=0)
        self.outer += x.T @ x

    def merge(self, other: "Moments") -> None:
        """Adds the sums of another shard."""
        self.n += other.n
        self.total += other.total
        self.outer += other.outer

    def without(self, other: "Moments") -> "Moments":
        """The sums of what is left when a part is taken out."""
        return Moments(self.n - other.n, self.total - other.total, self.outer - other.outer)

    @property
    def mean(self) -> np.ndarray:
        return self.total / self.n

    @property
    def covariance(self) -> np.ndarray:
        """(d, d), normalised by N − 1 as in every published implementation."""
        centred = self.outer - np.outer(self.total, self.total / self.n)
        return (centred + centred.T) / (2 * (self.n - 1))


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Moments that a file states without the features: mean (d,), covariance (d, d), of `n` features if it says."""

    mean: np.ndarray
    covariance: np.ndarray
    n: float = math.inf


def moments(features: np.ndarray, rows: np.ndarray | None = None, batch: int = 4096) -> Moments:
    """The moments of features (N, d), or of some rows; they may be memory-mapped and are read `batch` at a time."""
    result = Moments.zero(features.shape[1])
    for start in range(0, len(features) if rows is None else len(rows), batch):
        chosen = slice(start, start + batch)
        result.update(features[chosen if rows is None else rows[chosen]])
    return result


def root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root (..., d, d) of positive semi-definite matrices; negative rounding becomes zero."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def distance(mean1: np.ndarray, covariance1: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray) -> float:
    """d² of eq. 6 in float64; means (d,), covariances (d, d).

    tr((C1 C2)^½) is the sum of the singular values of C1^½ C2^½, whose squares are the eigenvalues of the
    symmetric C1^½ C2 C1^½. Taking the roots first keeps eigenvalues near zero exact: the root of an
    eigenvalue's rounding error of 1e-16 would be 1e-8 for each of 2,048 dimensions.
    """
    return distance_from_roots(
        mean1, np.trace(covariance1), root(covariance1), mean2, np.trace(covariance2), root(covariance2)
    )


def distance_from_roots(
    mean1: np.ndarray, trace1: float, root1: np.ndarray, mean2: np.ndarray, trace2: float, root2: np.ndarray
) -> float:
    """`distance` where the square roots are known already."""
    cross = np.linalg.svd(root1 @ root2, compute_uv=False).sum()
    return float(np.sum((mean1 - mean2) ** 2) + trace1 + trace2 - 2 * cross)


def quick_distance(a: Moments | Gaussian, b: Moments | Gaussian) -> float:
    """`distance` of two sets at a fifth of the time, for the many sets of a jackknife.

    C1 = L Lᵀ, and the eigenvalues of Lᵀ C2 L are those of C1 C2. Eigenvalues near zero are less exact than in
    `distance`, alike for all sets that share most of their images. A singular C1 goes the long way.
    """
    covariance1, covariance2 = a.covariance, b.covariance
    try:
        factor = np.linalg.cholesky(covariance1)
    except np.linalg.LinAlgError:
        return distance(a.mean, covariance1, b.mean, covariance2)
    values = np.linalg.eigvalsh(factor.T @ covariance2 @ factor)
    cross = np.sqrt(np.clip(values, 0, None)).sum()
    return float(np.sum((a.mean - b.mean) ** 2) + np.trace(covariance1) + np.trace(covariance2) - 2 * cross)


def between(a: Moments, b: Moments | Gaussian, allow_few: bool = False) -> float:
    """Distance of two sets from their moments.

    Raises TooFew where a set has no more images than features have dimensions, unless `allow_few`: the
    covariance is then singular and the value mostly bias.
    """
    dim, n = len(a.mean), min(a.n, b.n)
    if len(b.mean) != dim:
        raise BadInput(f"features of {dim} and of {len(b.mean)} dimensions cannot be compared")
    if n < 2:
        raise TooFew(f"{n} images have no covariance; at least 2 are needed")
    if n <= dim and not allow_few:
        raise TooFew(f"needs more than {dim} images (the features' dimension); there are {n}")
    # Rounding may leave −1e-12 for equal sets; a squared distance is not negative.
    return max(0.0, distance(a.mean, a.covariance, b.mean, b.covariance))
