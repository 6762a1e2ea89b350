"""Speed of the token codec under its priors, tokens a second of one core; fails under the static prior's bar.

pytest benchmarks/test_token_coding.py -s. Processor time of one thread, coding and decoding, checks included.
"""

import statistics
import time

import numpy as np
import pytest

from evaluation.compression import priors
from evaluation.compression.codec import Coded, TokenCodec
from evaluation.compression.layout import Layout

TOKENIZER = "5a" * 32
LEAST = 1_000_000
SIDE, GRID = 512, (64, 64)
IMAGES, REPEATS = 64, 5


@pytest.mark.parametrize("codebook_size", [4096, 196_560])
@pytest.mark.parametrize("kind", ["uniform", "static"])
def test_priors_without_a_network(kind, codebook_size):
    rng = np.random.default_rng(0)
    use = np.sort(rng.zipf(1.3, 2_000_000)) % codebook_size  # few common codes, many rare ones
    prior = priors.fit_static(rng.permutation(use)[:1_000_000], codebook_size, TOKENIZER) if kind == "static" else None
    codec = TokenCodec(Layout(TOKENIZER, codebook_size, SIDE, (GRID,)), prior)
    images = [Coded(rng.choice(use, (1, GRID[0] * GRID[1])).astype(np.int64), SIDE, SIDE) for _ in range(IMAGES)]
    tokens = sum(image.tokens.size for image in images)
    times = {"coding": [], "decoding": []}
    for _ in range(REPEATS):
        start = time.thread_time()
        files = codec.write(images)
        middle = time.thread_time()
        codec.read(files)
        times["coding"].append(middle - start)
        times["decoding"].append(time.thread_time() - middle)
    speeds = {name: tokens / statistics.median(values) for name, values in times.items()}
    for name, speed in speeds.items():
        print(f"\n{kind}, K = {codebook_size}: {name} {speed / 1e6:.1f} million tokens a second")
    assert min(speeds.values()) >= LEAST
