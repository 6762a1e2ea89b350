"""What is lost: PSNR, MS-SSIM and LPIPS of image pairs of any size, one number an image."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from evaluation import pixels, statistics
from evaluation.protocols import protocol_id
from evaluation.records import Value, empty, measured
from latticebench.errors import Missing

METRICS = ("psnr", "ms_ssim", "lpips_alex")
_UNITS = {"psnr": "dB"}


@dataclasses.dataclass(frozen=True)
class Distortion:
    """metric -> one number an image, or the reason why there is none."""

    samples: dict[str, list[float]]
    reasons: dict[str, str]


def measure(
    originals: Sequence[np.ndarray],
    decoded: Sequence[np.ndarray],
    weights: Mapping[str, str | None],
    device: str = "cpu",
    metrics: Sequence[str] = METRICS,
) -> Distortion:
    """uint8 images (H, W, 3) pair by pair; sizes may differ between pairs."""
    samples: dict[str, list[float]] = {}
    reasons: dict[str, str] = {}
    for metric in metrics:
        try:
            samples[metric] = [
                float(_one(metric, a[None], b[None], weights, device)) for a, b in zip(originals, decoded, strict=True)
            ]
        except (Missing, ValueError) as error:
            reasons[metric] = str(error)
    return Distortion(samples, reasons)


def _one(metric: str, a: np.ndarray, b: np.ndarray, weights: Mapping[str, str | None], device: str) -> float:
    if metric == "psnr":
        return pixels.psnr(a, b)[0]
    if metric == "ms_ssim":
        return pixels.ms_ssim(a, b)[0]
    from evaluation import perceptual

    return perceptual.distances(metric, a, b, weights, device)[0]


def values(found: Distortion, groups: Sequence[int] | None = None) -> dict[str, Value]:
    """Means over images with their intervals, or empty cells."""
    result = {key: mean_value(key, numbers, groups, _UNITS.get(key, "")) for key, numbers in found.samples.items()}
    return result | {key: empty(protocol_id(key), reason) for key, reason in found.reasons.items()}


def mean_value(metric: str, numbers: Sequence[float], groups: Sequence[int] | None, unit: str) -> Value:
    """The mean over images of a metric that METRICS knows."""
    mean, interval = statistics.mean_interval(numbers, groups)
    return measured(mean, protocol_id(metric), unit=unit, interval=interval, n=len(numbers))
