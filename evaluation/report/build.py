"""Builds everything that is made from records: tables, figures, claims and the page."""

import dataclasses
from pathlib import Path

from evaluation.report import claims, compression, figures, page, tables
from evaluation.report.results import Gap, Results, load
from latticebench.configuration import Configuration


@dataclasses.dataclass(frozen=True)
class Made:
    """The page, and what it lacks."""

    page: Path
    gaps: tuple[Gap, ...]


SUITES = (
    ("reconstruction", "Reconstruction", "Originals against reconstructions of the evaluation split."),
    (
        "codebook",
        "Codebook use",
        "Over all tokens of the evaluation split. Compare usage with a uniform source's at as many tokens.",
    ),
    ("rates", "Rates", "Bits per pixel under different counts of a token's bits. None of these is a coded size."),
    ("cost", "Cost", "Parameters, operations, and speed on the machine that the provenance names."),
)


def all_tables(results: Results) -> list[tables.Table]:
    """Every table of the report. Raises BadInput where two protocols meet in one column."""
    built = [tables.main(results)]
    built += [tables.suite(results, name, title, caption) for name, title, caption in SUITES]
    built += [compression.table(results), compression.differences(results)]
    return [*built, tables.geometry(results), tables.published_reconstruction(results)]


def build(configuration: Configuration, root: str | Path) -> Made:
    """Writes ROOT/tables, ROOT/figures and ROOT/report/index.html from what ROOT holds."""
    root = Path(root)
    results = load(configuration, root)
    built = all_tables(results)
    for table in built:
        tables.write(table, root / "tables")
    drawings = figures.draw(results, root / "figures", compression.FIGURES)
    path = root / "report" / "index.html"
    page.write(path, results, built, drawings, claims.check_all(results))
    return Made(path, results.gaps)
