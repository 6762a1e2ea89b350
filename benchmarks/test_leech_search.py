"""Speed of the exact Leech search: prints the table of docs/lattices.md and fails under the bars.

pytest benchmarks/test_leech_search.py -s. One thread, 4,096 vectors, median of interleaved repeats.
On a machine with a CUDA device the Triton kernel is timed at 262,144 vectors as well.
"""

import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from latticebench import configuration
from latticebench.lattices import leech
from latticebench.lattices.leech_search import structured
from latticebench.tokenizers import build
from latticebench.tokenizers.task import TokenizerTask
from latticebench.training.adamw import AdamW

N = 4096
REPEATS = 7
GPU_N = 262_144


def published(table: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Nearest neighbours as the released code finds them, untiled."""
    return lambda z: torch.argmin(-z @ table.t(), dim=1)


def best_dense(table: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The best dense form in torch: one of each antipodal pair, amax by blocks, argmax in the winning block only."""
    index_of = {tuple(row): i for i, row in enumerate(table.to(torch.int8).tolist())}
    kept = [i for i, row in enumerate(table.to(torch.int8).tolist()) if next(x for x in row if x) > 0]
    opposite = torch.tensor([index_of[tuple(-x for x in table[i].to(torch.int8).tolist())] for i in kept])
    rows, half = torch.tensor(kept), table[kept]
    block = 2048
    blocks = half.split(block)

    def search(z: torch.Tensor) -> torch.Tensor:
        result = []
        for tile in z.split(256):
            scores = [tile @ b.t() for b in blocks]
            extremes = torch.stack([torch.maximum(s.amax(1), -s.amin(1)) for s in scores])
            winner = extremes.max(0).indices
            out = torch.empty(len(tile), dtype=torch.int64)
            for b in winner.unique().tolist():
                chosen = (winner == b).nonzero()[:, 0]
                found = scores[b][chosen]
                place = found.abs().argmax(1)
                at = place + b * block
                out[chosen] = torch.where(found.gather(1, place[:, None])[:, 0] > 0, rows[at], opposite[at])
            result.append(out)
        return torch.cat(result)

    return search


def interleaved(
    methods: dict[str, Callable], z: torch.Tensor | None, clock: Callable = time.thread_time, repeats: int = REPEATS
) -> dict[str, float]:
    """Median seconds of each method, all of them timed in turn; by default processor time of this one thread."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            start = clock()
            method(z)
            times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


@pytest.fixture(scope="module")
def table() -> torch.Tensor:
    torch.set_num_threads(1)
    return torch.from_numpy(leech.shell()).float()


@pytest.mark.timeout(1800)  # the compilation alone takes minutes
@pytest.mark.parametrize("kind", ["gaussian", "bf16"])
def test_speed(table, kind, monkeypatch):
    z = torch.randn(N, 24, generator=torch.Generator().manual_seed(0))
    z = z.bfloat16().float() if kind == "bf16" else z
    # Stage by stage: as one graph inductor computes the stages' tables again for every use of them.
    stages = ("_sign_classes", "_octad_classes", "_class4", "_groups", "_second_label")
    compiled = {name: torch.compile(getattr(structured, name), fullgraph=True, dynamic=False) for name in stages}

    def compiled_search(z: torch.Tensor) -> torch.Tensor:
        with monkeypatch.context() as patch, torch.no_grad():
            for name, stage in compiled.items():
                patch.setattr(structured, name, stage)
            return leech.nearest(z, backend="structured")

    methods = {
        "published, untiled": published(table),
        "dense, best torch form": best_dense(table),
        "structured, eager": lambda z: leech.nearest(z, backend="structured"),
        "structured, torch.compile": compiled_search,
        "numba": lambda z: leech.nearest(z, backend="numba"),
    }
    expected = torch.cat([(part.double() @ table.double().t()).argmax(1) for part in z.split(256)])
    wrong = {name: int((method(z) != expected).sum()) for name, method in methods.items()}
    seconds = interleaved(methods, z)
    first, dense = seconds["published, untiled"], seconds["dense, best torch form"]
    print(f"\n{kind}: {N} vectors, processor time of 1 thread")
    print("| method | µs a vector | vectors a second | × published | × best dense | wrong |")
    print("|---|---|---|---|---|---|")
    for name, s in seconds.items():
        print(f"| {name} | {s / N * 1e6:.2f} | {N / s:,.0f} | {first / s:.1f} | {dense / s:.1f} | {wrong[name]} |")
    assert all(wrong[name] == 0 for name in list(methods)[2:])
    assert first / seconds["structured, eager"] >= 60 and dense / seconds["structured, eager"] >= 10
    assert first / seconds["structured, torch.compile"] >= 100 and dense / seconds["structured, torch.compile"] >= 18
    assert dense / seconds["numba"] >= 60 and N / seconds["numba"] >= 400_000


def test_index_to_vector():
    torch.set_num_threads(1)
    indices = torch.randint(0, leech.SIZE, (GPU_N,), generator=torch.Generator().manual_seed(0))
    leech.vectors(indices)
    seconds = interleaved({"vectors": leech.vectors}, indices)["vectors"]
    print(f"\nindex to vector: {GPU_N / seconds:,.0f} a second")
    assert GPU_N / seconds >= 10_000_000


@pytest.mark.parametrize("backend", ["structured", "numba"])
def test_extra_memory(backend):
    code = f"""
import re, torch
from pathlib import Path
from latticebench.lattices import leech
torch.set_num_threads(1)
z = torch.randn({GPU_N}, 24)
leech.nearest(z[:4096], backend={backend!r})
Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of building the tables
kilobytes = lambda key: int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = kilobytes("VmRSS")
leech.nearest(z, backend={backend!r})
print(kilobytes("VmHWM") - before)
"""
    extra = 1024 * int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    print(f"\n{backend}: {extra / 2**20:.1f} MB extra at {GPU_N} vectors")
    assert extra <= 64 * 2**20 + 64 * GPU_N


def test_share_of_an_embedded_training_step():
    torch.set_num_threads(1)
    config = configuration.load(Path(__file__).parents[1] / "config/embedded.yaml")
    subjects = {subject.name: subject for subject in config.subjects()}
    images = np.random.default_rng(0).integers(0, 256, (64, 80, 80, 3), dtype=np.uint8)

    def training_step(name: str) -> Callable[[object], None]:
        spec = subjects[name].spec
        options, size = spec["tokenizer"], spec["data"]["size"]
        quantizer = build.resolve_quantizer(spec["quantizer"], config.path.parent, 0)
        tokenizer = build.build(options, quantizer, size, 0)
        task = TokenizerTask(name, tokenizer, images, options["training"]["batch_size"], True, 0)
        task.initialize()
        optimizer = AdamW(tokenizer.parameters(), options["training"]["betas"], options["training"]["weight_decay"])
        optimizer.rate = 1e-4
        numbers = (
            itertools.count()
        )  # a batch of its own each time, as in training: a near-tie is rare, not in every step

        def step(_: object) -> None:
            optimizer.zero_grad()
            task.losses(next(numbers), 0.0)["loss"].backward()
            torch.nn.utils.clip_grad_norm_(tokenizer.parameters(), options["training"]["clip_norm"])
            optimizer.step()

        return step

    steps = {name: training_step(name) for name in ("identity", "leech-196560", "leech-published")}
    for step in steps.values():
        step(None)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(60):
        for name, step in steps.items():
            start = time.thread_time()
            step(None)
            times[name].append(time.thread_time() - start)
    # Each step against identity's of the same round: on a busy machine the rounds differ more than the methods.
    pairs = {name: zip(times["identity"], times[name], strict=True) for name in steps if name != "identity"}
    shares = {name: statistics.median(1 - own / step for own, step in pair) for name, pair in pairs.items()}
    seconds = {name: statistics.median(values) for name, values in times.items()}
    for name, share in shares.items():
        print(f"\n{name}: {share:.1%} of a training step of {1e3 * seconds[name]:.0f} ms above identity's")
    assert max(shares.values()) < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_triton_on_a_gpu():
    table = torch.from_numpy(leech.shell()).cuda()
    z = torch.randn(GPU_N, 24, device="cuda", generator=torch.Generator("cuda").manual_seed(0))

    def dense(dtype: torch.dtype, tf32: bool = False) -> Callable[[torch.Tensor], torch.Tensor]:
        half = table.to(dtype)

        def search(z: torch.Tensor) -> torch.Tensor:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            return torch.cat([(part.to(dtype) @ half.t()).argmax(1) for part in z.split(8192)])

        return search

    compiled = torch.compile(lambda part: (part @ table.float().t()).argmax(1))
    methods = {
        "dense float32": dense(torch.float32),
        "dense tf32": dense(torch.float32, tf32=True),
        "dense bf16": dense(torch.bfloat16),
        "dense float32, torch.compile": lambda z: torch.cat([compiled(part) for part in z.split(8192)]),
        "structured, eager": lambda z: leech.nearest(z, backend="structured"),
        "triton": lambda z: leech.nearest(z, backend="triton"),
    }

    def timed(method: Callable) -> Callable:
        return lambda z: (method(z), torch.cuda.synchronize())

    expected = leech.nearest(z, backend="structured")
    wrong = {name: float((method(z) != expected).float().mean()) for name, method in methods.items()}
    seconds = interleaved({name: timed(method) for name, method in methods.items()}, z, time.perf_counter)
    print(f"\n{torch.cuda.get_device_name()}: {GPU_N} vectors")
    print("| method | million vectors a second | wrong |\n|---|---|---|")
    for name, s in seconds.items():
        print(f"| {name} | {GPU_N / s / 1e6:.1f} | {wrong[name]:.2%} |")
    assert wrong["triton"] == 0
    if "H100" in torch.cuda.get_device_name():
        assert GPU_N / seconds["triton"] >= 100e6
