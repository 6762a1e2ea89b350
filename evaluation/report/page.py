"""The report: one HTML file that needs no network, made by Jinja2 from tables, figures, claims and records."""

import json
import os
import re
from pathlib import Path
from typing import Any

import yaml

from evaluation import records
from evaluation.metrics import Metric
from evaluation.report import comparisons, images, looks, tables
from evaluation.report.claims import Claim, Finding
from evaluation.report.figures import GRID, INK, MUTED, Drawing
from evaluation.report.results import Cell, Entry, Results, Source, metric
from latticebench.files import whole

_FOLDER = Path(__file__).parent
_LONG = 24
_MARKS = {
    "o": '<circle cx="6" cy="6" r="4.4"/>',
    "s": '<rect x="1.8" y="1.8" width="8.4" height="8.4"/>',
    "^": '<path d="M6 1L11 10.4H1z"/>',
    "v": '<path d="M6 11L11 1.6H1z"/>',
    "<": '<path d="M1 6L10.4 1V11z"/>',
    ">": '<path d="M11 6L1.6 1V11z"/>',
    "D": '<path d="M6 1L11 6L6 11L1 6z"/>',
    "P": '<path d="M4 1H8V4H11V8H8V11H4V8H1V4H4z"/>',
    "X": '<path d="M1 3L3 1L6 4L9 1L11 3L8 6L11 9L9 11L6 8L3 11L1 9L4 6z"/>',
    "*": '<path d="M6 0L7.5 4.2L12 4.4L8.4 7.2L9.7 11.5L6 9L2.3 11.5L3.6 7.2L0 4.4L4.5 4.2z"/>',
    "p": '<path d="M6 1L11 4.7L9.1 10.6H2.9L1 4.7z"/>',
    "h": '<path d="M6 1L10.5 3.4V8.6L6 11L1.5 8.6V3.4z"/>',
    "_": '<path d="M0 5H5V7H0zM7 5H12V7H7z"/>',
}


def write(
    path: str | Path,
    results: Results,
    built: list[tables.Table],
    drawings: list[Drawing],
    findings: list[tuple[Claim, Finding]],
) -> None:
    """Writes the page, whole or not at all."""
    text = render(results, built, drawings, findings)
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(
    results: Results, built: list[tables.Table], drawings: list[Drawing], findings: list[tuple[Claim, Finding]]
) -> str:
    """The page as text; equal inputs give equal text."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    look = looks.looks((entry.name, entry.method) for entry in results.entries)
    environment.filters.update(
        number=tables.number,
        interval=tables.interval,
        over_seeds=tables.over_seeds,
        head=tables.title,
        field=tables.field,
        measured=_measured,
    )
    values = {
        "results": results,
        "configuration": results.configuration,
        "config_path": _shown_path(results.configuration.path),
        "root": _shown_path(results.root),
        "yaml": yaml.safe_dump(results.configuration.values, sort_keys=False, allow_unicode=True, width=100),
        "tables": {table.name: table for table in built},
        "drawings": {drawing.name: drawing for drawing in drawings},
        "inline": {
            drawing.name: Markup(inline(drawing.svg, drawing.name))
            for drawing in drawings
            if drawing.svg and drawing.name != "reconstructions"
        },
        "strips": [
            {
                "strip": strip,
                "picture": images.data_uri(strip.picture),
                "error": None if strip.error is None else images.data_uri(strip.error),
            }
            for strip in images.strips(results)
        ],
        "brightest": images.BRIGHTEST,
        "findings": findings,
        "facts": facts(results),
        "swatches": {name: Markup(_swatch(found)) for name, found in look.items()},
        "cards": [_card(entry, results.configuration.path.parent) for entry in results.entries],
        "duels": _duels(results),
        "provenance": [
            (entry, [_section(source) for found in entry.sources.values() for source in found])
            for entry in (*results.entries, *results.geometry)
        ],
        "bar": _bar,
        "glossary": _glossary(built),
        "metric": metric,
        "style": Markup((_FOLDER / "report.css").read_text(encoding="utf-8")),
        "script": Markup((_FOLDER / "report.js").read_text(encoding="utf-8")),
    }
    return environment.get_template("report.html").render(values)


def inline(svg: str, name: str) -> str:
    """An SVG for inside the page: ids made unique, greys taken from the page's theme, names as tooltips."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'id="series:([^:"]+):([^"]+)"', r'data-quantizer="\1" data-part="\2"', body)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    for colour, variable in ((INK, "--ink"), (MUTED, "--muted"), ("#8A929B", "--axis"), (GRID, "--grid")):
        body = re.sub(colour, f"var({variable})", body, flags=re.IGNORECASE)
    body = re.sub(r'(<g data-quantizer="([^"]+)" data-part="[^"]+">)', r"\1<title>\2</title>", body)
    return re.sub(
        r'<svg ([^>]*?)height="[\d.]+pt"([^>]*?)width="([\d.]+)pt"', r'<svg \1\2data-width="\3"', body, count=1
    )


def facts(results: Results) -> dict[str, Any]:
    """What the page's head says about the run, read from the records."""
    reconstruction = [s.record for e in results.entries for s in e.sources.get("reconstruction", ())]
    datasets = {r.dataset.name: r.dataset for r in reconstruction if r.dataset}
    everything = [source.record for source in results.sources()]
    seconds = sum(e.number("training_seconds") or 0.0 for e in results.entries for _ in e.seeds)
    tokens = next((round(n) for e in results.entries if (n := e.number("tokens"))), None)
    ceiling = next((e.number("psnr") for e in results.entries if e.ceiling), None)
    size = tables.equal_size(results.entries)
    equal = [e for e in results.entries if not e.ceiling and size and tables.codebook_size(e) == size]
    scored = sorted(((n, e.name) for e in equal if (n := e.number("psnr")) is not None), reverse=True)
    real = comparisons.best(equal, "psnr", "higher") if scored else None
    return {
        "quantizers": sum(not e.ceiling for e in results.entries),
        "equal": len(equal),
        "size": size,
        "seeds": max((len(e.seeds) for e in results.entries), default=0),
        "images": max((d.samples for d in datasets.values()), default=None),
        "dataset": ", ".join(sorted(datasets)) or results.configuration.values["data"]["source"],
        "scenes": max((len(set(r.groups)) for r in reconstruction if r.groups), default=None),
        "tokens": tokens,
        "ceiling": ceiling,
        "top": scored[0] if scored else None,
        "real": real,
        "records": len(everything),
        "training_minutes": seconds / 60,
        "hardware": sorted({r.machine.hardware for r in everything}),
        "packages": everything[0].machine.packages if everything else {},
        "python": sorted({r.machine.python for r in everything}),
        "newest": max((r.machine.created for r in everything), default=""),
    }


def _glossary(built: list[tables.Table]) -> list[tuple[Metric, str]]:
    """Every measured column once, with its protocol."""
    found: dict[str, tuple[Metric, str]] = {}
    for table in built:
        for column in table.metrics:
            protocols = [row.cells[column.key].protocol for row in table.rows if column.key in row.cells]
            found.setdefault(column.key, (column, protocols[0] if protocols else ""))
    return list(found.values())


def _shown_path(path: Path) -> str:
    """A path as a reader can use it: relative to the working folder, or else its last parts; never a machine's."""
    try:
        relative = os.path.relpath(path)
    except ValueError:
        return path.name
    return "/".join(path.parts[-2:]) if relative.startswith("..") else Path(relative).as_posix()


def _swatch(look: looks.Look) -> str:
    mark = _MARKS.get(look.marker, _MARKS["o"])
    return f'<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true" fill="{look.colour}">{mark}</svg>'


def _bar(table: tables.Table, row: tables.Row, key: str) -> float | None:
    """Where a cell lies between the worst (0) and the best (1) of its group; None where neither end is better."""
    column = metric(key)
    values = [c.value for r in table.rows if r.group == row.group and (c := r.cells.get(key)) and c.value is not None]
    cell = row.cells.get(key)
    if column.better is None or column.unit == "bpp" or cell is None or cell.value is None or len(values) < 3:
        return None
    low, high = min(values), max(values)
    if high <= low:
        return None
    share = (cell.value - low) / (high - low)
    return round(share if column.better == "higher" else 1 - share, 3)


def _measured(value: records.Value, key: str) -> str:
    return tables.number(value.value, metric(key).decimals)


def _card(entry: Entry, folder: Path) -> dict[str, Any]:
    from latticebench.errors import BadInput
    from latticebench.quantizers import registry

    try:
        quantizer = entry.spec["quantizer"]
        cls = (
            registry.load_module(folder / quantizer["module"])
            if "module" in quantizer
            else registry.method(entry.method)
        )
        title, reference = cls.title, cls.reference
        summary = " ".join((cls.__doc__ or "").split("\n\n")[0].split()).replace("`", "")
    except BadInput:
        title, reference, summary = entry.method, None, ""
    keys = ("psnr", "ssim", "fd_insuite", "codes_used", "perplexity", "entropy_bpp", "training_seconds")
    cells: list[Cell] = [cell for key in keys if (cell := entry.cell(key)) is not None and cell.value is not None]
    size = tables.codebook_size(entry)
    return {"entry": entry, "title": title, "reference": reference, "summary": summary, "cells": cells, "K": size}


def _duels(results: Results) -> dict[str, Any] | None:
    """PSNR differences of all pairs, rows in order of PSNR; None where fewer than two have a number."""
    scored = [(n, e) for e in results.entries if not e.ceiling and (n := e.number("psnr")) is not None]
    order = [entry for _, entry in sorted(scored, key=lambda pair: -pair[0])]
    if len(order) < 2:
        return None
    found = {(a.name, b.name): comparisons.difference(a, b, "psnr") for a in order for b in order if a is not b}
    largest = max((abs(d.value) for d in found.values() if d), default=1.0) or 1.0
    return {"order": order, "found": found, "largest": largest}


def _section(source: Source) -> dict[str, Any]:
    data = json.loads(records.dump(source.record))
    return {"source": source, "record": source.record, "json": json.dumps(_short(data), indent=1, ensure_ascii=False)}


def _short(value: Any) -> Any:
    """Long lists cut to their first items: the record's file has the rest."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list) and len(value) > _LONG:
        return [*value[:6], f"… {len(value) - 6} more in the file"]
    return value
