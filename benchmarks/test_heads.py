"""Memory and time of a 196,560-way loss and its backward pass, chunked against plain: prints a table, fails above the bars.

pytest benchmarks/test_heads.py -s. 4,096 tokens of width 768, float32, one thread on the CPU; on a CUDA device too
where there is one. Memory is what each way takes beyond inputs, parameters and their gradients, each measured in a
process of its own; seconds are processor time, the two ways in turn. The plain way needs 12 GB.
"""

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from latticebench.generators.heads import linear_cross_entropy

N, WIDTH, CODES = 4096, 768, 196_560
REPEATS = 2
LEAST_MEMORY_RATIO = 20
MOST_TIME_RATIO = {"cpu": 1.3, "cuda": 1.0}


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """As torch's own functions do it."""
    return functional.cross_entropy(functional.linear(hidden, weight), targets)


def chunked(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """As training does it."""
    return linear_cross_entropy(hidden, weight, None, targets).loss


WAYS = {"plain": plain, "chunked": chunked}


def drawn(device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Features and weights with room for their gradients, and targets."""
    random = torch.Generator(device).manual_seed(0)
    hidden = torch.randn(N, WIDTH, generator=random, device=device, dtype=dtype).requires_grad_()
    weight = (torch.randn(CODES, WIDTH, generator=random, device=device, dtype=dtype) * WIDTH**-0.5).requires_grad_()
    return hidden, weight, torch.randint(CODES, (N,), generator=random, device=device)


def resident(key: str) -> int:
    """Bytes of this process: VmRSS, or VmHWM, its peak since it was last forgotten."""
    return 1024 * int(re.search(key + r":\s+(\d+)", Path("/proc/self/status").read_text())[1])


def extra_bytes(way: str) -> int:
    """Peak of a forward and backward pass on the CPU above inputs, parameters and gradients; in a fresh process."""
    torch.set_num_threads(1)
    hidden, weight, targets = drawn("cpu")
    WAYS[way](hidden[:8], weight[:64], targets[:8] % 64).backward()  # libraries take their own room once
    hidden.grad = weight.grad = None
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    WAYS[way](hidden, weight, targets).backward()
    return resident("VmHWM") - before - hidden.grad.nbytes - weight.grad.nbytes


def timed(device: str) -> dict[str, float]:
    """Median seconds of each way."""
    hidden, weight, targets = drawn(device)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(REPEATS if device == "cpu" else 10):
        for name, way in WAYS.items():
            hidden.grad = weight.grad = None
            if device == "cuda":
                torch.cuda.synchronize()
            clock = time.thread_time if device == "cpu" else time.perf_counter
            start = clock()
            way(hidden, weight, targets).backward()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(device: str, extra: dict[str, int], seconds: dict[str, float]) -> None:
    """Prints the table and fails above the bars."""
    print(f"\n{device}: {N} tokens, width {WIDTH}, K = {CODES}, forward and backward")
    print("| way | extra memory, MB | of plain | seconds | of plain |\n|---|---|---|---|---|")
    for name in WAYS:
        memory, time_ratio = extra["plain"] / extra[name], seconds[name] / seconds["plain"]
        print(f"| {name} | {extra[name] / 1e6:,.0f} | 1/{memory:.1f} | {seconds[name]:.2f} | {time_ratio:.2f} |")
    assert extra["plain"] >= LEAST_MEMORY_RATIO * extra["chunked"]
    assert seconds["chunked"] <= MOST_TIME_RATIO[device] * seconds["plain"]


@pytest.mark.timeout(14400)
def test_on_the_cpu():
    torch.set_num_threads(1)
    extra = {}
    for name in WAYS:
        code = f"from benchmarks.test_heads import extra_bytes; print(extra_bytes({name!r}))"
        root = Path(__file__).parents[1]
        done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
        extra[name] = int(done.stdout)
    report("cpu", extra, timed("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    hidden, weight, targets = drawn("cuda")
    extra = {}
    for name, way in WAYS.items():
        way(hidden[:8], weight[:64], targets[:8] % 64).backward()
        hidden.grad = weight.grad = None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        way(hidden, weight, targets).backward()
        extra[name] = torch.cuda.max_memory_allocated() - before - hidden.grad.nbytes - weight.grad.nbytes
    del hidden, weight, targets
    report("cuda", extra, timed("cuda"))
