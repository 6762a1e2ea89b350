"""What a configuration will take before anything runs: jobs, core- or GPU-hours, disk, memory, targets by table row.

Hours of training come from step rates (`evaluation.step_rates`), those of all other jobs from the finished ones of
the same kind. What has no rate has no hours, and the plan says why.
"""

import collections
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from evaluation import records
from evaluation.step_rates import Rate, is_generator, recipe, trains
from latticebench import generator_entries
from latticebench.configuration import Configuration, Subject, Suite
from latticebench.errors import LatticebenchError

_GB = 1e9
_TOKEN_BYTES = 4
"""A token takes no more up to K = 2^32."""
_RULES = {
    "reconstruction": "judge",
    "compression": "compression",
    "generation": "judge_generator",
    "geometry": "geometry",
    "classical": "codecs",
}
"""A record's suite -> the rule whose job took its time; a judge's other records state the same time."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A table row's share of the plan. hours: of all its seeds on `unit`s, None where there is no rate; of a generator
    with its samples where their rate is known. disk: bytes of a seed's weights.
    reason: why there is no rate, or nothing to train."""

    suite: str
    name: str
    id: str
    seeds: tuple[int, ...]
    hours: float | None
    unit: str
    disk: int | None
    memory: int | None
    reason: str
    targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """jobs: number by rule of the workflow. rows: in the order of the file, shared entries in each suite that has them.

    hours: by unit (GPU, core) of every training once; empty where no row has a rate. others: hours on `unit`s of the
    other jobs of whose kind there are records, None where there are none; uncounted: rules of the rest. disk: bytes,
    None where nothing of it is known. memory: peak bytes of the largest training that was measured, recorded: of a
    other job that was recorded, asked: what a job asks for.
    assumed: what the numbers rest on, and what they leave out.
    """

    jobs: dict[str, int]
    rows: tuple[Row, ...]
    hours: dict[str, float]
    others: float | None
    unit: str
    uncounted: tuple[str, ...]
    disk: int | None
    memory: int | None
    recorded: int | None
    asked: int
    assumed: tuple[str, ...]


def plan(
    config: Configuration, suites: list[Suite], rates: Mapping[str, Rate], reasons: Mapping[str, str], root: Path
) -> Plan:
    """The plan of some suites. rates, reasons: by `recipe`, a key with the quantizer before one without."""
    jobs = config.values["jobs"]
    subjects = list({subject.id: subject for suite in suites for subject in suite.subjects}.values())
    generators = list({one.id: one for suite in suites for one in suite.generators}.values())
    rows = tuple(
        row
        for suite in suites
        for row in (
            *(_row(config, suite, subject, rates, reasons) for subject in suite.subjects),
            *(_generator_row(config, suite, one, rates, reasons) for one in suite.generators),
        )
    )
    once = {row.id: row for row in rows}
    counts, notes = _counts(config, subjects, root)
    hours: dict[str, float] = collections.defaultdict(float)
    for row in once.values():
        if row.hours is not None and not row.reason:
            hours[row.unit] += row.hours
    without = sum(row.hours is None for row in once.values())
    used = {
        rate.note: rate
        for one in (*subjects, *generators)
        if (is_generator(one) or trains(one)) and (rate := _rate(one, rates)) is not None
    }
    assumed = [
        *(f"step rates: {rate.note} ({rate.device}): {rate.step:.3g} s" for rate in used.values()),
        *(f"samples: {rate.sample:.3g} s each ({rate.note})" for rate in used.values() if rate.sample is not None),
        *notes,
        "disk: prepared images, tokens, samples, final weights, and the running checkpoints of one training",
    ]
    if any(rate.unit == "GPU" and rate.units > 1 for rate in used.values()):
        assumed.append("several GPUs: no time is lost between them")
    if any(rate.unit == "core" for rate in used.values()) and jobs["gpus"]:
        assumed.append("measured on a CPU: core-hours, of a training that asks for GPUs; plan with rates of such a one")
    if without:
        assumed.append(f"{without} of {len(once)} rows have no rate and are not in the sums")
    numbers = job_counts(config, subjects, generators)
    measured = {one.id for one in generators if (rate := _rate(one, rates)) is not None and rate.sample is not None}
    others, uncounted, peak = _others(config, subjects, generators, measured, root)
    memories = [row.memory for row in once.values() if row.memory is not None]
    return Plan(
        jobs=numbers,
        rows=rows,
        hours=dict(hours),
        others=others,
        unit="GPU" if jobs["gpus"] else "core",
        uncounted=uncounted,
        disk=_disk(config, once, subjects, generators, counts),
        memory=max(memories, default=None),
        recorded=peak,
        asked=jobs["mem_mb"] * 10**6,
        assumed=tuple(assumed),
    )


def _rate(subject: Subject, rates: Mapping[str, Rate]) -> Rate | None:
    return rates.get(recipe(subject, whole=True)) or rates.get(recipe(subject))


def _row(
    config: Configuration, suite: Suite, subject: Subject, rates: Mapping[str, Rate], reasons: Mapping[str, str]
) -> Row:
    targets = tuple(
        f"results/{config.name}/records/{subject.id}/made-{seeds}.json" for seeds in config.seed_groups(subject)
    )
    row = Row(suite.name, subject.name, subject.id, subject.seeds, None, "core", None, None, "", targets)
    if "released" in subject.spec:
        return dataclasses.replace(row, hours=0.0, reason="released weights, nothing to train")
    if not trains(subject):
        return dataclasses.replace(row, hours=0.0, reason=f"the moving average of {subject.trained.name}'s weights")
    training = subject.spec["tokenizer"]["training"]
    return _timed(row, subject, training["steps"], 2 if training["ema"] else 1, 0, rates, reasons)


def _generator_row(
    config: Configuration, suite: Suite, one: Subject, rates: Mapping[str, Rate], reasons: Mapping[str, str]
) -> Row:
    targets = tuple(f"results/{config.name}/records/{one.id}/made-generation-{seed}.json" for seed in one.seeds)
    row = Row(suite.name, one.name, one.id, one.seeds, None, "core", None, None, "", targets)
    training = one.spec["generation"]["training"]
    return _timed(row, one, training["steps"], 1 + len(training["snapshots"]), _samples(one), rates, reasons)


def _timed(
    row: Row,
    subject: Subject,
    steps: int,
    copies: int,
    samples: int,
    rates: Mapping[str, Rate],
    reasons: Mapping[str, str],
) -> Row:
    """The row with what its rate says. copies: of the weights that are kept. samples: images drawn a seed."""
    rate = _rate(subject, rates)
    if rate is None:
        why = reasons.get(recipe(subject, whole=True)) or reasons.get(recipe(subject)) or "no rate: add --measure"
        return dataclasses.replace(row, reason=why)
    # Samples are drawn on one GPU, however many the training had.
    drawing = (rate.sample or 0.0) * samples * (1 if rate.unit == "GPU" else rate.units)
    seconds = (rate.start + rate.step * steps) * rate.units + drawing
    return dataclasses.replace(
        row,
        hours=seconds * len(subject.seeds) / 3600,
        unit=rate.unit,
        disk=None if rate.state is None else rate.state * copies,
        memory=rate.memory,
    )


def _samples(generator: Subject) -> int:
    """Images that a seed of a generator draws, those of its sweep and snapshots included."""
    from latticebench.generators.sample import settings

    own, others = settings(generator.spec["generation"])
    return own.images + sum(setting.images for setting in others)


def job_counts(config: Configuration, subjects: list[Subject], generators: list[Subject]) -> dict[str, int]:
    """Number of jobs by rule; what some of them share counts once."""
    groups = sum(len(config.seed_groups(subject)) for subject in subjects)
    trained = {(generator_entries.training_of(one).id, seed) for one in generators for seed in one.seeds}
    tokens = {
        (generator_entries.tokens_of(one).id, generator_entries.tokenizer_seed(one, seed))
        for one in generators
        for seed in one.seeds
    }
    drawn = sum(len(one.seeds) for one in generators)
    return {
        "data": len({subject.data_hash for subject in subjects}),
        "tokenizer": groups,
        "judge": groups,
        "compression": groups,
        "tokens": len(tokens),
        "generator": len(trained),
        "samples": drawn,
        "judge_generator": drawn,
        "oracle": len({generator_entries.tokenizer_of(one).data_hash for one in generators}),
        "geometry": 1,
        "codecs": int(any(subject.data_hash == config.data_hash for subject in subjects)),
        "report": 1,
    }


def _others(
    config: Configuration, subjects: list[Subject], generators: list[Subject], measured: set[str], root: Path
) -> tuple[float | None, tuple[str, ...], int | None]:
    """Hours of all jobs but trainings, the rules without a record, and the peak bytes of a job that was recorded.

    Each job is taken to last as long as the mean of the recorded ones of its kind. measured: ids of generators whose
    samples are in their rows.
    """
    seconds: dict[str, list[float]] = collections.defaultdict(list)
    peaks = []
    for path in sorted(root.glob("records/**/*.json")):
        if not records.is_record(path):
            continue
        record = records.read(path)
        peaks.append(record.machine.peak_memory_bytes)
        if (rule := _RULES.get(record.suite)) is not None:
            seconds["oracle" if rule == "judge_generator" and "oracle" in path.parts[-2] else rule].append(
                record.machine.wall_seconds
            )
    seeds, drawn = sum(len(one.seeds) for one in subjects), sum(len(one.seeds) for one in generators)
    data = {generator_entries.tokenizer_of(one).data_hash for one in generators}
    each = {"judge": seeds, "compression": seeds, "judge_generator": drawn, "oracle": len(data)}
    known = sum(number * sum(seconds[rule]) / len(seconds[rule]) for rule, number in each.items() if rule in seconds)
    known += sum(sum(seconds[rule]) for rule in ("geometry", "codecs"))
    left = {**each, "samples": sum(len(one.seeds) for one in generators if one.id not in measured), "tokens": drawn}
    unknown = tuple(rule for rule, number in {**left, "geometry": 1}.items() if number and not seconds.get(rule))
    units = 1 if config.values["jobs"]["gpus"] else config.values["jobs"]["threads"]
    return (known * units / 3600 if known else None), unknown, max(peaks, default=None)


def _disk(
    config: Configuration,
    rows: Mapping[str, Row],
    subjects: list[Subject],
    generators: list[Subject],
    counts: Mapping[str, Mapping[str, int]],
) -> int | None:
    """Bytes of images, tokens, samples and weights, as far as they are known; None where none are."""
    found = [_images(config, data_hash, each) for data_hash, each in counts.items()]
    found += [(row.disk or 0) * len(row.seeds) for row in rows.values() if row.disk is not None]
    # Weights and the gradients' two moments in float32, the newest two checkpoints.
    found.append(max((row.disk or 0 for row in rows.values()), default=0) * 4 * 2)
    for one in generators:
        tokenizer = generator_entries.tokenizer_of(one)
        found.append(_samples(one) * len(one.seeds) * 3 * tokenizer.spec["data"]["size"] ** 2)
    for one in {generator_entries.tokens_of(one).id: one for one in generators}.values():
        tokenizer, options = generator_entries.tokenizer_of(one), one.spec["generation"]["tokens"]
        images = counts.get(tokenizer.data_hash, {"train": 0, "eval": 0})
        rows_of_tokens = images["train"] * options["views"] * (2 if options["flips"] else 1) + images["eval"]
        found.append(rows_of_tokens * _positions(tokenizer) * _TOKEN_BYTES * len(one.seeds))
    return sum(found) if any(found) else None


def _positions(tokenizer: Subject) -> int:
    """Tokens of an image; 0 where the weights are released, which alone say it."""
    options, side = tokenizer.spec["tokenizer"], tokenizer.spec["data"]["size"]
    if "released" in tokenizer.spec:
        return 0
    if options["architecture"] == "multi-scale":
        return sum(each * each for each in options["scales"]["sides"])
    strided = options["architecture"] == "convolutional"
    return (side // (2 ** (len(options["network"]["multipliers"]) - 1) if strided else options["patch"])) ** 2


def _images(config: Configuration, data_hash: str, counts: Mapping[str, int]) -> int:
    """Bytes of a prepared folder."""
    options = config.with_data(data_hash).values["data"]
    sides = {"train": options["size"] + options["train_margin"], "eval": options["size"]}
    if options.get("storage") == "manifest":
        sides["train"] = 0
    return sum(3 * counts[split] * side**2 for split, side in sides.items())


def _counts(config: Configuration, subjects: list[Subject], root: Path) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Images by data set and split, and what the counts rest on."""
    counts, notes = {}, []
    for data_hash in dict.fromkeys(subject.data_hash for subject in subjects):
        try:
            found = _counted(config.with_data(data_hash), root / "data" / data_hash)
        except LatticebenchError as error:
            notes.append(f"the images of data {data_hash} could not be counted, their disk is left out: {error}")
            continue
        counts[data_hash] = found
        notes.append(f"data {data_hash}: {found['train']:,} training and {found['eval']:,} evaluation images")
    return counts, notes


def _counted(config: Configuration, folder: Path) -> dict[str, int]:
    """Images by split: of the prepared folder, else as many as the source lists."""
    from latticebench.data.prepare import SPLITS, make_source

    manifest = folder / "manifest.json"
    if manifest.is_file():
        splits = json.loads(manifest.read_text())["splits"]
        return {split: splits[split]["images"] for split in SPLITS}
    source, options = make_source(config), config.values["data"]
    listed = {split: len(source.items(split)) for split in SPLITS}
    return {split: min(count, options[f"{split}_images"] or count) for split, count in listed.items()}


def lines(found: Plan) -> list[str]:
    """The plan as aligned text: a line a target, then the sums, then what was assumed."""
    units = sorted({row.unit for row in found.rows if row.hours}) or [found.unit]
    table = [["suite", "row", "seeds", f"{' or '.join(units)}-hours", "target"]]
    for row in found.rows:
        hours = "-" if row.hours is None else f"{row.hours:.2f}"
        for number, target in enumerate(row.targets):
            cells = [row.suite, row.name, str(len(row.seeds)), hours] if number == 0 else ["", "", "", ""]
            table.append([*cells, target])
    widths = [max(len(line[i]) for line in table) for i in range(4)]
    text = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[4]]) for line in table
    ]
    jobs = ", ".join(f"{count} {rule.replace('_', ' ')}" for rule, count in found.jobs.items() if count)
    reasons = dict.fromkeys(row.reason for row in found.rows if row.reason)
    return [
        *text,
        "",
        f"jobs    {jobs}",
        f"time    {_time(found)}",
        f"disk    {'unknown' if found.disk is None else f'{found.disk / _GB:.2f} GB'}",
        f"memory  {_memory(found)}",
        "",
        "assumed:",
        *(f"  {line}" for line in [*found.assumed, *reasons]),
    ]


def _time(found: Plan) -> str:
    training = " and ".join(f"{hours:.2f} {unit}-hours" for unit, hours in sorted(found.hours.items()))
    parts = [f"training {training or 'unknown'}"]
    if found.others is not None:
        parts.append(f"other jobs {found.others:.2f} {found.unit}-hours, as long as the recorded ones")
    if found.uncounted:
        parts.append(f"not known: {', '.join(rule.replace('_', ' ') for rule in found.uncounted)}")
    return "; ".join(parts)


def _memory(found: Plan) -> str:
    known = {
        "the largest training that was measured": found.memory,
        "the largest other job that was recorded": found.recorded,
    }
    parts = [f"{size / _GB:.2f} GB in {what}" for what, size in known.items() if size is not None]
    return "; ".join([*parts, f"each job asks for {found.asked / _GB:.2f} GB (jobs.mem_mb)"])
