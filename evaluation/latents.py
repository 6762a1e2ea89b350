"""Codebooks on a tokenizer's own latents: what quantizing them costs, and how close the learned codes lie.

Fixed codebooks have the geometry suite, on uniform directions; a learned one is made for its latents, and each
method's latents are its own, so these columns compare a codebook with its data and not with another's.
"""

from typing import Any

import numpy as np
import torch

from evaluation import pixels
from evaluation.protocols import protocol_id
from evaluation.records import Value, empty, measured
from latticebench.lattices import geometry
from latticebench.quantizers import Quantizer
from latticebench.quantizers.base import MAX_INDEX_SIZE

IMAGES = 64
"""Images whose latents are taken, spread over the split."""
LARGEST = 2**16
"""Codes whose distances are all compared."""
KEYS = ("latent_error", "latent_error_best_length", "learned_delta_min")


def values(tokenizer: Any, images: np.ndarray, batch_size: int, device: str) -> dict[str, Value]:
    """Errors over the latents of at most IMAGES of the images (N, H, W, 3) uint8, and δ_min of a learned codebook."""
    quantizer, protocol = tokenizer.quantizer, protocol_id("latent_error")
    if not quantizer.quantizes:
        return {key: empty(protocol, f"{quantizer.name} quantizes nothing and has no codes") for key in KEYS}
    rows = np.linspace(0, len(images) - 1, min(len(images), IMAGES)).round().astype(int)
    tokens, zz, zq, qq = 0, 0.0, 0.0, 0.0
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            batch = pixels.to_float(images[rows[start : start + batch_size]]).to(device)
            z = tokenizer.encode_features(batch).double()
            q = _decoded(tokenizer, batch).double()
            if quantizer.normalize:
                z = torch.nn.functional.normalize(z, dim=-1)
            tokens += z[..., 0].numel()
            zz, zq, qq = zz + float(z.square().sum()), zq + float((z * q).sum()), qq + float(q.square().sum())
    near = _distance(quantizer)
    return {
        "latent_error": measured((zz - 2 * zq + qq) / zz, protocol, n=tokens),
        "latent_error_best_length": measured(1 - zq**2 / (zz * qq), protocol, n=tokens),
        "learned_delta_min": empty(protocol, near) if isinstance(near, str) else measured(near, protocol),
    }


def _decoded(tokenizer: Any, images: torch.Tensor) -> torch.Tensor:
    if tokenizer.quantizer.codebook_size <= MAX_INDEX_SIZE:
        return tokenizer.partial_sums(tokenizer.encode(images))[-1]
    return tokenizer.quantizer.decode_digits(tokenizer.encode_digits(images)[0])


def _distance(quantizer: Quantizer) -> float | str:
    """δ_min over the root mean square length of the codes, or why there is none."""
    if not quantizer.learnable:
        return "the codebook is fixed: see its geometry"
    if quantizer.codebook_size > LARGEST:
        return f"more than {LARGEST} codes: not all pairs are compared"
    with torch.inference_mode():
        codes = quantizer.codebook().detach().float().cpu()
        return geometry.smallest_distance(codes) / float(codes.double().square().sum(1).mean().sqrt())
