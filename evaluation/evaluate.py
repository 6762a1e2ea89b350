"""Judges pairs of images that any tokenizer made: images in, one record and a table out."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation import images, reconstruction, records
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
)
_COLUMNS = ("metric", "value", "low", "high", "unit", "n", "interval", "protocol", "reason")


def evaluate(
    originals: Path,
    reconstructions: Path,
    settings: reconstruction.Settings,
    out: Path | None = None,
    name: str | None = None,
    groups: Sequence[int] | None = None,
) -> tuple[Record, Path]:
    """Judges reconstructions against originals (folders of PNGs, .npy or .npz) and writes record and tables.

    out: default results/evaluate-<hash8 of both contents>. Returns the record and the folder. Raises BadInput
    naming the file that cannot be judged.
    """
    watch = Stopwatch()
    a, b = images.load(originals), images.load(reconstructions)
    images.check_pairs(a, b)
    if groups is not None and len(groups) != len(a):
        raise BadInput(f"{len(groups)} scene ids for {len(a)} images")
    content = {"originals": a.sha256, "reconstructions": b.sha256}
    folder = out or Path("results") / f"evaluate-{hash8(content)}"
    judged = reconstruction.measure(a, b, groups, settings, content["originals"], with_sets=True)
    record = Record(
        subject=f"evaluate-{hash8(content)}",
        name=name or reconstructions.stem,
        method="images",
        seed=None,
        suite="reconstruction",
        parameters=content,
        dataset=Dataset(name=originals.stem, split="all", sha256=content["originals"], samples=len(a)),
        values=judged.values,
        samples=judged.samples,
        groups=list(range(len(a))) if groups is None else list(groups),
        weights=judged.weights,
        code=records.code_hashes(CODE),
        notes=judged.notes,
        machine=watch.machine(),
    )
    records.write(record, folder / "records" / "reconstruction.json")
    for suffix, text in ((".csv", as_csv(record)), (".md", as_markdown(record))):
        with whole(folder / "tables" / f"reconstruction{suffix}") as temporary:
            temporary.write_text(text)
    write_json(folder / "tables" / "reconstruction.sources.json", {"rows": sources(record)})
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
        key: {"value": {"records": ["records/reconstruction.json"], "protocol": value.protocol, "reason": value.reason}}
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
