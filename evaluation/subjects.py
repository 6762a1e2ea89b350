"""Runs a tokenizer over an evaluation split: reconstructions, codes and timings in one pass."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation import pixels
from latticebench.errors import BadInput
from latticebench.quantizers.base import MAX_INDEX_SIZE

_TIMED = 3


@dataclasses.dataclass
class Pass:
    """What a pass gives.

    reconstructions: uint8 (N, H, W, 3), in a file that vanishes with the array. floats: the same before rounding,
    float32, where asked for. codes: (N, T) int64 indices of
    each image, all scales after one another, or (N, T, n) digits where K exceeds 2^62; None for a tokenizer that
    quantizes nothing. encode_rate, decode_rate: images a second.
    """

    reconstructions: np.ndarray
    floats: np.ndarray | None
    codes: np.ndarray | None
    encode_rate: float
    decode_rate: float


def run(
    tokenizer: Any, images: np.ndarray, batch_size: int, device: str, folder: Path, keep_floats: bool = False
) -> Pass:
    """Encodes and decodes uint8 images (N, H, W, 3) batch by batch; `folder` holds a temporary file meanwhile.

    Raises BadInput naming the image where a reconstruction is NaN or of another size.
    """
    quantizer = tokenizer.quantizer
    encode, decode = _ways(tokenizer)
    reconstructions = _unnamed(folder, images.shape)
    floats = _unnamed(folder, images.shape, np.float32) if keep_floats else None
    codes: list[np.ndarray] = []
    seconds: dict[str, list[float]] = {"encode": [], "decode": []}
    size = min(batch_size, len(images))
    tokenizer = tokenizer.to(device)
    with torch.inference_mode():
        warm = pixels.to_float(images[:size]).to(device)
        decode(encode(warm))
        for start in range(0, len(images), size):
            batch = pixels.to_float(images[start : start + size]).to(device)
            inner, taken = _timed(encode, batch, device)
            output, decoding = _timed(decode, inner, device)
            if len(batch) == size:
                seconds["encode"].append(taken)
                seconds["decode"].append(decoding)
            _check(output, batch, start)
            reconstructions[start : start + size] = pixels.to_uint8(output)
            if floats is not None:
                floats[start : start + size] = output.float().permute(0, 2, 3, 1).cpu().numpy()
            if quantizer.quantizes:
                codes.append(torch.cat([scale.flatten(1, 2) for scale in inner], dim=1).cpu().numpy())
        while len(seconds["encode"]) < _TIMED:
            inner, taken = _timed(encode, warm, device)
            seconds["encode"].append(taken)
            seconds["decode"].append(_timed(decode, inner, device)[1])
    rates = {key: size / min(values) for key, values in seconds.items()}
    return Pass(reconstructions, floats, np.concatenate(codes) if codes else None, rates["encode"], rates["decode"])


def _ways(tokenizer: Any) -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]:
    """Encode and decode: through index maps, digits where K is too large for indices, features without a quantizer."""
    quantizer = tokenizer.quantizer
    if not quantizer.quantizes:
        return tokenizer.encode_features, tokenizer.decode_features
    if quantizer.codebook_size <= MAX_INDEX_SIZE:
        return tokenizer.encode, tokenizer.decode
    return tokenizer.encode_digits, tokenizer.decode_digits


def _timed(function: Callable[[Any], Any], argument: Any, device: str) -> tuple[Any, float]:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = function(argument)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def _check(output: Tensor, batch: Tensor, start: int) -> None:
    if output.shape != batch.shape:
        raise BadInput(f"images of {tuple(batch.shape[1:])} come back as {tuple(output.shape[1:])}")
    bad = torch.isnan(output).flatten(1).any(dim=1).nonzero()
    if len(bad):
        raise BadInput(f"the reconstruction of evaluation image {start + int(bad[0])} is NaN: training diverged")


def _unnamed(folder: Path, shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    """An array in a file without a name: the split at a paper's scale is 10 GB, more than memory need hold."""
    import tempfile

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, dtype, "w+", shape=shape)
