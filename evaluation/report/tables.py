"""Tables from records: built once, written as CSV, Markdown and LaTeX, and shown by the page.

`<table>.sources.json` beside each CSV says which records each cell came from:
{"rows": {row: {column: {"records": [paths], "protocol": id, "reason": why it is empty, or null}}}}.
"""

import collections
import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

from evaluation.metrics import METRICS, Metric
from evaluation.report import comparisons, published
from evaluation.report.results import SUITES, Cell, Entry, Results, metric, one_protocol
from latticebench.files import whole, write_json
from latticebench.weights import registry

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
EMPTY = "—"


@dataclasses.dataclass(frozen=True)
class Field:
    """A leading column that isn't measured."""

    key: str
    title: str
    definition: str
    numeric: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """A row: `key` is unique in its table and names the row in the CSV and the sources file."""

    key: str
    entry: Entry | None
    group: str
    fields: dict[str, Any]
    cells: dict[str, Cell]


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
        """The columns with at least one number."""
        return tuple(m for m in self.metrics if any(c.value is not None for c in self._column(m.key)))

    @property
    def unmeasured(self) -> tuple[tuple[Metric, str], ...]:
        """The columns without any number, each with the reason that its records give."""
        return tuple(
            (m, next((c.reason for c in self._column(m.key) if c.reason), "no record yet"))
            for m in self.metrics
            if m not in self.shown
        )

    @property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """Rows by group, in order."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.group, []).append(row)
        return list(found.items())

    def _column(self, key: str) -> list[Cell]:
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
            fields={"K": codebook_size(entry), "bits": _bits(entry)},
            cells={key: cell for key in keys if (cell := entry.cell(key, suites)) is not None},
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
    return _checked(Table(name, title, caption, CODES, columns, tuple(rows), best=frozenset(best)))


_CEILING = "Ceiling: nothing is quantized"
_OTHER = "Other codebook sizes: not at equal rate"


def _group(entry: Entry, size: int | None) -> str:
    if entry.ceiling:
        return _CEILING
    return f"Equal codebook size: K = {size:,}" if codebook_size(entry) == size else _OTHER


def _bits(entry: Entry) -> float | None:
    size = codebook_size(entry)
    return math.log2(size) if size else None


def _checked(table: Table) -> Table:
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
        rows.append(
            Row(
                key=entry.name,
                entry=entry,
                group=_dimension(entry),
                fields={
                    "K": size,
                    "bits": _bits(entry),
                    "published": theirs and theirs.value,
                    "difference": ours - theirs.value if theirs and ours is not None else None,
                },
                cells={key: cell for key in keys if (cell := entry.cell(key, suites)) is not None},
            )
        )
    rows.sort(key=lambda row: (row.entry.dim or 0, row.entry.method, row.fields["K"] or 0))
    fields = (
        *CODES,
        Field("published", "δ_min, published", "arXiv:2512.14697, Table 4, printed to three decimals.", True),
        Field("difference", "ours − published", "Our δ_min minus the published one.", True),
    )
    caption = (
        "Codebooks as sets of points on the unit sphere. The released Λ24 file joins two different Golay codes, so its "
        "smallest distance is √(24/32) = 0.866, the paper's number; the true Leech shell has 1.0."
    )
    columns = tuple(metric(key) for key in keys)
    return _checked(Table("geometry", "Geometry", caption, fields, columns, tuple(rows), "codebook"))


def _dimension(entry: Entry) -> str:
    return f"d = {entry.dim}" if entry.dim else ""


PUBLISHED_METRICS = ("psnr", "ssim", "lpips_alex", "rfid")


def published_reconstruction(results: Results) -> Table:
    """The papers' reconstruction numbers with this run's beside: no difference, because the scales differ."""
    groups: dict[tuple[Any, ...], list[published.Published]] = {}
    for number in published.numbers():
        if number.task.startswith("reconstruction") and number.metric in PUBLISHED_METRICS:
            key = (number.work, number.dataset, number.resolution, number.method, number.codebook_size)
            groups.setdefault(key, []).append(number)
    rows = []
    for (work, dataset, resolution, method, size), found in groups.items():
        first = found[0]
        entry = _same_quantizer(results, method, size)
        ours = entry.cell("psnr") if entry else None
        fields: dict[str, Any] = {
            "method": method,
            "K": size,
            "bits": first.bits if first.bits is not None else (math.log2(size) if size else None),
            "data": f"{dataset}, {resolution} px",
            "protocol": first.protocol,
            **{f"published_{n.metric}": n.value for n in found},
        }
        key = f"{method} {size or ''} {dataset} {resolution} {work}".replace("  ", " ")
        group = f"{work} ({first.confidence})"
        rows.append(Row(key, entry, group, fields, {"psnr": ours} if ours else {}))
    rows.sort(key=lambda row: row.group)
    fields = (
        Field("method", "Method", "The name in print."),
        *CODES,
        Field("data", "Data", "Evaluation set and side of the images."),
        Field("protocol", "Protocol", "Short name of the stated protocol; see published_numbers.csv."),
        *(Field(f"published_{key}", f"{metric(key).title}, published", "In print.", True) for key in PUBLISHED_METRICS),
    )
    caption = (
        "Numbers in print, and this run's PSNR for the same method at the same codebook size. They are not comparable: "
        "images, resolution, networks and training differ, so no difference is formed."
    )
    return Table("published", "Numbers in print", caption, fields, (METRICS["psnr"],), tuple(rows), "published row")


def _same_quantizer(results: Results, method: str, size: int | None) -> Entry | None:
    return next((e for e in results.entries if e.method == method and size and codebook_size(e) == size), None)


# Text -----------------------------------------------------------------------------------------


def number(value: float | None, decimals: int) -> str:
    """A number as a table prints it: grouped thousands, a true minus sign, an em dash for an empty cell."""
    return EMPTY if value is None else f"{value:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def interval(cell: Cell) -> str:
    """`value ± sampling`, or the value alone where its record gives no interval."""
    text = number(cell.value, cell.metric.decimals)
    half = cell.half_width
    return text if half is None or cell.value is None else f"{text} ± {number(half, cell.metric.decimals)}"


def over_seeds(cell: Cell) -> str:
    """`seeds ± sd (n)`, empty for one seed and where all seeds agree exactly."""
    return f"seeds ± {number(cell.sd, cell.metric.decimals)} ({cell.n})" if cell.sd else ""


def field(value: Any, key: str) -> str:
    """A leading column's text."""
    if value is None:
        return EMPTY
    if isinstance(value, float):
        return number(value, 4 if key in ("difference", "published") else 3 if abs(value) < 1 else 2)
    return f"{value:,}" if isinstance(value, int) else str(value)


def title(column: Metric) -> str:
    """A column's head: title, unit, and the direction that is better."""
    arrow = {"higher": " ↑", "lower": " ↓", None: ""}[column.better]
    unit = f" ({column.unit})" if column.unit and column.unit not in column.title else ""
    return f"{column.title}{unit}{arrow}"


# Files ----------------------------------------------------------------------------------------


def write(table: Table, folder: str | Path) -> list[Path]:
    """Writes <name>.csv, .sources.json, .md and .tex, each whole or not at all; returns their paths."""
    folder = Path(folder)
    texts = {"csv": to_csv(table), "md": to_markdown(table), "tex": to_latex(table)}
    paths = []
    for suffix, text in texts.items():
        path = folder / f"{table.name}.{suffix}"
        with whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(path)
    path = folder / f"{table.name}.sources.json"
    write_json(path, sources(table))
    return [*paths, path]


def sources(table: Table) -> dict[str, Any]:
    """row -> column -> the records, protocol and reason of each cell."""
    return {
        "rows": {
            row.key: {
                key: {"records": [s.path for s in cell.sources], "protocol": cell.protocol, "reason": cell.reason}
                for key, cell in row.cells.items()
            }
            for row in table.rows
        }
    }


def to_csv(table: Table) -> str:
    """Raw numbers: for each metric `key`, `key_low`, `key_high`, `key_sd`, `key_n` and, if any is empty, `key_reason`."""
    import io

    with_reason = {m.key for m in table.metrics if any(c.value is None for c in table._column(m.key))}
    parts = ("", "_low", "_high", "_sd", "_n")
    header = [table.key_field, *(f.key for f in table.fields)]
    for column in table.metrics:
        header += [column.key + part for part in parts]
        header += [f"{column.key}_reason"] if column.key in with_reason else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in table.rows:
        line: list[Any] = [row.key, *(row.fields.get(f.key) for f in table.fields)]
        for column in table.metrics:
            cell = row.cells.get(column.key)
            line += [None] * 5 if cell is None else [cell.value, cell.low, cell.high, cell.sd, cell.n]
            if column.key in with_reason:
                line.append("no record" if cell is None else cell.reason)
        writer.writerow(line)
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """A GitHub table under its title and caption; columns without a number are listed below with their reasons."""
    header = [table.key_field, *(f.title for f in table.fields), *(title(m) for m in table.shown)]
    numeric = [False, *(f.numeric for f in table.fields), *(True for _ in table.shown)]
    lines = [f"## {table.title}", "", table.caption, "", _bar(header)]
    lines.append(_bar(["---:" if right else ":---" for right in numeric]))
    for row in table.rows:
        lines.append(_bar([row.key, *(field(row.fields.get(f.key), f.key) for f in table.fields), *_texts(table, row)]))
    lines += ["", LEGEND]
    lines += [f"- {column.title}: not measured. {reason}" for column, reason in table.unmeasured]
    return "\n".join(lines) + "\n"


LEGEND = (
    "± half the 95% sampling interval; “seeds ± sd (n)” is the standard deviation over n training seeds. "
    "Bold: best at equal K, the paired difference to each other row being real."
)


def _texts(table: Table, row: Row) -> list[str]:
    texts = []
    for column in table.shown:
        cell = row.cells.get(column.key)
        if cell is None or cell.value is None:
            texts.append(EMPTY)
            continue
        text = interval(cell)
        if (row.key, column.key) in table.best:
            text = f"**{text}**"
        texts.append(f"{text}, {over_seeds(cell)}" if cell.sd else text)
    return texts


def _bar(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_TEX = {
    "\\": r"\textbackslash{}",
    **{mark: "\\" + mark for mark in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "∞": r"$\infty$",
    "⌈": r"$\lceil$",
    "⌉": r"$\rceil$",
    "δ": r"$\delta$",
    "Λ": r"$\Lambda$",
    "√": r"$\surd$",
    "°": r"$^\circ$",
    "‖": r"$\Vert$",
    "²": r"$^2$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}


def latex_escape(text: str) -> str:
    """Text for a LaTeX document, whatever is in it; marks without a LaTeX form are written as their code point."""
    return "".join(
        _TEX.get(mark, mark if mark.isascii() or "À" <= mark <= "ſ" else f"[U+{ord(mark):04X}]") for mark in text
    )


def to_latex(table: Table) -> str:
    """A booktabs table with caption and label; needs \\usepackage{booktabs,graphicx}."""
    import pandas as pd

    header = [table.key_field, *(f.title for f in table.fields), *(title(m) for m in table.shown)]
    numeric = [False, *(f.numeric for f in table.fields), *(True for _ in table.shown)]
    body = []
    for row in table.rows:
        cells = [row.key, *(field(row.fields.get(f.key), f.key) for f in table.fields)]
        line = [latex_escape(cell) for cell in cells]
        for column in table.shown:
            cell = row.cells.get(column.key)
            text = latex_escape(EMPTY if cell is None or cell.value is None else interval(cell))
            if (row.key, column.key) in table.best:
                text = rf"\textbf{{{text}}}"
            if cell is not None and cell.sd:
                text += rf" {{\scriptsize {latex_escape(over_seeds(cell).removeprefix('seeds '))}}}"
            line.append(text)
        body.append(line)
    frame = pd.DataFrame(body, columns=[latex_escape(cell) for cell in header])
    styler = frame.style.hide(axis="index")
    tabular = styler.to_latex(hrules=True, column_format="".join("r" if right else "l" for right in numeric))
    notes = [latex_escape(table.caption), latex_escape(LEGEND)]
    notes += [latex_escape(f"{column.title}: not measured. {reason}") for column, reason in table.unmeasured]
    return (
        "\\begin{table}\n\\centering\n\\caption{" + " ".join(notes) + f"}}\n\\label{{tab:{table.name}}}\n"
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n" + tabular + "}\n\\end{table}\n"
    )
