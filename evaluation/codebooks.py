"""Use of a codebook over a whole evaluation split: codes -> counts -> metrics.

Codes are int64 indices, or digit strings where K exceeds 2^62. Only the codes that occur are counted, so
the size of the codebook does not matter. Entropies are plug-in estimates in bits; like the number of codes
used they depend on the number of tokens, which every record states.
"""

import math

import numpy as np

from evaluation.protocols import protocol_id
from evaluation.records import Interval, Value, empty, measured
from evaluation.statistics import Blocks, jackknife


def labels(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Codes as small integers: (N, T) indices, or (N, T, n) digits -> ((N, T) labels in [0, used), used)."""
    if codes.ndim == 3:
        rows = np.ascontiguousarray(codes.reshape(-1, codes.shape[-1]))
        flat = rows.view([("", rows.dtype)] * rows.shape[1]).ravel()
    else:
        flat = codes.ravel()
    values, inverse = np.unique(flat, return_inverse=True)
    return inverse.reshape(codes.shape[:2]), len(values)


def counts(codes: np.ndarray) -> np.ndarray:
    """How often each used code occurs, most used first: (N, T) indices or (N, T, n) digits -> (used,) int64."""
    of_image, used = labels(codes)
    return np.sort(np.bincount(of_image.ravel(), minlength=used))[::-1]


def entropy_bits(count: np.ndarray) -> float:
    """Empirical entropy in bits of counts; zeros are allowed."""
    p = count[count > 0] / count.sum()
    # log2(1/p) and not −log2 p, which would print a single code's entropy as −0.
    return float(np.sum(p * np.log2(1 / p)))


def expected_usage(codebook_size: int, tokens: int) -> float:
    """Expected share of K codes that `tokens` draws of a uniform source hit: 1 − (1 − 1/K)^tokens, for any K."""
    return -math.expm1(tokens * math.log1p(-1 / codebook_size)) if codebook_size > 1 else 1.0


def intervals(codes: np.ndarray, cut: Blocks | None, codebook_size: float = math.inf) -> dict[str, Interval | None]:
    """Jackknife intervals of codes_used and entropy_bits; codes (N, T) or (N, T, n), one row an image."""
    if cut is None:
        return {"codes_used": None, "entropy_bits": None}
    of_image, used = labels(codes)
    total = np.bincount(of_image.ravel(), minlength=used)
    kept = [total - np.bincount(of_image[cut.labels == g].ravel(), minlength=used) for g in range(cut.count)]
    return {
        "codes_used": jackknife(used, [float(np.count_nonzero(k)) for k in kept], cut, (1.0, codebook_size)),
        "entropy_bits": jackknife(
            entropy_bits(total), [entropy_bits(k) for k in kept], cut, (0.0, math.log2(codebook_size))
        ),
    }


def scaled(interval: Interval | None, factor: float) -> Interval | None:
    """The interval of `factor` times the value."""
    if interval is None:
        return None
    return interval.model_copy(update={"low": interval.low * factor, "high": interval.high * factor})


def values(codes: np.ndarray, codebook_size: int, cut: Blocks | None) -> dict[str, Value]:
    """Every usage metric of the codes of a split: (N, T) int64 indices or (N, T, n) digits."""
    protocol, count = protocol_id("usage"), counts(codes)
    tokens, used, bits = int(count.sum()), len(count), entropy_bits(count)
    around = intervals(codes, cut, codebook_size)
    expected = expected_usage(codebook_size, tokens)
    perplexity = around["entropy_bits"]
    if perplexity is not None:
        perplexity = perplexity.model_copy(update={"low": 2**perplexity.low, "high": 2**perplexity.high})

    def value(number: float, unit: str = "", interval: Interval | None = None) -> Value:
        return measured(number, protocol, unit=unit, interval=interval, n=tokens)

    return {
        "codebook_size": value(float(codebook_size)),
        "tokens": value(tokens),
        "codes_used": value(used, interval=around["codes_used"]),
        "usage": value(used / codebook_size, interval=scaled(around["codes_used"], 1 / codebook_size)),
        "expected_usage": value(expected),
        "relative_usage": value(
            used / codebook_size / expected, interval=scaled(around["codes_used"], 1 / codebook_size / expected)
        ),
        "perplexity": value(2**bits, "codes", perplexity),
        "entropy_bits": value(bits, "bits", around["entropy_bits"]),
        "max_frequency": value(count[0] / tokens),
        "min_frequency": value(count[-1] / tokens),
    }


def no_codes(reason: str) -> dict[str, Value]:
    """The empty cells of a subject that has no codes."""
    keys = ("codes_used", "usage", "relative_usage", "perplexity", "entropy_bits", "max_frequency", "min_frequency")
    return {key: empty(protocol_id("usage"), reason) for key in keys}


def histogram(count: np.ndarray) -> dict[str, list[int]]:
    """Sorted counts, run-length coded: `count` (descending) and `codes`, how many used codes have that count."""
    value, codes = np.unique(count, return_counts=True)
    return {"count": value[::-1].tolist(), "codes": codes[::-1].tolist()}
