"""Builds everything that is made from records: tables, figures, claims and the site."""

import dataclasses
import functools
from pathlib import Path

from evaluation.report import (
    claims,
    compression,
    figures,
    formats,
    generation,
    kodak,
    papers,
    site,
    stability,
    sweeps,
    tables,
)
from evaluation.report.figures import Drawing
from evaluation.report.results import Gap, Results, load
from evaluation.report.tables import Table
from latticebench.configuration import Configuration


@dataclasses.dataclass(frozen=True)
class Made:
    """The first page, and what the site lacks."""

    page: Path
    gaps: tuple[Gap, ...]


SUITES = (
    ("reconstruction", "Reconstruction in full", "Originals against reconstructions of the evaluation split."),
    (
        "codebook",
        "Codebook use",
        "Over all tokens of the evaluation split. Compare usage with a uniform source's at as many tokens.",
    ),
    ("rates", "Rates", "Bits per pixel under different counts of a token's bits. None of these is a coded size."),
    ("cost", "Cost", "Parameters, operations, and speed on the machine that the provenance names."),
)


def all_tables(results: Results) -> list[Table]:
    """Every table of the report. Raises BadInput where two protocols meet in one column."""
    suites = [table for view in results.views for table in suite_tables(view).values()]
    return [*suites, tables.geometry(results)]


def suite_tables(view: Results) -> dict[str, Table]:
    """The tables of one suite by their base names; with several suites their own names begin with the suite's."""
    built = [tables.main(view)]
    built += [tables.suite(view, name, title, caption) for name, title, caption in SUITES]
    built += [compression.table(view), compression.differences(view), *papers.all_tables(view)]
    built += [generation.table(view)] if view.generators else []
    if (settings := sweeps.table(view)).rows:
        built.append(settings)
    if (codecs := kodak.table(view)).rows:
        built.append(codecs)
    if (curves := stability.table(view)).rows:
        built.append(curves)
    return {table.name: dataclasses.replace(table, name=_named(view, table.name)) for table in built}


def _named(view: Results, name: str) -> str:
    return name if len(view.parts) == 1 or view.part is None else f"{view.part.name}-{name}"


def _plans(view: Results) -> tuple[figures.Plan, ...]:
    if view.part is None:
        return figures.SHARED
    return (*figures.SUITE, *compression.FIGURES, *(generation.FIGURES if view.generators else ()))


def build(configuration: Configuration, root: str | Path, processes: int = 1) -> Made:
    """Writes ROOT/tables, ROOT/figures and the site ROOT/report from what ROOT holds. processes: that draw."""
    root = Path(root)
    for folder in ("tables", "figures"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    results = load(configuration, root)
    shared = {"geometry": tables.geometry(results)}
    parts = [*results.views, dataclasses.replace(results, part=None)]
    tasks = [(number, plan) for number, part in enumerate(parts) for plan in _plans(part)]
    named = [(parts[n], dataclasses.replace(plan, name=_named(parts[n], plan.name))) for n, plan in tasks]
    with figures.drawing(named, root / "figures", processes) as drawings:

        @functools.cache
        def drawn() -> list[dict[str, Drawing]]:
            found: list[dict[str, Drawing]] = [{} for _ in parts]
            for (number, plan), drawing in zip(tasks, drawings, strict=True):
                found[number][plan.name] = drawing
            return found

        views = [site.View(view, suite_tables(view), lambda n=n: drawn()[n]) for n, view in enumerate(results.views)]
        written = [table for view in views for table in view.tables.values()] + [*shared.values()]
        for table in written:
            formats.write(table, root / "tables")
        # Of both folders: a figure may be called like a table.
        names = {table.name for table in written} | {plan.name for _, plan in named}
        _remove_others((root / "tables", root / "figures"), names)
        content = site.Content(results, tuple(views), shared, lambda: drawn()[-1], claims.check_all(results))
        page = site.write(root / "report", content, (root / "tables", root / "figures"))
    return Made(page, results.gaps)


def _remove_others(folders: tuple[Path, ...], names: set[str]) -> None:
    """Removes tables and figures that this configuration no longer makes: they would be taken for its own."""
    for path in (path for folder in folders if folder.is_dir() for path in folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.name.partition(".")[0] not in names:
            path.unlink()
