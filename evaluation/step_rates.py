"""How long a training step takes: of finished trainings, of a file, or of a few steps run here on random images.

The plan of a configuration (`evaluation.plan`) rests on these rates.
"""

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticebench import generator_entries
from latticebench.configuration import Configuration, Subject
from latticebench.errors import BadInput, LatticebenchError
from latticebench.files import hash8, write_json

if TYPE_CHECKING:
    from latticebench.tokenizers.base import Tokenizer
    from latticebench.training.loop import Result

STEPS = 3
"""Steps of a measurement; the first is left out, the fastest of the others counts."""
CPU_TOKENS = 2048
"""Tokens a step of a measurement on a CPU, at most: larger batches are measured in part and scaled."""
_NOT_THE_RATE = ("steps", "warmup_steps", "learning_rate", "log_every", "snapshots")


@dataclasses.dataclass(frozen=True)
class Rate:
    """step: seconds a training step. start: seconds before the first one. memory: peak bytes, on a CPU of the process
    up to then and on a GPU of the device. state: bytes of a checkpoint's tensors. device: where. note: how it was found.

    unit: GPU or core; units: how many of them a step takes that long on. sample: seconds to draw a generator's
    sample, decoding left out; None where it was not measured.
    """

    step: float
    start: float
    memory: int | None
    state: int | None
    device: str
    note: str
    unit: str = "core"
    units: int = 1
    sample: float | None = None


def processes(config: Configuration) -> int:
    """Processes of a training, one a GPU."""
    jobs = config.values["jobs"]
    return max(jobs["gpus"], 1) * jobs["nodes"]


def trains(subject: Subject) -> bool:
    """Whether the subject is trained: not where its weights are released, or another's moving average."""
    return "released" not in subject.spec and subject.trained.id == subject.id


def recipe(subject: Subject, whole: bool = False) -> str:
    """The key of a step rate: everything of a training that moves it but its length; `whole`: the quantizer too."""
    if is_generator(subject):
        return hash8(_generator_recipe(subject))
    spec = subject.spec
    key = {"tokenizer": _timeless(spec["tokenizer"]), "size": spec["data"]["size"]}
    return hash8(key | {"quantizer": spec["quantizer"]} if whole else key)


def is_generator(subject: Subject) -> bool:
    """Whether it is an entry of `generators`."""
    return "generation" in subject.spec


def _called(subject: Subject) -> str:
    return f"generator {subject.name}" if is_generator(subject) else subject.name


def _generator_recipe(generator: Subject) -> dict[str, Any]:
    """With sampling, whose rate is measured with that of the training; its number of images is none of it."""
    options = _timeless(generator.spec["generation"])
    options["sampling"] = {**options["sampling"], "images": 0}
    del options["sweep"]
    tokenizer = generator_entries.tokenizer_of(generator)
    known = {key: tokenizer.spec[key] for key in ("released", "quantizer") if key in tokenizer.spec}
    return {"generation": options, "tokenizer": {**known, "size": tokenizer.spec["data"]["size"]} | _scales(tokenizer)}


def _scales(tokenizer: Subject) -> dict[str, Any]:
    options = tokenizer.spec["tokenizer"]
    return {key: options[key] for key in ("architecture", "patch", "network", "scales") if key in options}


def _timeless(options: Mapping[str, Any]) -> dict[str, Any]:
    copied = json.loads(json.dumps(options))
    for key in _NOT_THE_RATE:
        copied.get("training", {}).pop(key, None)
    return copied


def measure(config: Configuration, subject: Subject, device: str | None = None) -> Rate:
    """Trains a tokenizer for a few steps on random images. Raises Missing where its losses need weights not at hand."""
    import numpy as np

    from latticebench.configuration import merge
    from latticebench.tokenizers import build
    from latticebench.tokenizers.losses.objective import Objective
    from latticebench.tokenizers.losses.options import Options as LossOptions
    from latticebench.tokenizers.task import TokenizerTask
    from latticebench.training.options import Options

    device = device or _default_device()
    spec, options = subject.spec, subject.spec["tokenizer"]
    size, root = spec["data"]["size"], build.run_seed(spec, 0)
    quantizer = build.resolve_quantizer(spec["quantizer"], config.path.parent, root)
    tokenizer = build.build(options, quantizer, size, root).to(device)
    full = Options.of(options["training"])
    parts = _Parts(config, full.batch_size, full.accumulate, device, tokenizer.tokens_per_image(size, size))
    # A discriminator that starts later is there for most of the training.
    losses = merge(options["losses"], {"gan": {"start": 0}})
    objective = Objective(LossOptions.of(losses), tokenizer, root, config.values["evaluation"]["weights"])
    images = np.random.default_rng(0).integers(0, 256, (max(parts.batch, 64), size, size, 3), dtype=np.uint8)
    task = TokenizerTask(subject.name, tokenizer, images, parts.batch, options["training"]["flips"], root, objective)
    result, start, memory = _few_steps(task, full, parts.batch, device)
    return _rate(subject, tokenizer, result, start, memory, parts, device)


def measure_generator(config: Configuration, generator: Subject, device: str | None = None) -> Rate:
    """Trains a generator for a few steps on random tokens, and draws some samples.

    Raises BadInput where the tokenizer's weights are released and its scales are not known without them.
    """
    import numpy as np
    import torch

    from latticebench import seeding
    from latticebench.generators import build
    from latticebench.generators.sample import settings
    from latticebench.generators.task import GeneratorTask
    from latticebench.generators.tokens import TokenSplit
    from latticebench.quantizers.base import MAX_INDEX_SIZE
    from latticebench.training.options import Options

    device = device or _default_device()
    options, root = generator.spec["generation"], seeding.derive(generator.spec["seed"], "generator", 0)
    tokenizer = _untrained(config, generator_entries.tokenizer_of(generator)).to(device)
    size = tokenizer.quantizer.codebook_size
    if size > MAX_INDEX_SIZE:
        raise BadInput(f"K = {size} is past 2^62, random tokens of it cannot be drawn")
    classes = _classes(options)
    model = build.build(options, tokenizer, classes, root).to(device)
    full = Options.of(options["training"])
    positions = sum(side * side for side in tokenizer.scales)
    parts = _Parts(config, full.batch_size, full.accumulate, device, positions)
    draw, count = np.random.default_rng(0), max(parts.batch, 64)
    labels = None if classes is None else draw.integers(0, classes["count"], count)
    tokens = TokenSplit(draw.integers(0, size, (count, positions)), labels, tuple(tokenizer.scales))
    training = {**options["training"], "batch_size": parts.batch, "snapshots": []}
    task = GeneratorTask(
        generator.name, model, tokens, training, options["model"]["class_drop"], root, lambda step: None
    )
    result, start, memory = _few_steps(task, full, parts.batch, device)
    own, _ = settings(options)
    at_once = own.batch_size if device == "cuda" else min(own.batch_size, max(1, CPU_TOKENS // positions))
    before = time.perf_counter()
    maps = model.eval().sample(
        None if classes is None else torch.arange(at_once, device=device) % classes["count"],
        torch.arange(at_once),
        guidance=own.guidance,
        temperature=own.temperature,
        top_k=own.top_k,
        top_p=own.top_p,
        at_once=at_once,
    )
    _ = [each.cpu() for each in maps]  # waits for the device
    rate = _rate(generator, model, result, start, memory, parts, device)
    return dataclasses.replace(rate, sample=(time.perf_counter() - before) / at_once)


def _untrained(config: Configuration, subject: Subject) -> "Tokenizer":
    """A tokenizer with the subject's tokens and any weights: generators read its code vectors and scales alone."""
    from latticebench.tokenizers import build

    spec = subject.spec
    size, root = spec["data"]["size"], build.run_seed(spec, 0)
    options = spec["tokenizer"] if "released" not in spec else _released_scales(config, subject)
    return build.build(options, build.resolve_quantizer(spec["quantizer"], config.path.parent, root), size, root)


def _released_scales(config: Configuration, subject: Subject) -> dict[str, Any]:
    """Options of a small tokenizer with the scales of a released one."""
    from latticebench import published, weights
    from latticebench.configuration import merge
    from latticebench.tokenizers.convolutional import MultiScaleTokenizer

    size, name = subject.spec["data"]["size"], subject.spec["released"]
    entry = weights.load().entry(name)
    sides = getattr(published.module(entry.family).Architecture(), "scales", ())
    levels = (size // sides[-1]).bit_length() if sides else 0
    if len(sides) < 2 or sides[-1] << (levels - 1) != size:
        raise BadInput(f"the tokens of {name} are not known without its weights")
    small = {"base": 8, "multipliers": [1] * levels, "blocks": 1, "latent": None}
    chosen = {"architecture": MultiScaleTokenizer.architecture, "network": small, "scales": {"sides": list(sides)}}
    return merge(config.values["tokenizer"], chosen)


def _classes(options: dict[str, Any]) -> dict[str, Any] | None:
    """The class list of a model; data that is not prepared yet is taken to have ImageNet's number of classes."""
    from latticebench.data import pixel_classes

    if options["classes"] == "none":
        return None
    if options["classes"] == "pixels":
        return pixel_classes.identity()
    return {"count": options["model"]["classes"] or 1000, "kind": "local"}


class _Parts:
    """What is measured of a batch: on a GPU one process's part of it, on a CPU as many samples as are quick.

    batch: samples measured. times: how many of these one process computes in a step. whole: samples of the batch.
    """

    def __init__(self, config: Configuration, whole: int, accumulate: int, device: str, tokens: int) -> None:
        self.whole, self.count = whole, processes(config) if device == "cuda" else 1
        share = max(1, whole // self.count)
        self.batch = max(1, share // accumulate) if device == "cuda" else min(share, max(1, CPU_TOKENS // tokens))
        self.times = share / self.batch


def _few_steps(task: Any, options: Any, batch: int, device: str) -> "tuple[Result, float, int]":
    """The log of a few steps, the seconds before the first, and the peak memory in bytes."""
    import resource
    import tempfile

    import torch

    from latticebench.training import loop

    short = dataclasses.replace(options, steps=STEPS, batch_size=batch, log_every=1, accumulate=1)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = loop.train(task, short, loop.Saving(Path(folder), seconds=math.inf), {"plan": "measure"})
    start = max(time.perf_counter() - before - result.seconds, 0.0)
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result, start, torch.cuda.max_memory_allocated() if device == "cuda" else process


def _rate(
    subject: Subject, model: Any, result: "Result", start: float, memory: int, parts: _Parts, device: str
) -> Rate:
    import torch

    seconds = [row["seconds"] for row in result.rows]
    step = min(b - a for a, b in itertools.pairwise(seconds))
    part = "" if parts.batch == parts.whole else f", {parts.batch} of its {parts.whole} images a step"
    return Rate(
        step=step * parts.times,
        start=start,
        memory=memory,
        state=sum(value.numel() * value.element_size() for value in model.state_dict().values()),
        device=_device(device),
        note=f"{STEPS - 1} steps of {_called(subject)} on this machine{part}",
        unit="GPU" if device == "cuda" else "core",
        units=parts.count if device == "cuda" else torch.get_num_threads(),
    )


def measured(config: Configuration, subjects: Iterable[Subject], each: bool) -> tuple[dict[str, Rate], dict[str, str]]:
    """Rates by key, and why others could not be had. subjects: entries of `quantizers` and of `generators`.

    each: of every quantizer, else of one for each recipe; generators are always measured each.
    """
    from tqdm import tqdm

    chosen = {recipe(one, each): one for one in reversed(list(subjects)) if is_generator(one) or trains(one)}
    rates: dict[str, Rate] = {}
    reasons: dict[str, str] = {}
    for key, subject in tqdm(reversed(chosen.items()), total=len(chosen), desc="measuring", unit="recipe"):
        try:
            rates[key] = (measure_generator if is_generator(subject) else measure)(config, subject)
        except LatticebenchError as error:
            reasons[key] = f"{_called(subject)} could not be measured: {error}"
    return rates, reasons


def recorded(config: Configuration, subjects: Iterable[Subject], root: Path) -> dict[str, Rate]:
    """Rates of the trainings that are finished below `root`, the fastest seed of each."""
    jobs = config.values["jobs"]
    unit, units = ("GPU", processes(config)) if jobs["gpus"] else ("core", jobs["threads"])
    rates: dict[str, Rate] = {}
    for subject in subjects:
        if is_generator(subject):
            pattern = f"generators/{generator_entries.training_of(subject).id}/seed*/generator.json"
        else:
            pattern = f"tokenizers/{subject.id}/seed*/tokenizer.json"
        found = []
        for path in sorted(root.glob(pattern)):
            description = json.loads(path.read_text())
            if "training_seconds" in description and "steps" in description:
                state = (path.parent / "model.safetensors").stat().st_size
                found.append((description["training_seconds"] / description["steps"], state))
        if found:
            step, state = min(found)
            note = f"the finished training of {_called(subject)}"
            rates[recipe(subject, whole=True)] = Rate(step, 0.0, None, state, "as recorded", note, unit, units)
    return rates


def save(rates: Mapping[str, Rate], path: Path) -> None:
    """Writes rates as JSON, for `load` on a machine that plans for this one."""
    write_json(path, {"rates": {key: dataclasses.asdict(rate) for key, rate in rates.items()}})


def load(path: Path) -> dict[str, Rate]:
    """Rates that `save` wrote. Raises BadInput on anything else."""
    try:
        return {key: Rate(**value) for key, value in json.loads(path.read_text())["rates"].items()}
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path} is no file of rates; `latticebench plan CONFIG --measure --save FILE` makes one"
        ) from error


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _device(device: str) -> str:
    import platform

    import torch

    return (
        torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
