"""Pixel metrics of one image pair at a time, computed for whole batches: uint8 (N, H, W, 3) -> float64 (N,)."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SIDE = 161
"""The shortest side that leaves the fifth scale a whole window: 160 / 16 = 10 < 11."""
_WINDOW, _SIGMA = 11, 1.5
_KERNEL = [math.exp(-((i - _WINDOW // 2) ** 2) / (2 * _SIGMA**2)) for i in range(_WINDOW)]
_KERNEL = [weight / sum(_KERNEL) for weight in _KERNEL]
_PIXELS_AT_ONCE = 2**15
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def to_uint8(images: Tensor) -> np.ndarray:
    """float (B, 3, H, W) nominally in [0, 1] -> uint8 (B, H, W, 3): clamped and rounded, never truncated.

    Raises ValueError where a value is NaN.
    """
    if bool(torch.isnan(images).any()):
        raise ValueError("an image contains NaN")
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_float(images: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3), or floats in [0, 1] as they are -> float32 (B, 3, H, W) in [0, 1]."""
    result = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    return result.float() if result.is_floating_point() else result.float().div_(255)


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """PSNR of each image in dB; an identical pair gets that of a single sample off by one grey level."""
    difference = a.astype(np.int32) - b
    squares = np.maximum((difference * difference).sum(axis=(1, 2, 3), dtype=np.int64), 1)
    return 10 * np.log10(255.0**2 * math.prod(a.shape[1:]) / squares)


def identical(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which images are equal in every sample, bool (N,)."""
    return (a == b).all(axis=(1, 2, 3))


def mean_colour(images: np.ndarray) -> np.ndarray:
    """Each image replaced by its own mean colour, rounded: the worst that a tokenizer may be."""
    mean = np.rint(images.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)
    return np.broadcast_to(mean, images.shape)


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM of each image, the mean over windows and channels. Raises ValueError below 11 x 11.

    Wang et al., "Image Quality Assessment", 2004, with the choices of protocol ssim-v1; equal to scikit-image's.
    """
    if min(a.shape[1:3]) < _WINDOW:
        raise ValueError(f"SSIM needs sides of at least {_WINDOW} px, got {a.shape[1]} x {a.shape[2]}")
    return np.concatenate([_terms(_planes(x), _planes(y))[0].mean(dim=1).numpy() for x, y in _parts(a, b)])


def ms_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """MS-SSIM of each image over five scales. Raises ValueError unless both sides exceed 160 px.

    Wang, Simoncelli and Bovik, "Multiscale structural similarity", 2003, eq. 7, per channel, then their mean.
    """
    if min(a.shape[1:3]) < MS_SSIM_SIDE:
        raise ValueError(f"MS-SSIM needs sides above 160 px, got {a.shape[1]} x {a.shape[2]}")
    return np.concatenate([_ms_ssim(_planes(x), _planes(y)) for x, y in _parts(a, b)])


def _ms_ssim(x: Tensor, y: Tensor) -> np.ndarray:
    result = torch.ones(x.shape[:2], dtype=torch.float64)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        similarity, contrast = _terms(x, y)
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        result *= (similarity if last else contrast).clamp(min=0) ** weight
        if not last:
            odd = [side % 2 for side in x.shape[2:]]
            x, y = (torch.nn.functional.avg_pool2d(plane, 2, padding=odd) for plane in (x, y))
    return result.mean(dim=1).numpy()


def _parts(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Few images at a time: more of them spill out of a core's cache and take twice as long."""
    step = max(1, _PIXELS_AT_ONCE // (a.shape[1] * a.shape[2]))
    for start in range(0, len(a), step):
        yield a[start : start + step], b[start : start + step]


def _planes(images: np.ndarray) -> Tensor:
    # float64: E[x²] − E[x]² of values up to 255² loses in float32 what the parity test asks for.
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).double()


def _terms(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term of each channel: (N, 3, H, W) twice -> (N, 3) twice."""
    mx, my = _blur(x), _blur(y)
    vx, vy, cov = _blur(x * x) - mx * mx, _blur(y * y) - my * my, _blur(x * y) - mx * my
    contrast = (2 * cov + _C2) / (vx + vy + _C2)
    similarity = (2 * mx * my + _C1) / (mx * mx + my * my + _C1) * contrast
    return similarity.mean(dim=(2, 3)), contrast.mean(dim=(2, 3))


def _blur(x: Tensor) -> Tensor:
    """Gaussian means of the windows that lie wholly inside the image."""
    return _blur_rows(_blur_rows(x, 2), 3)


def _blur_rows(x: Tensor, axis: int) -> Tensor:
    """One axis of the window as shifted sums in place: five times faster than torch's float64 convolution."""
    length = x.shape[axis] - _WINDOW + 1
    result = _KERNEL[0] * x.narrow(axis, 0, length)
    for shift in range(1, _WINDOW):
        result.add_(x.narrow(axis, shift, length), alpha=_KERNEL[shift])
    return result
