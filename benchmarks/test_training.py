"""What the Leech search adds to a training step at the paper's size: prints a table, fails above the bars.

pytest benchmarks/test_training.py -s, on a machine with a CUDA device. The ViT of config/imagenet.yaml's table-5 at
256 px, 16 images (16 x 1,024 tokens), bf16 autocast, ℓ1 alone and no gradient checkpointing: with the recipe's other
losses the step is longer and the share smaller. Steps of both tokenizers take turns.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from latticebench import configuration
from latticebench.tokenizers import build
from latticebench.tokenizers.task import TokenizerTask
from latticebench.training.adamw import AdamW

BATCH, REPEATS = 16, 30
MOST_SHARE, MOST_MEMORY = 0.02, 200 * 2**20
QUANTIZERS = {
    "identity": {"method": "identity", "parameters": {"dim": 24}},
    "leech": {"method": "leech", "parameters": {}},
    "leech-published": {"method": "leech-published", "parameters": {}},
}


def training_step(name: str, options: dict, size: int) -> Callable[[], None]:
    """One optimizer step on random pixels, ready to be timed."""
    tokenizer = build.build(options, QUANTIZERS[name], size, 0).cuda().train()
    images = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), dtype=np.uint8)
    task = TokenizerTask(name, tokenizer, images, BATCH, True, 0)
    optimizer = AdamW(tokenizer.parameters(), (0.9, 0.99), 1e-4)
    optimizer.rate = 1e-5
    numbers = itertools.count()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            losses = task.losses(next(numbers), 0.0)
        losses["loss"].backward()
        optimizer.step()
        torch.cuda.synchronize()

    return step


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_leech_share_of_a_step_at_the_papers_size():
    config = configuration.load(Path(__file__).parents[1] / "config/imagenet.yaml")
    spec = next(s for s in config.suite("table-5").subjects if s.name == "leech").spec
    steps = {name: training_step(name, spec["tokenizer"], spec["data"]["size"]) for name in QUANTIZERS}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    memory = dict.fromkeys(steps, 0)
    for repeat in range(REPEATS):
        for name, step in steps.items():
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            step()
            if repeat >= 3:
                seconds[name].append(time.perf_counter() - start)
                memory[name] = max(memory[name], torch.cuda.max_memory_allocated() - before)
    base = statistics.median(seconds["identity"])
    print(f"\n{torch.cuda.get_device_name()}, {BATCH} images of {spec['data']['size']} px")
    print("| quantizer | ms a step | share above identity | MB above identity |\n|---|---|---|---|")
    for name, own in seconds.items():
        median, extra = statistics.median(own), memory[name] - memory["identity"]
        print(f"| {name} | {1e3 * median:.1f} | {1 - base / median:.1%} | {extra / 2**20:.0f} |")
    for name in ("leech", "leech-published"):
        assert 1 - base / statistics.median(seconds[name]) < MOST_SHARE
        assert memory[name] - memory["identity"] < MOST_MEMORY
