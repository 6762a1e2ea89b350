"""Where a table's number came from: protocol, records, data, weights, code, files and commands."""

import csv
import difflib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evaluation import records
from evaluation.metrics import METRICS
from evaluation.protocols import by_id
from evaluation.records import Record, Value
from latticebench.errors import BadInput


def explain(table: Path, row: str, column: str) -> str:
    """The text that `latticebench explain` prints. Raises BadInput naming what the table has instead.

    The table's `.sources.json`, written beside it, says which records a cell was made from.
    """
    cell = _cell(table, row, column)
    root = Path(os.path.relpath(table.resolve().parents[1]))
    metric = METRICS.get(column) or METRICS.get(row)
    lines = [f"{table}: row {row}, column {column}"]
    if metric is not None:
        direction = f", {metric.better} is better" if metric.better else ""
        lines += [f"{metric.title}{f' in {metric.unit}' if metric.unit else ''}{direction}: {metric.definition}"]
    lines += _numbers(table, row, column)
    if cell.get("reason"):
        lines.append(f"empty because: {cell['reason']}")
    if cell.get("protocol"):
        lines += _protocol(cell["protocol"])
    for name in cell["records"]:
        lines += ["", *_record(root, name, metric.key if metric else column)]
    return "\n".join(lines)


def _cell(table: Path, row: str, column: str) -> dict[str, Any]:
    sources = table.with_suffix(".sources.json")
    if not table.is_file():
        raise BadInput(f"{table} does not exist; tables lie in results/<configuration>/tables")
    try:
        rows = json.loads(sources.read_text())["rows"]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{sources} cannot be read, so nothing says where {table.name} came from; rebuild it") from error
    return _choose(_choose(rows, row, f"{table}: no row"), column, f"{table}: row {row} has no column")


def _choose(mapping: dict[str, Any], key: str, message: str) -> Any:
    if key in mapping:
        return mapping[key]
    close = difflib.get_close_matches(key, mapping, 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise BadInput(f"{message} {key!r}{hint} There are: {', '.join(mapping)}")


def _numbers(table: Path, row: str, column: str) -> list[str]:
    """What the CSV itself says in the cell and the cells that belong to it."""
    with open(table, newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        found = next((line for line in reader if line and line[0] == row), None)
    if found is None:
        return []
    values = dict(zip(header, found, strict=False))
    parts = {"": "value", "_low": "low", "_high": "high", "_sd": "sd over seeds", "_n": "seeds"}
    if not values.get(column):
        return []
    shown = [f"{word} {values[column + end]}" for end, word in parts.items() if values.get(column + end)]
    return ["in the table: " + ", ".join(shown)] if shown else []


def _protocol(identity: str) -> list[str]:
    protocol = by_id(identity)
    return [
        f"protocol {identity}",
        *(f"  {key}: {value}" for key, value in protocol.choices.items()),
        f"  comparable with: {protocol.comparable}",
    ]


def _record(root: Path, name: str, key: str) -> list[str]:
    record = records.read(root / name)
    seed = "" if record.seed is None else f", seed {record.seed}"
    lines = [f"record {root / name}", f"  {record.subject} ({record.method}{seed}), suite {record.suite}"]
    if key in record.values:
        lines.append("  " + _value(key, record.values[key]))
    if record.dataset is not None:
        d = record.dataset
        lines.append(f"  data: {d.name}, split {d.split}, {d.samples} images, sha256 {d.sha256}")
    lines += [f"  weights {what}: sha256 {digest}" for what, digest in sorted(record.weights.items())]
    lines += [f"  code {path}: sha256 {digest}" for path, digest in sorted(record.code.items())]
    lines += [
        f"  file {what}: {os.path.normpath((root / name).parent / file.path)}, sha256 {file.sha256}"
        for what, file in record.files.items()
    ]
    lines += [f"  note: {note}" for note in record.notes]
    machine = record.machine
    packages = ", ".join(f"{package} {version}" for package, version in machine.packages.items())
    lines += [
        f"  parameters: {json.dumps(record.parameters, sort_keys=True)}",
        f"  measured {machine.created} in {machine.wall_seconds} s on {machine.hardware}, {machine.threads} threads",
        f"  python {machine.python}, {packages}",
    ]
    return lines + _made_by(root, record)


def _value(key: str, value: Value) -> str:
    if value.value is None:
        return f"{key}: empty, {value.reason}"
    around = value.interval
    interval = f", {around.level:.0%} interval {around.low!r} … {around.high!r} ({around.method})" if around else ""
    return f"{key} = {value.value!r} {value.unit}".rstrip() + f"{interval}" + (f", n = {value.n}" if value.n else "")


def _made_by(root: Path, record: Record) -> list[str]:
    """The commands of the record's stages, with the folders that they read and wrote."""
    if record.method == "images":
        given = " ".join(f"--{what} {what.upper()}" for what in record.parameters)
        return [f"  made by: latticebench evaluate {given} (contents by the hashes under parameters)"]
    if record.seed is None:
        return [
            f"  made by: python -m evaluation.geometry --config config/{root.name}.yaml --out {root}/records/geometry"
        ]
    config = f"--config config/{root.name}.yaml"
    seeds = _job(root / "tokenizers" / record.subject, record.seed)
    data = ", ".join(str(path.parent) for path in sorted(root.glob("data/*/manifest.json"))) or f"{root}/data/<hash>"
    subject = f"--subject {record.subject} --seeds {seeds}"
    return [
        f"  made by (all of it: make run CONFIG=config/{root.name}.yaml):",
        f"    python -m latticebench.data.prepare {config} --out {data}",
        f"    python -m latticebench.tokenizers.train {config} {subject} --data {data} --out {root}",
        f"      -> {root / 'tokenizers' / record.subject / f'seed{record.seed}'}",
        f"    python -m evaluation.judge {config} {subject} --data {data} --root {root}",
    ]


def _job(folder: Path, seed: int) -> str:
    """The seeds of the job that trained this one, as its manifest is named."""
    for seeds in _jobs(folder):
        first, _, last = seeds.partition("-")
        if int(first) <= seed <= int(last or first):
            return seeds
    return str(seed)


def _jobs(folder: Path) -> Iterable[str]:
    return (path.stem.removeprefix("made-") for path in sorted(folder.glob("made-*.json")))
