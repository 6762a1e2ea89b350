"""What changed between two results folders, cell by cell, and whether the change is real."""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Literal

from evaluation import records
from evaluation.report import comparisons, formats
from evaluation.report.results import Entry, Source, metric
from latticebench.errors import BadInput, Missing

Verdict = Literal["equal", "changed", "within noise", "other protocol", "only in A", "only in B", "no number"]
VERDICTS: tuple[Verdict, ...] = (
    "changed",
    "other protocol",
    "only in A",
    "only in B",
    "within noise",
    "no number",
    "equal",
)


@dataclasses.dataclass(frozen=True)
class Change:
    """One metric of one row in both runs, means over seeds. difference: B − A; low, high: its 95% interval, if paired.

    verdict "changed": the difference is real. how: how that was decided, or why there is nothing to decide.
    """

    row: str
    suite: str
    key: str
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    how: str


def compare(a: str | Path, b: str | Path, machine: bool = False) -> list[Change]:
    """Every metric of every row of two results folders.

    Rows are matched by their id, and those left over by their name, since a changed option changes the id.
    machine: also speeds, times and memory. Raises Missing where a folder holds no record.
    """
    ours, theirs = _rows(Path(a)), _rows(Path(b))
    changes = []
    for name, first, second in _matched(ours, theirs):
        for suite in dict.fromkeys(s for entry in (first, second) if entry for s in entry.sources):
            keys = [entry.keys(suite) if entry else [] for entry in (first, second)]
            for key in dict.fromkeys((*keys[0], *keys[1])):
                change = _change(name, suite, key, first, second, machine)
                if change is not None:
                    changes.append(change)
    return sorted(changes, key=lambda change: VERDICTS.index(change.verdict))


def _rows(root: Path) -> dict[str, Entry]:
    found: dict[str, list[Source]] = {}
    for path in sorted(root.glob("records/**/*.json")):
        if records.is_record(path):
            record = records.read(path)
            found.setdefault(record.subject, []).append(Source(path.relative_to(root).as_posix(), record))
    if not found:
        raise Missing(f"{root} holds no record below records/; name a results folder such as results/embedded")
    return {subject: _entry(subject, sources) for subject, sources in found.items()}


def _entry(subject: str, sources: list[Source]) -> Entry:
    first = sources[0].record
    suites: dict[str, list[Source]] = {}
    for source in sources:
        suites.setdefault(source.record.suite, []).append(source)
    seeds = tuple(sorted({s.record.seed for s in sources if s.record.seed is not None}))
    return Entry(
        first.name, subject, first.method, seeds, first.parameters, {name: tuple(part) for name, part in suites.items()}
    )


def _matched(ours: dict[str, Entry], theirs: dict[str, Entry]) -> list[tuple[str, Entry | None, Entry | None]]:
    """Rows of A and B by label: of equal id, then of equal name among the rest, then those of one side alone."""
    same = [key for key in ours if key in theirs]
    left = {key: entry for key, entry in ours.items() if key not in theirs}
    right = {key: entry for key, entry in theirs.items() if key not in ours}
    result: list[tuple[str, Entry | None, Entry | None]] = [(ours[key].name, ours[key], theirs[key]) for key in same]
    for entry in left.values():
        twins = [key for key, other in right.items() if other.name == entry.name]
        rivals = [other for other in left.values() if other.name == entry.name]
        partner = right.pop(twins[0]) if len(twins) == len(rivals) == 1 else None
        result.append((entry.name, entry, partner))
    return [*result, *((entry.name, None, entry) for entry in right.values())]


def _change(row: str, suite: str, key: str, first: Entry | None, second: Entry | None, machine: bool) -> Change | None:
    cells = [entry.cell(key, (suite,)) if entry else None for entry in (first, second)]
    if any(cell is not None and cell.machine for cell in cells) and not machine:
        return None
    a, b = (None if cell is None else cell.value for cell in cells)
    protocols = {cell.protocol for cell in cells if cell is not None}

    def made(verdict: Verdict, how: str, low: float | None = None, high: float | None = None) -> Change:
        gap = b - a if a is not None and b is not None and verdict != "other protocol" else None
        return Change(row, suite, key, a, b, gap, low, high, verdict, how)

    if a is None and b is None:
        return made("no number", "neither run has a number")
    if a is None or b is None:
        cell = cells[0] if a is None else cells[1]
        return made("only in B" if a is None else "only in A", (cell.reason if cell else None) or "no record")
    if len(protocols) > 1:
        return made("other protocol", " against ".join(cell.protocol for cell in cells if cell))
    if a == b:
        return made("equal", "the same number")
    assert first is not None and second is not None
    found = comparisons.difference(second, first, key, suite)
    if found is None:
        return made("no number", "neither run has a number")
    if found.how == "sampling intervals" and any(cell is None or cell.low is None for cell in cells):
        return made("changed", "no interval: an exact number, and another one")
    return made("changed" if found.real else "within noise", found.how, found.low, found.high)


def to_text(changes: list[Change], everything: bool = False) -> str:
    """The changes as a Markdown table under a line of counts; equal cells and those without a number only if asked."""
    counts = {verdict: sum(change.verdict == verdict for change in changes) for verdict in VERDICTS}
    lines = [", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing to compare"]
    shown = [c for c in changes if everything or c.verdict not in ("equal", "no number")]
    if shown:
        lines += ["", "| row | metric | A | B | B − A | 95% | verdict | how |", "|---|---|---:|---:|---:|---|---|---|"]
    for change in shown:
        column = metric(change.key)
        a, b, gap = (formats.number(x, column.decimals) for x in (change.a, change.b, change.difference))
        between = ""
        if change.low is not None:
            between = f"{formats.number(change.low, column.decimals)} to {formats.number(change.high, column.decimals)}"
        name = f"{change.row}, {change.suite}"
        lines.append(f"| {name} | {column.title} | {a} | {b} | {gap} | {between} | {change.verdict} | {change.how} |")
    return "\n".join(lines)


def to_csv(changes: list[Change]) -> str:
    """Every change with all its digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(Change))
    writer.writerows(dataclasses.astuple(change) for change in changes)
    return text.getvalue()


def check_folder(path: Path) -> Path:
    """The folder itself. Raises BadInput where there is none."""
    if not path.is_dir():
        raise BadInput(f"{path} is no folder; name a results folder such as results/embedded")
    return path
