"""Tiny tokenizers and pictures that the tokenizer tests share."""

import numpy as np
import torch

from latticebench.tokenizers.base import Tokenizer
from latticebench.tokenizers.build import build
from latticebench.tokenizers.task import TokenizerTask
from latticebench.training.options import Options

ARCHITECTURE = {"architecture": "vit", "patch": 4, "width": 16, "layers": 1, "heads": 2, "linear_path": True}
TRAINING = {
    "steps": 6,
    "batch_size": 4,
    "learning_rate": 0.002,
    "warmup_steps": 2,
    "final_rate": 0.1,
    "betas": [0.9, 0.99],
    "weight_decay": 0.0001,
    "clip_norm": 1.0,
    "flips": True,
    "precision": "auto",
    "log_every": 1,
}
QUANTIZERS = {
    "identity": {"method": "identity", "parameters": {"dim": 4}},
    "fsq": {"method": "fsq", "parameters": {"levels": [4, 4, 4]}},
    "vq": {"method": "vq", "parameters": {"dim": 4, "codebook_size": 32, "init": "data", "seed": 1}},
    "vq-ema": {
        "method": "vq",
        "parameters": {"dim": 4, "codebook_size": 32, "update": "ema", "restart_threshold": 0.5, "seed": 1},
    },
    "lgq": {"method": "lgq", "parameters": {"dim": 4, "codebook_size": 16, "seed": 1}},
    "bsq": {"method": "bsq", "parameters": {"dim": 6}},
    "random": {"method": "random", "parameters": {"dim": 6, "codebook_size": 64, "seed": 1}},
    "leech": {"method": "leech", "parameters": {}},
}
SIZE = 16


def pictures(count: int = 24, side: int = SIZE + 4, seed: int = 0) -> np.ndarray:
    """(count, side, side, 3) uint8: slopes of random colours with some texture."""
    draw = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, side)
    slope = (
        draw.uniform(-1, 1, (count, 1, 1, 3)) * ramp[:, None, None]
        + draw.uniform(-1, 1, (count, 1, 1, 3)) * ramp[:, None]
    )
    image = draw.uniform(0, 1, (count, 1, 1, 3)) + 0.5 * slope + draw.normal(0, 0.05, (count, side, side, 1))
    return (image.clip(0, 1) * 255).astype(np.uint8)


def batch(count: int = 5, side: int = SIZE, seed: int = 9) -> torch.Tensor:
    """(count, 3, side, side) float32 in [0, 1]."""
    return torch.from_numpy(pictures(count, side, seed)).permute(0, 3, 1, 2).float() / 255


def tokenizer(name: str, **changes: object) -> Tokenizer:
    """A small untrained tokenizer around one of QUANTIZERS."""
    return build({**ARCHITECTURE, **changes}, QUANTIZERS[name], SIZE, seed=3)


def task(name: str, seed: int = 5, **changes: object) -> TokenizerTask:
    """Training of such a tokenizer on `pictures`."""
    return TokenizerTask(name, tokenizer(name, **changes), pictures(), TRAINING["batch_size"], True, seed)


def options(**changes: object) -> Options:
    """The tiny recipe."""
    return Options.of({**TRAINING, **changes})
