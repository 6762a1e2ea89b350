"""Held-out likelihood of a generator: bits a token against a static prior and against shuffled classes."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import statistics
from evaluation.protocols import protocol_id
from evaluation.records import Value, empty, measured
from latticebench import generator_entries, seeding
from latticebench.configuration import Subject
from latticebench.data.prepared import Prepared

KEYS = ("bits_per_token", "bits_per_token_static", "bits_per_token_shuffled_labels", "bits_per_pixel")
SHUFFLES = 4
"""Permutations of the classes that the shuffled value is the mean of."""


@dataclasses.dataclass
class Loaded:
    """A generator with its tokens. model: in eval mode on `device`."""

    model: Any
    tokens: Any
    device: str


@dataclasses.dataclass
class Likelihood:
    """values: of KEYS. samples: bits a token of each evaluation image, for paired comparisons."""

    values: dict[str, Value]
    samples: dict[str, list[float]]


def load(root: Path, generator: Subject, seed: int, device: str) -> Loaded:
    """One seed of a generator, its tokenizer and tokens below a results folder. Raises Missing and BadInput."""
    from latticebench import tokenizers
    from latticebench.generators import checkpoint
    from latticebench.generators import tokens as token_files

    own = generator_entries.tokenizer_seed(generator, seed)
    tokens = token_files.load(root / "tokens" / generator_entries.tokens_of(generator).id / f"seed{own}")
    tokenizer = tokenizers.load(root / "tokenizers" / generator_entries.tokenizer_of(generator).id / f"seed{own}")
    tokens.check(tokenizer)
    trained = root / "generators" / generator_entries.training_of(generator).id / f"seed{seed}"
    model = checkpoint.load(trained, tokenizer.to(device), tokens.classes).to(device)
    return Loaded(model, tokens, device)


def measure(loaded: Loaded, data: Prepared, batch_size: int) -> Likelihood:
    """Bits of the evaluation split's tokens, told the true classes, shuffled ones, and by a static prior."""
    split = loaded.tokens.eval
    groups = data.eval.groups
    told = split.class_ids(slice(None))
    labels = None if told is None else told.numpy()
    samples = {"bits_per_token": image_bits(loaded, labels, batch_size)}
    reasons: dict[str, str] = {}
    if labels is None:
        reasons["bits_per_token_shuffled_labels"] = "the model is told no classes"
    else:
        orders = [np.random.default_rng(seeding.derive(0, "shuffled labels", i)) for i in range(SHUFFLES)]
        shuffled = [image_bits(loaded, labels[order.permutation(len(labels))], batch_size) for order in orders]
        samples["bits_per_token_shuffled_labels"] = np.mean(shuffled, axis=0)
    static = static_bits(loaded.tokens)
    if static is None:
        reasons["bits_per_token_static"] = "codebooks above 2^62 have no static prior"
    else:
        samples["bits_per_token_static"] = static
    values = {key: empty(protocol_id(key), reason, unit="bits") for key, reason in reasons.items()}
    for key, numbers in samples.items():
        values[key] = _mean(key, numbers, groups, "bits")
    height, width = data.eval.images.shape[1:3]
    pixels = samples["bits_per_token"] * split.tokens.shape[1] / (height * width)
    values["bits_per_pixel"] = _mean("bits_per_pixel", pixels, groups, "bpp")
    return Likelihood(values, {key: numbers.tolist() for key, numbers in samples.items()})


def image_bits(loaded: Loaded, labels: np.ndarray | None, batch_size: int) -> np.ndarray:
    """Mean bits a token (N,) of each evaluation image, the model told `labels` (N,)."""
    import torch

    split = loaded.tokens.eval
    found = []
    for start in range(0, len(split), batch_size):
        rows = slice(start, start + batch_size)
        maps = [each.to(loaded.device) for each in split.maps(rows)]
        ids = None if labels is None else torch.from_numpy(labels[rows]).to(loaded.device)
        found.append(loaded.model.nats(ids, maps).double().mean(dim=1).cpu().numpy() / math.log(2))
    return np.concatenate(found)


def static_bits(tokens: Any) -> np.ndarray | None:
    """Mean bits a token (N,) of each evaluation image under the frequencies of the training tokens."""
    from evaluation.compression import priors

    if tokens.train.tokens.ndim != 2:
        return None
    prior = priors.fit_static(tokens.train.flat(), tokens.codebook_size, tokens.fingerprint)
    flat = tokens.eval.flat()
    return prior.bits(list(flat)) / flat.shape[1]


def _mean(key: str, numbers: np.ndarray, groups: np.ndarray, unit: str) -> Value:
    mean, interval = statistics.mean_interval(numbers.tolist(), groups)
    return measured(mean, protocol_id(key), unit=unit, interval=interval, n=len(numbers))
