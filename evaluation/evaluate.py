"""Judges images that any tokenizer or generator made: images in, one record and a table out."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation import adm, images, reconstruction, records
from evaluation.metrics import METRICS
from evaluation.records import Dataset, Record, Stopwatch, Value
from latticebench.errors import BadInput
from latticebench.files import hash8, whole, write_json

CODE = (
    "evaluation/reconstruction.py",
    "evaluation/pixels.py",
    "evaluation/perceptual.py",
    "evaluation/features.py",
    "evaluation/frechet.py",
    "evaluation/sets.py",
    "evaluation/statistics.py",
    "evaluation/images.py",
    "evaluation/adm.py",
)
_COLUMNS = ("metric", "value", "low", "high", "unit", "n", "interval", "protocol", "reason")


def evaluate(
    originals: Path,
    reconstructions: Path,
    settings: reconstruction.Settings,
    out: Path | None = None,
    name: str | None = None,
    groups: Sequence[int] | None = None,
    floats: Path | None = None,
    reference: Path | None = None,
) -> tuple[Record, Path]:
    """Judges reconstructions against originals (folders of PNGs, .npy or .npz) and writes record and tables.

    out: default results/evaluate-<hash8 of both contents>. floats: an array of the reconstructions before rounding.
    reference: an ADM reference batch, for rfid_adm. Returns the record and the folder. Raises BadInput naming the
    file that cannot be judged.
    """
    watch = Stopwatch()
    a, b = images.load(originals), images.load(reconstructions)
    images.check_pairs(a, b)
    if groups is not None and len(groups) != len(a):
        raise BadInput(f"{len(groups)} scene ids for {len(a)} images")
    unrounded = None
    if floats is not None:
        unrounded = images.load_floats(floats)
        images.check_pairs(a, unrounded)
    content = {"originals": a.sha256, "reconstructions": b.sha256}
    judged = reconstruction.measure(a, b, groups, settings, content["originals"], with_sets=True, floats=unrounded)
    if unrounded is not None:
        content["floats"] = unrounded.sha256
    if reference is not None:
        batch = adm.load(reference)
        content["reference"] = batch.sha256
        adm.reconstruction_distance(judged, b, batch, groups, settings)
    dataset = Dataset(name=originals.stem, split="all", sha256=content["originals"], samples=len(a))
    scenes = list(range(len(a))) if groups is None else list(groups)
    return _write(watch, "reconstruction", name or reconstructions.stem, judged, content, dataset, scenes, out)


def generated(
    samples: Path, reference: Path | None, settings: reconstruction.Settings, out: Path | None, name: str | None = None
) -> tuple[Record, Path]:
    """Judges generated images, in their stored order, against an ADM reference batch; writes record and tables.

    reference: default ADM's ImageNet batch in checkpoints/. Raises Missing without it or the Inception weights.
    """
    watch = Stopwatch()
    own, batch = images.load(samples), adm.load(reference or adm.default_reference(settings))
    judged = adm.measure(own, batch, settings)
    content = {"samples": own.sha256, "reference": batch.sha256}
    dataset = Dataset(name=batch.path.stem, split="reference", sha256=batch.sha256, samples=len(own))
    return _write(watch, "generation", name or samples.stem, judged, content, dataset, [], out)


def _write(
    watch: Stopwatch,
    suite: str,
    name: str,
    judged: reconstruction.Judgement,
    content: dict[str, str],
    dataset: Dataset,
    groups: list[int],
    out: Path | None,
) -> tuple[Record, Path]:
    """Writes the record of a suite and its tables."""
    identity = f"evaluate-{hash8(content)}"
    folder = out or Path("results") / identity
    record = Record(
        subject=identity,
        name=name,
        method="images",
        seed=None,
        suite=suite,
        parameters=content,
        dataset=dataset,
        values=judged.values,
        samples=judged.samples,
        groups=groups,
        weights=judged.weights,
        code=records.code_hashes(CODE),
        notes=judged.notes,
        machine=watch.machine(),
    )
    records.write(record, folder / "records" / f"{suite}.json")
    for suffix, text in ((".csv", as_csv(record)), (".md", as_markdown(record))):
        with whole(folder / "tables" / f"{suite}{suffix}") as temporary:
            temporary.write_text(text)
    write_json(folder / "tables" / f"{suite}.sources.json", {"rows": sources(record)})
    return record, folder


def read_groups(path: Path, names: Sequence[str]) -> list[int]:
    """Scene ids from a CSV file `name,scene` that names every image once. Raises BadInput."""
    try:
        rows = [row for row in csv.reader(path.read_text().splitlines()) if row]
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    if any(len(row) != 2 for row in rows):
        raise BadInput(f"{path}: every line must be `name,scene`")
    scenes = dict(rows)
    absent = [name for name in names if name not in scenes]
    if absent:
        raise BadInput(f"{path} names no scene for {absent[0]} ({len(absent)} such images)")
    return np.unique([scenes[name] for name in names], return_inverse=True)[1].ravel().tolist()


def ordered(values: dict[str, Value]) -> list[tuple[str, Value]]:
    """Values in the order of METRICS."""
    return [(key, values[key]) for key in METRICS if key in values]


def sources(record: Record) -> dict[str, dict[str, dict[str, object]]]:
    """Metric -> "value" -> what `latticebench explain` needs to know about the cell."""
    return {
        key: {
            "value": {"records": [f"records/{record.suite}.json"], "protocol": value.protocol, "reason": value.reason}
        }
        for key, value in record.values.items()
    }


def as_csv(record: Record) -> str:
    """One line a metric, numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for key, value in ordered(record.values):
        around = value.interval
        low, high, how = (repr(around.low), repr(around.high), around.method) if around else ("", "", "")
        number = "" if value.value is None else repr(value.value)
        writer.writerow((key, number, low, high, value.unit, value.n, how, value.protocol, value.reason or ""))
    return text.getvalue()


def as_markdown(record: Record) -> str:
    """A table to read: value with its interval, or the reason why there is none."""
    lines = ["| metric | value | 95% interval | n | protocol |", "|---|---|---|---|---|"]
    for key, value in ordered(record.values):
        metric = METRICS[key]
        if value.value is None:
            lines.append(f"| {metric.title} | – | {value.reason} | | {value.protocol} |")
            continue
        unit = f" {metric.unit}" if metric.unit else ""
        around = value.interval
        shown = f"{around.low:.{metric.decimals}f} … {around.high:.{metric.decimals}f}" if around else "none"
        lines.append(
            f"| {metric.title} | {value.value:.{metric.decimals}f}{unit} | {shown} | {value.n} | {value.protocol} |"
        )
    return "\n".join([*lines, *(f"\n{note}" for note in record.notes)]) + "\n"
