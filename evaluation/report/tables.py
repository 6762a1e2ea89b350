"""Tables from records: built once, written by `formats` and shown by the site."""

import collections
import dataclasses
import math
from typing import Any

from evaluation.metrics import METRICS, Metric
from evaluation.report import comparisons, published
from evaluation.report.published import Published
from evaluation.report.results import SUITES, Cell, Entry, Results, Source, metric, one_protocol

MAIN = (
    "psnr",
    "ssim",
    "ms_ssim",
    "lpips_alex",
    "rfid",
    "fd_insuite",
    "codes_used",
    "relative_usage",
    "perplexity",
    "nominal_bpp",
    "entropy_bpp",
)
QUALITY = ("psnr", "psnr_gain", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg", "rfid", "fd_insuite", "fd_dinov2")
"""The columns in which a best row may be marked: more codes or fewer bits are not better in themselves."""


@dataclasses.dataclass(frozen=True)
class Field:
    """A leading column that isn't measured."""

    key: str
    title: str
    definition: str
    numeric: bool = False


@dataclasses.dataclass(frozen=True)
class Printed:
    """A published number beside ours. difference: ours − published. why: why the two are not comparable, or empty."""

    number: Published
    difference: float | None
    why: str


@dataclasses.dataclass(frozen=True)
class Row:
    """A row: `key` is unique in its table and names the row in the CSV and the sources file.

    printed: published numbers by metric. origins: the records that a field was read from, by the field's key.
    """

    key: str
    entry: Entry | None
    group: str
    fields: dict[str, Any]
    cells: dict[str, Cell]
    printed: dict[str, Printed] = dataclasses.field(default_factory=dict)
    origins: dict[str, tuple[Source, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table. `key_field` titles the first column; `best` holds the (row, metric) pairs to mark."""

    name: str
    title: str
    caption: str
    fields: tuple[Field, ...]
    metrics: tuple[Metric, ...]
    rows: tuple[Row, ...]
    key_field: str = "quantizer"
    best: frozenset[tuple[str, str]] = frozenset()

    @property
    def shown(self) -> tuple[Metric, ...]:
        """The columns with at least one number, ours or published."""
        beside = self.beside
        return tuple(m for m in self.metrics if m.key in beside or any(c.value is not None for c in self.column(m.key)))

    @property
    def beside(self) -> frozenset[str]:
        """The metrics with a published number in some row."""
        return frozenset(key for row in self.rows for key in row.printed)

    @property
    def daggers(self) -> tuple[str, ...]:
        """Every reason why some published number is not comparable with ours, once."""
        return tuple(dict.fromkeys(p.why for row in self.rows for p in row.printed.values() if p.why))

    @property
    def unmeasured(self) -> tuple[tuple[Metric, str], ...]:
        """The columns without any number, each with the reason that its records give."""
        return tuple(
            (m, next((c.reason for c in self.column(m.key) if c.reason), "no record yet"))
            for m in self.metrics
            if all(c.value is None for c in self.column(m.key))
        )

    @property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """Rows by group, in order."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.group, []).append(row)
        return list(found.items())

    def column(self, key: str) -> list[Cell]:
        """The cells of a metric, from top to bottom."""
        return [row.cells[key] for row in self.rows if key in row.cells]


CODES = (
    Field("K", "K", "Number of codes.", True),
    Field("bits", "Bits", "log2 K: bits that a token carries at most.", True),
)


def codebook_size(entry: Entry) -> int | None:
    """K, from the records or else from the entry's parameters; None where neither says it, or nothing is quantized."""
    if entry.ceiling:
        return None
    number = entry.number("codebook_size", (*SUITES, "geometry"))
    if number is None:
        parameters = entry.spec["quantizer"].get("parameters", {})
        if "levels" in parameters:
            return math.prod(parameters["levels"])
        number = parameters.get("codebook_size")
    return None if number is None else round(number)


def equal_size(entries: tuple[Entry, ...]) -> int | None:
    """The codebook size that most quantizers share."""
    sizes = collections.Counter(size for entry in entries if (size := codebook_size(entry)) is not None)
    return max(sizes, key=lambda size: (sizes[size], -size)) if sizes else None


def main(results: Results) -> Table:
    """The table of the first page: quality, use of the codebook, rate."""
    return _quantizers(
        results,
        "main",
        "All quantizers",
        "Reconstruction of the evaluation split, use of the codebook over all of its tokens, and rate."
        + _absent(results),
        [key for key in MAIN if key in METRICS],
    )


def _absent(results: Results) -> str:
    """Where a table holds released weights, the baselines that it cannot hold, and why."""
    if not any("released" in subject.spec for subject in results.configuration.subjects()):
        return ""
    from latticebench.weights import registry  # imports torch, and most runs hold no released weights

    facts = [f"{fact['title']} ({fact['reason']})" for fact in registry.load().unreleased.values()]
    return f" No row, for want of released weights: {'; '.join(facts)}."


def suite(results: Results, name: str, title: str, caption: str) -> Table:
    """Everything that a suite measured."""
    found = {key for entry in results.entries for key in entry.keys(name)}
    order = list(METRICS)
    found.discard("codebook_size")
    keys = sorted(found, key=lambda key: (order.index(key) if key in METRICS else len(order), key))
    return _quantizers(results, name, title, caption, keys, (name,))


def _quantizers(
    results: Results, name: str, title: str, caption: str, keys: list[str], suites: tuple[str, ...] = SUITES
) -> Table:
    size = equal_size(results.entries)
    rows = [
        Row(
            key=entry.name,
            entry=entry,
            group=_group(entry, size),
            fields={"K": codebook_size(entry), "bits": bits(entry)},
            cells={key: cell for key in keys if (cell := entry.cell(key, suites)) is not None},
            origins=size_origins(entry),
        )
        for entry in results.entries
    ]
    rows.sort(key=lambda row: (row.group != _CEILING, row.group == _OTHER))
    columns = tuple(metric(key) for key in keys)
    equal = [row.entry for row in rows if row.entry is not None and row.group not in (_CEILING, _OTHER)]
    best = {
        (winner, column.key)
        for column in columns
        if column.key in QUALITY and column.better and (winner := comparisons.best(equal, column.key, column.better))
    }
    return checked(Table(name, title, caption, CODES, columns, tuple(rows), best=frozenset(best)))


def size_origins(entry: Entry) -> dict[str, tuple[Source, ...]]:
    """The records that say K."""
    cell = entry.cell("codebook_size", (*SUITES, "geometry"))
    return {} if cell is None or cell.value is None else {"K": cell.sources, "bits": cell.sources}


_CEILING = "Ceiling: nothing is quantized"
_OTHER = "Other codebook sizes: not at equal rate"


def _group(entry: Entry, size: int | None) -> str:
    if entry.ceiling:
        return _CEILING
    return f"Equal codebook size: K = {size:,}" if codebook_size(entry) == size else _OTHER


def bits(entry: Entry) -> float | None:
    """log2 K."""
    size = codebook_size(entry)
    return math.log2(size) if size else None


def checked(table: Table) -> Table:
    """The table itself. Raises BadInput where two protocols meet in one column."""
    for column in table.metrics:
        found = [(c.protocol, c.sources[0].path) for row in table.rows if (c := row.cells.get(column.key)) is not None]
        if found:
            one_protocol(column.key, found)
    return table


def geometry(results: Results) -> Table:
    """The codebooks as sets of points, with the paper's Table 4 beside."""
    keys = dict.fromkeys(key for entry in results.geometry for name in entry.sources for key in entry.keys(name))
    for shown_elsewhere in ("codebook_size", "bits", "dim"):
        keys.pop(shown_elsewhere, None)
    rows = []
    for entry in results.geometry:
        suites = tuple(entry.sources)
        size = codebook_size(entry)
        ours = entry.number("delta_min", suites)
        theirs = next(iter(published.find("delta_min", method=entry.method, codebook_size=size)), None)
        beside = Printed(theirs, None if ours is None else ours - theirs.value, "") if theirs else None
        rows.append(
            Row(
                key=entry.name,
                entry=entry,
                group=_dimension(entry),
                fields={"K": size, "bits": bits(entry)},
                cells={key: cell for key in keys if (cell := entry.cell(key, suites)) is not None},
                printed={"delta_min": beside} if beside else {},
                origins=size_origins(entry),
            )
        )
    rows.sort(key=lambda row: (row.entry.dim or 0, row.entry.method, row.fields["K"] or 0))
    caption = (
        "Codebooks as sets of points on the unit sphere, beside Table 4 of arXiv:2512.14697 (printed to three "
        "decimals). The released Λ24 file joins two different Golay codes, so its smallest distance is "
        "√(24/32) = 0.866, the paper's number; the true Leech shell has 1.0."
    )
    columns = tuple(metric(key) for key in keys)
    return checked(Table("geometry", "Geometry", caption, CODES, columns, tuple(rows), "codebook"))


def _dimension(entry: Entry) -> str:
    return f"d = {entry.dim}" if entry.dim else ""
