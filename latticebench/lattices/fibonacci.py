"""Generalised Fibonacci points on the sphere.

arXiv:2512.14697 does not print its own formula; this is the standard one. For d = 3 the golden-ratio
spiral. Otherwise a Kronecker sequence with square roots of primes, carried to the sphere by inverting
the distribution of each polar angle: for k = 1..K, Y_{d-1} = (k - 0.5)/K and Y_i = frac(k·√p_i), with
p_i the i-th prime, i = 1..d-2; the azimuth is 2π·Y_{d-1}, polar angle i has density ~ sin^{d-1-i}.
"""

import math

import numpy as np
import torch
from torch import Tensor


def points(K: int, d: int) -> Tensor:
    """K points on the unit sphere of R^d, d >= 2: (K, d) float32."""
    if K < 1 or d < 2:
        raise ValueError(f"K must be at least 1 and d at least 2, got K={K}, d={d}")
    result = _golden(K) if d == 3 else _kronecker(K, d)
    return torch.from_numpy(result.astype(np.float32))


def _golden(K: int) -> np.ndarray:
    k = np.arange(K)
    height = 1 - (2 * k + 1) / K
    radius = np.sqrt(1 - height**2)
    azimuth = 2 * math.pi * np.mod(k * 2 / (1 + math.sqrt(5)), 1)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), height], 1)


def _kronecker(K: int, d: int) -> np.ndarray:
    from scipy.special import betaincinv

    k = np.arange(1, K + 1)
    result = np.empty((K, d))
    radius = np.ones(K)
    for i, prime in enumerate(_primes(d - 2), start=1):
        # With density sin^m of the angle, (1 - cosine)/2 has a symmetric beta distribution of order (m + 1)/2.
        order = (d - i) / 2
        cosine = 1 - 2 * betaincinv(order, order, np.mod(k * math.sqrt(prime), 1))
        result[:, i - 1] = radius * cosine
        radius *= np.sqrt(1 - cosine**2)
    azimuth = 2 * math.pi * (k - 0.5) / K
    result[:, d - 2] = radius * np.cos(azimuth)
    result[:, d - 1] = radius * np.sin(azimuth)
    return result


def _primes(count: int) -> list[int]:
    primes: list[int] = []
    candidate = 2
    while len(primes) < count:
        if all(candidate % prime for prime in primes):
            primes.append(candidate)
        candidate += 1
    return primes
