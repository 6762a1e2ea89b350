"""Published numbers: what the papers and their repositories print, each with a protocol, a source and a rank.

The file `published_numbers.csv` holds one number a line. Where sources conflict, the one printed by the authors comes
before a secondary one, and an earlier line before a later; the others stay in `conflicts` and are shown.
"""

import csv
import dataclasses
import functools
from pathlib import Path

_FILE = Path(__file__).with_name("published_numbers.csv")

_RANK = {"authors": 0, "secondary": 1}

_PROTOCOLS = (
    ("pytorch-fid weights; val originals vs reconstructions", "50k", "npq-val-50k"),
    ("pytorch-fid weights; val originals vs reconstructions", "5k", "npq-val-5k"),
    ("pytorch-fid weights; 128 px", "", "lgq-val-10k"),
    ("ADM evaluator; VIRTUAL_imagenet256", "", "adm-256-50k"),
    ("ADM evaluator; 128 px", "", "adm-128-50k"),
    ("ADM suite", "", "adm-fsq"),
    ("24-image means", "", "kodak-24-means"),
)


# One generator that sources print under several names: the 12-layer model over the released Leech codebook has three
# gFIDs. Each row keeps its place (Table 9 compares heads), and names the others as conflicts.
_SAME_MODEL = {
    "infinity-cc-12layer leech-published (50 epochs)": "infinity-cc-12layer leech-published",
    "full cross-entropy 196560-way": "infinity-cc-12layer leech-published",
}


@dataclasses.dataclass(frozen=True)
class Published:
    """One published number. codebook_size is exact and may exceed 2^62."""

    work: str
    place: str
    task: str
    dataset: str
    resolution: str
    method: str
    bits: float | None
    codebook_size: int | None
    metric: str
    value: float
    protocol: str
    protocol_text: str
    source: str
    confidence: str
    line: int
    conflicts: tuple[float, ...] = ()

    @property
    def anchor(self) -> str:
        """The number's place on the report's page of numbers in print."""
        return f"printed-{self.line}"

    @property
    def url(self) -> str:
        """The work's address, or empty."""
        kind, _, identity = self.work.partition(":")
        return f"https://arxiv.org/abs/{identity}" if kind == "arXiv" else ""

    @property
    def note(self) -> str:
        """Where the number stands, and which other numbers are in print for the same thing."""
        others = f"; also printed: {', '.join(f'{value:g}' for value in self.conflicts)}" if self.conflicts else ""
        return f"{self.work}, {self.place} ({self.source}; {self.confidence}){others}"


@functools.cache
def numbers() -> tuple[Published, ...]:
    """Every published number in the order of the file, conflicts settled by precedence and kept beside the winner.

    Kodak's rows are operating points of a rate-distortion curve, not conflicts: they are all kept.
    """
    with _FILE.open(newline="", encoding="utf-8") as file:
        rows = [_parse(row, line) for line, row in enumerate(csv.DictReader(file), start=2)]
    groups: dict[tuple[object, ...], list[Published]] = {}
    for position, row in enumerate(rows):
        point = position if row.task == "compression" else None
        key = (row.task, row.dataset, row.resolution, row.method, row.codebook_size, row.metric, point)
        groups.setdefault(key, []).append(row)
    return tuple(_across_names([_settle(group) for group in groups.values()]))


def _across_names(settled: list[Published]) -> list[Published]:
    models: dict[tuple[str, str], list[Published]] = {}
    for number in settled:
        models.setdefault((_SAME_MODEL.get(number.method, number.method), number.metric), []).append(number)
    result = []
    for number in settled:
        model = _SAME_MODEL.get(number.method, number.method)
        named = [other for other in models[model, number.metric] if other.method != number.method]
        if model in _SAME_MODEL.values() and named:
            others = {other.value for other in named} - {number.value}
            number = dataclasses.replace(number, conflicts=(*number.conflicts, *sorted(others)))
        result.append(number)
    return result


def find(metric: str, **fields: object) -> list[Published]:
    """The published numbers of a metric whose fields have the given values."""
    return [
        number
        for number in numbers()
        if number.metric == metric and all(getattr(number, key) == value for key, value in fields.items())
    ]


def _settle(group: list[Published]) -> Published:
    first, *others = sorted(group, key=lambda number: _RANK[number.confidence])
    conflicts = tuple(number.value for number in others if number.value != first.value)
    return dataclasses.replace(first, conflicts=conflicts)


def _parse(row: dict[str, str], line: int) -> Published:
    return Published(
        work=row["work"],
        place=row["table"],
        task=row["task"],
        dataset=row["dataset"],
        resolution=row["resolution"],
        method=row["method"],
        bits=float(row["bits"]) if row["bits"] else None,
        codebook_size=int(row["codebook_size"]) if row["codebook_size"] else None,
        metric=row["metric"],
        value=float(row["value"]),
        protocol=_protocol(row),
        protocol_text=row["protocol"],
        source=row["source"],
        confidence=row["confidence"],
        line=line,
    )


def _protocol(row: dict[str, str]) -> str:
    for start, end, name in _PROTOCOLS:
        if row["protocol"].startswith(start) and row["protocol"].endswith(end):
            return name
    return f"unstated ({row['work']})"
