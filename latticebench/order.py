"""Which of a run's jobs to start first: those with the most work behind them.

A run on few cores ends with one of them idle while the last long job runs. Jobs that head the longest chains go
first, so that short ones are left to fill the end. The estimates are rough and decide nothing but the order.
"""

import dataclasses
import math
from typing import Any

from latticebench import generator_entries
from latticebench.configuration import Configuration, Subject

_STRUCTURED = ("leech", "leech-published")
"""Their search does not compare a token with every code."""


_GENERATION = 50
"""Tokens, training and samples of a generator."""


@dataclasses.dataclass(frozen=True)
class Work:
    """Relative work of one seed: a plain small tokenizer's training of 150 steps is 8."""

    training: float
    judging: float
    coding: float


def work(config: Configuration, subject: Subject) -> Work:
    """Estimated from the steps, the size of a codebook that is searched, and whether a network prior is trained."""
    quantizer: dict[str, Any] = subject.spec.get("quantizer", {})
    searched = 0.0
    if quantizer.get("method") not in _STRUCTURED:
        searched = (quantizer.get("parameters", {}).get("codebook_size") or 0) / 4096
    steps = subject.spec.get("tokenizer", {}).get("training", {}).get("steps", 0)
    network = subject.name in config.values["compression"]["network"]
    return Work((8 + searched) * steps / 150, 1 + searched / 8, 4 + searched + 12 * network)


def priority(config: Configuration, subject: Subject, stage: str, seeds: int) -> int:
    """Snakemake's priority of a subject's job for `seeds` seeds: its own work and the longest that waits for it.

    stage: training, judging or coding.
    """
    estimate = work(config, subject)
    waiting = 0.0
    if stage == "training":
        modelled = any(generator_entries.tokenizer_of(entry).id == subject.id for entry in config.generators())
        waiting = max(estimate.judging, estimate.coding, _GENERATION * modelled)
    return math.ceil(seeds * (getattr(estimate, stage) + waiting))
