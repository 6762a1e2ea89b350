"""Tables as text: CSV with raw numbers, Markdown, LaTeX, and the file that says where each cell came from.

`<table>.sources.json` beside each CSV says which records each cell came from:
{"rows": {row: {column: {"records": [paths], "protocol": id, "reason": why it is empty, or null}}}}.
"""

import csv
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.metrics import METRICS, Metric
from evaluation.report.results import Cell
from evaluation.report.tables import Printed, Row, Table
from latticebench.files import whole, write_json

EMPTY = "—"
DAGGER = "†"
LEGEND = (
    "± half the 95% sampling interval; “seeds ± sd (n)” is the standard deviation over n training seeds. "
    "Bold: best at equal K, the paired difference to each other row being real."
)
PRINTED_LEGEND = "Difference: ours minus published. †: not comparable, for the reason below."
CSV_PARTS = {
    "": "the number, mean over seeds; empty where it was not measured",
    "_low": "lower end of the 95% sampling interval, mean over seeds",
    "_high": "upper end of that interval",
    "_sd": "standard deviation over seeds; empty for one seed",
    "_n": "number of seeds with a number",
    "_reason": "why the number is empty; only in tables where one is",
    "_published": "the number in print; only in tables that stand beside a paper's",
    "_difference": "ours minus published",
    "_not_comparable": "why the two are not comparable; empty where they are",
}
"""What each part of a metric's columns holds: `<key><part>` in every CSV."""


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


def field(value: Any) -> str:
    """A leading column's text."""
    if value is None:
        return EMPTY
    if isinstance(value, float):
        return number(value, 3 if abs(value) < 1 else 2)
    return f"{value:,}" if isinstance(value, int) else str(value)


def published(printed: Printed | None, column: Metric) -> str:
    """The number in print, with a dagger where ours is not comparable with it."""
    if printed is None:
        return EMPTY
    return number(printed.number.value, column.decimals) + (DAGGER if printed.why else "")


def difference(printed: Printed | None, column: Metric) -> str:
    """Ours minus published, with the same dagger; an em dash where one of the two is missing."""
    if printed is None or printed.difference is None:
        return EMPTY
    text = number(printed.difference, column.decimals)
    sign = "+" if printed.difference > 0 else ""
    return sign + text + (DAGGER if printed.why else "")


def title(column: Metric) -> str:
    """A column's head: title, unit, and the direction that is better."""
    arrow = {"higher": " ↑", "lower": " ↓", None: ""}[column.better]
    unit = f" ({column.unit})" if column.unit and column.unit not in column.title else ""
    return f"{column.title}{unit}{arrow}"


def write(table: Table, folder: str | Path) -> list[Path]:
    """Writes <name>.csv, .md, .tex and .sources.json, each whole or not at all; returns their paths."""
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
    """Raw numbers: for each metric `key`, the columns `key<part>` for the parts of CSV_PARTS that the table has."""
    with_reason = {m.key for m in table.metrics if any(c.value is None for c in table.column(m.key))}
    beside = table.beside
    header = [table.key_field, *(f.key for f in table.fields)]
    for column in table.metrics:
        header += [column.key + part for part in ("", "_low", "_high", "_sd", "_n")]
        header += [f"{column.key}_reason"] if column.key in with_reason else []
        if column.key in beside:
            header += [column.key + part for part in ("_published", "_difference", "_not_comparable")]
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
            if column.key in beside:
                printed = row.printed.get(column.key)
                line += [None] * 3 if printed is None else [printed.number.value, printed.difference, printed.why]
        writer.writerow(line)
    return text.getvalue()


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column of a typeset table. text: of a row; strong and note: whether it is bold, and what follows it small."""

    head: str
    numeric: bool
    text: Callable[[Row], str]
    strong: Callable[[Row], bool] = lambda row: False
    note: Callable[[Row], str] = lambda row: ""


def _columns(table: Table) -> list[_Column]:
    result = [_Column(table.key_field, False, lambda row: row.key)]
    result += [_Column(f.title, f.numeric, lambda row, key=f.key: field(row.fields.get(key))) for f in table.fields]
    for column in table.shown:
        result.append(
            _Column(
                title(column),
                True,
                lambda row, m=column: interval(cell) if (cell := row.cells.get(m.key)) else EMPTY,
                lambda row, m=column: (row.key, m.key) in table.best,
                lambda row, m=column: over_seeds(cell) if (cell := row.cells.get(m.key)) else "",
            )
        )
        if column.key in table.beside:
            result.append(_Column("published", True, lambda row, m=column: published(row.printed.get(m.key), m)))
            result.append(_Column("difference", True, lambda row, m=column: difference(row.printed.get(m.key), m)))
    return result


def notes(table: Table) -> list[str]:
    """What stands under a typeset table: the legend, why daggers are there, and what was not measured."""
    lines = [LEGEND]
    if table.beside:
        lines.append(PRINTED_LEGEND)
        lines += [f"† {why}." for why in table.daggers]
    return lines + [f"{column.title}: not measured. {reason}" for column, reason in table.unmeasured]


def to_markdown(table: Table) -> str:
    """A GitHub table under its title and caption; columns without a number are listed below with their reasons."""
    columns = _columns(table)
    lines = [f"## {table.title}", "", table.caption, "", _bar([column.head for column in columns])]
    lines.append(_bar(["---:" if column.numeric else ":---" for column in columns]))
    for row in table.rows:
        cells = []
        for column in columns:
            text = f"**{column.text(row)}**" if column.strong(row) else column.text(row)
            cells.append(f"{text}, {note}" if (note := column.note(row)) else text)
        lines.append(_bar(cells))
    legend, *rest = notes(table)
    return "\n".join([*lines, "", legend, *(f"- {line}" for line in rest)]) + "\n"


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
    "’": "'",
    "†": r"$^\dagger$",
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

    columns = _columns(table)
    body = []
    for row in table.rows:
        line = []
        for column in columns:
            text = latex_escape(column.text(row))
            text = rf"\textbf{{{text}}}" if column.strong(row) else text
            if note := column.note(row):
                text += rf" {{\scriptsize {latex_escape(note.removeprefix('seeds '))}}}"
            line.append(text)
        body.append(line)
    frame = pd.DataFrame(body, columns=[latex_escape(column.head) for column in columns])
    styler = frame.style.hide(axis="index")
    tabular = styler.to_latex(hrules=True, column_format="".join("r" if c.numeric else "l" for c in columns))
    caption = " ".join(latex_escape(line) for line in (table.caption, *notes(table)))
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\label{{tab:{table.name}}}\n"
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n" + tabular + "}\n\\end{table}\n"
    )


def column_names() -> str:
    """Every column name, as the Markdown of docs/report.md."""
    parts = [("column", "holds"), *((f"`<key>{part}`", meaning) for part, meaning in CSV_PARTS.items())]
    keys = [("key", "title", "unit", "better", "meaning")]
    keys += [(f"`{m.key}`", m.title, m.unit, m.better or "", m.definition) for m in METRICS.values()]
    return "\n\n".join(
        "\n".join([_bar([*head]), _bar(["---"] * len(head)), *(_bar([*row]) for row in rows)])
        for head, *rows in (parts, keys)
    )
