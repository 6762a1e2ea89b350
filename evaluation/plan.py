"""What a configuration will take before anything runs: jobs, core- or GPU-hours, disk, memory, targets by table row.

Hours come from step rates: of trainings that this configuration has finished, of a file of rates, or of a few steps
run here on random images. What has no rate has no hours, and the plan says why.
"""

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from latticebench.configuration import Configuration, Subject, Suite
from latticebench.errors import BadInput, LatticebenchError
from latticebench.files import hash8, write_json

STEPS = 3
"""Steps of a measurement; the first is left out, the fastest of the others counts."""
CPU_TOKENS = 2048
"""Tokens a step of a measurement on a CPU, at most: larger batches are measured in part and scaled."""
_GB = 1e9


@dataclasses.dataclass(frozen=True)
class Rate:
    """step: seconds a training step. start: seconds before the first one. memory: peak bytes, on a CPU of the process
    up to then and on a GPU of the device. state: bytes of a checkpoint's tensors. device: where. note: how it was found.
    """

    step: float
    start: float
    memory: int | None
    state: int | None
    device: str
    note: str


@dataclasses.dataclass(frozen=True)
class Row:
    """A table row's share of the plan. hours: of all its seeds on `unit`s, None where there is no rate.
    reason: why there is no rate, or nothing to train."""

    suite: str
    name: str
    id: str
    seeds: tuple[int, ...]
    hours: float | None
    disk: int | None
    memory: int | None
    reason: str
    targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """jobs: number by stage. rows: in the order of the file, shared entries in each suite that has them.

    hours: of every training once, None where no row has a rate. disk: bytes, memory: bytes of the largest job.
    unit: GPU or core. assumed: what the numbers rest on, and what they leave out.
    """

    jobs: dict[str, int]
    rows: tuple[Row, ...]
    hours: float | None
    unit: str
    disk: int
    memory: int | None
    assumed: tuple[str, ...]


def recipe(subject: Subject, whole: bool = False) -> str:
    """The key of a step rate: everything of a training that moves it but its length; `whole`: the quantizer too."""
    tokenizer = json.loads(json.dumps(subject.spec["tokenizer"]))
    for key in ("steps", "warmup_steps", "learning_rate", "log_every"):
        tokenizer.get("training", {}).pop(key, None)
    key = {"tokenizer": tokenizer, "size": subject.spec["data"]["size"]}
    return hash8(key | {"quantizer": subject.spec["quantizer"]} if whole else key)


def measure(config: Configuration, subject: Subject, device: str | None = None) -> Rate:
    """Trains a subject for a few steps on random images. Raises Missing where its losses need weights not at hand."""
    import resource
    import tempfile

    import numpy as np
    import torch

    from latticebench.configuration import merge
    from latticebench.tokenizers import build
    from latticebench.tokenizers.losses.objective import Objective
    from latticebench.tokenizers.losses.options import Options as LossOptions
    from latticebench.tokenizers.task import TokenizerTask
    from latticebench.training import loop
    from latticebench.training.options import Options

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    spec, options = subject.spec, subject.spec["tokenizer"]
    size, root = spec["data"]["size"], build.run_seed(spec, 0)
    quantizer = build.resolve_quantizer(spec["quantizer"], config.path.parent, root)
    tokenizer = build.build(options, quantizer, size, root).to(device)
    full = Options.of(options["training"])
    batch = full.batch_size
    if device == "cpu":
        batch = min(batch, max(1, CPU_TOKENS // tokenizer.tokens_per_image(size, size)))
    # A discriminator that starts later is there for most of the training.
    losses = merge(options["losses"], {"gan": {"start": 0}})
    objective = Objective(LossOptions.of(losses), tokenizer, root, config.values["evaluation"]["weights"])
    images = np.random.default_rng(0).integers(0, 256, (max(batch, 64), size, size, 3), dtype=np.uint8)
    task = TokenizerTask(subject.name, tokenizer, images, batch, options["training"]["flips"], root, objective)
    short = dataclasses.replace(full, steps=STEPS, batch_size=batch, log_every=1, accumulate=1)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = loop.train(task, short, loop.Saving(Path(folder), seconds=math.inf), {"plan": "measure"})
    seconds = [row["seconds"] for row in result.rows]
    step = min(b - a for a, b in itertools.pairwise(seconds))
    part = "" if batch == full.batch_size else f", {batch} images a step scaled to {full.batch_size}"
    return Rate(
        step=step * full.batch_size / batch,
        start=max(time.perf_counter() - before - result.seconds, 0.0),
        memory=(
            torch.cuda.max_memory_allocated()
            if device == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        ),
        state=sum(value.numel() * value.element_size() for value in tokenizer.state_dict().values()),
        device=_device(device),
        note=f"{STEPS - 1} steps of {subject.name} on this machine{part}",
    )


def measured(config: Configuration, subjects: Iterable[Subject], each: bool) -> tuple[dict[str, Rate], dict[str, str]]:
    """Rates by key, and why others could not be had. each: of every subject, else of one for each recipe."""
    from tqdm import tqdm

    chosen = {recipe(subject, each): subject for subject in reversed(list(subjects)) if _trains(subject)}
    rates: dict[str, Rate] = {}
    reasons: dict[str, str] = {}
    for key, subject in tqdm(reversed(chosen.items()), total=len(chosen), desc="measuring", unit="recipe"):
        try:
            rates[key] = measure(config, subject)
        except LatticebenchError as error:
            reasons[key] = f"{subject.name} could not be measured: {error}"
    return rates, reasons


def recorded(subjects: Iterable[Subject], root: Path) -> dict[str, Rate]:
    """Rates of the trainings that are finished below `root`, the fastest seed of each."""
    rates: dict[str, Rate] = {}
    for subject in subjects:
        found = []
        for path in sorted((root / "tokenizers" / subject.id).glob("seed*/tokenizer.json")):
            description = json.loads(path.read_text())
            if "training_seconds" in description and "steps" in description:
                state = (path.parent / "model.safetensors").stat().st_size
                found.append((description["training_seconds"] / description["steps"], state))
        if found:
            step, state = min(found)
            note = f"the finished training of {subject.name}"
            rates[recipe(subject, whole=True)] = Rate(step, 0.0, None, state, "as recorded", note)
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


def plan(
    config: Configuration, suites: list[Suite], rates: Mapping[str, Rate], reasons: Mapping[str, str], root: Path
) -> Plan:
    """The plan of some suites. rates, reasons: by `recipe`, a key with the quantizer before one without."""
    subjects = list({subject.id: subject for suite in suites for subject in suite.subjects}.values())
    jobs, unit_count = config.values["jobs"], config.values["jobs"]["gpus"] or config.values["jobs"]["threads"]
    rows = [_row(config, suite, subject, rates, reasons, unit_count) for suite in suites for subject in suite.subjects]
    once = {row.id: row for row in rows}.values()
    data, notes = _data(config, subjects, root)
    known = [row.hours for row in once if row.hours is not None and not row.reason]
    running = max((row.disk or 0 for row in once), default=0) * 4 * 2  # weights, gradients' moments; the newest two
    generators = sum(len(suite.generators) for suite in suites)
    groups = sum(len(config.seed_groups(subject)) for subject in subjects)
    used = {rate.note: rate for row in once if (rate := _rate(config.subject(row.id), rates)) is not None}
    assumed = [
        *(f"step rates: {rate.note} ({rate.device}): {rate.step:.3g} s" for rate in used.values()),
        *notes,
        "hours are those of training alone: judging, coding and the report come on top",
        "disk: prepared images, final weights, and the running checkpoints of one training",
    ]
    without = sum(row.hours is None for row in once)
    if without:
        assumed.append(f"{without} of {len(once)} rows have no rate and are not in the sums")
    if generators:
        assumed.append(f"{generators} generators are not predicted")
    memories = [row.memory for row in once if row.memory is not None]
    return Plan(
        jobs={
            "data": len({subject.data_hash for subject in subjects}),
            "tokenizer": groups,
            "judge": groups,
            "compression": groups,
            "geometry, codecs, report": 3,
        },
        rows=tuple(rows),
        hours=sum(known) if known or not without else None,
        unit="GPU" if jobs["gpus"] else "core",
        disk=data + sum((row.disk or 0) * len(row.seeds) for row in once) + running,
        memory=max(memories, default=None),
        assumed=tuple(assumed),
    )


def _trains(subject: Subject) -> bool:
    """Whether the subject is trained: not where its weights are released, or another's moving average."""
    return "released" not in subject.spec and subject.trained.id == subject.id


def _rate(subject: Subject, rates: Mapping[str, Rate]) -> Rate | None:
    return rates.get(recipe(subject, whole=True)) or rates.get(recipe(subject))


def _row(
    config: Configuration,
    suite: Suite,
    subject: Subject,
    rates: Mapping[str, Rate],
    reasons: Mapping[str, str],
    unit_count: int,
) -> Row:
    targets = tuple(
        f"results/{config.name}/records/{subject.id}/made-{seeds}.json" for seeds in config.seed_groups(subject)
    )
    row = Row(suite.name, subject.name, subject.id, subject.seeds, None, None, None, "", targets)
    if "released" in subject.spec:
        return dataclasses.replace(row, hours=0.0, reason="released weights, nothing to train")
    if not _trains(subject):
        return dataclasses.replace(row, hours=0.0, reason=f"the moving average of {subject.trained.name}'s weights")
    rate = _rate(subject, rates)
    if rate is None:
        why = reasons.get(recipe(subject, whole=True)) or reasons.get(recipe(subject)) or "no rate: add --measure"
        return dataclasses.replace(row, reason=why)
    training = subject.spec["tokenizer"]["training"]
    seconds = rate.start + rate.step * training["steps"]
    return dataclasses.replace(
        row,
        hours=seconds * len(subject.seeds) * unit_count / 3600,
        disk=None if rate.state is None else rate.state * (2 if training["ema"] else 1),
        memory=rate.memory,
    )


def _data(config: Configuration, subjects: list[Subject], root: Path) -> tuple[int, list[str]]:
    """Bytes of the prepared images of all data sets, and what the count rests on."""
    total, notes = 0, []
    for data_hash in dict.fromkeys(subject.data_hash for subject in subjects):
        own = config.with_data(data_hash)
        options = own.values["data"]
        try:
            counts = _counts(own, root / "data" / data_hash)
        except LatticebenchError as error:
            notes.append(f"the images of data {data_hash} could not be counted, their disk is left out: {error}")
            continue
        sides = {"train": options["size"] + options["train_margin"], "eval": options["size"]}
        if options.get("storage") == "manifest":
            sides["train"] = 0
        total += sum(3 * counts[split] * side**2 for split, side in sides.items())
        notes.append(f"data {data_hash}: {counts['train']:,} training and {counts['eval']:,} evaluation images")
    return total, notes


def _counts(config: Configuration, folder: Path) -> dict[str, int]:
    """Images by split: of the prepared folder, else as many as the source lists."""
    from latticebench.data.prepare import SPLITS, make_source

    manifest = folder / "manifest.json"
    if manifest.is_file():
        splits = json.loads(manifest.read_text())["splits"]
        return {split: splits[split]["images"] for split in SPLITS}
    source, options = make_source(config), config.values["data"]
    listed = {split: len(source.items(split)) for split in SPLITS}
    return {split: min(count, options[f"{split}_images"] or count) for split, count in listed.items()}


def _device(device: str) -> str:
    import platform

    import torch

    return (
        torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )


def lines(found: Plan) -> list[str]:
    """The plan as aligned text: a line a target, then the sums, then what was assumed."""
    head = ["suite", "row", "seeds", f"{found.unit}-hours", "target"]
    table = [head]
    for row in found.rows:
        hours = "-" if row.hours is None else f"{row.hours:.2f}"
        for number, target in enumerate(row.targets):
            cells = [row.suite, row.name, str(len(row.seeds)), hours] if number == 0 else ["", "", "", ""]
            table.append([*cells, target])
    widths = [max(len(line[i]) for line in table) for i in range(4)]
    text = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[4]]) for line in table
    ]
    jobs = ", ".join(f"{count} {stage}" for stage, count in found.jobs.items() if count)
    hours = "unknown" if found.hours is None else f"{found.hours:.2f} {found.unit}-hours of training"
    memory = "unknown" if found.memory is None else f"{found.memory / _GB:.1f} GB in the largest training"
    reasons = dict.fromkeys(row.reason for row in found.rows if row.reason)
    return [
        *text,
        "",
        f"jobs    {jobs}",
        f"time    {hours}",
        f"disk    {found.disk / _GB:.2f} GB",
        f"memory  {memory}",
        "",
        "assumed:",
        *(f"  {line}" for line in [*found.assumed, *reasons]),
    ]
