"""The report: a folder of static pages that needs no network and no other folder, made by Jinja2.

Every number links to the page of its records: `records-<subject>.html#<measurement>.<metric>` shows the seeds' values
side by side, and below them what they were measured on, with and by.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from evaluation.metrics import Metric
from evaluation.report import claims, comparisons, definitions, formats, images, looks, published, tables
from evaluation.report.figures import GRID, INK, MUTED, Drawing
from evaluation.report.results import Entry, Results, Source, metric
from evaluation.report.tables import Row, Table

_FOLDER = Path(__file__).with_name("pages")
_LONG = 24
_ORDER = {name: place for place, name in enumerate((*tables.SUITES, "compression"))}
_DUEL_METRICS = ("psnr", "ssim", "ms_ssim", "lpips_alex", "lpips_vgg")
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


@dataclasses.dataclass(frozen=True)
class View:
    """A suite as the site shows it: its rows, its tables by their base name, and its figures.

    drawn: waits for the figures, which other processes may still be drawing, and returns them by name.
    """

    results: Results
    tables: dict[str, Table]
    drawn: Callable[[], dict[str, Drawing]]

    @property
    def drawings(self) -> dict[str, Drawing]:
        """The figures by name; the first use waits for them."""
        return self.drawn()

    @property
    def name(self) -> str:
        assert self.results.part is not None
        return self.results.part.name

    @property
    def title(self) -> str:
        """The suite's title; the one that needs no name is called like the configuration."""
        part = self.results.part
        assert part is not None
        return self.results.configuration.name if part.title == part.name == "main" else part.title

    @property
    def href(self) -> str:
        """The suite's page."""
        return f"suite-{self.name}.html"


@dataclasses.dataclass(frozen=True)
class Content:
    """Everything that the site shows. shared: tables and drawings that belong to no suite, these as in View.drawn."""

    results: Results
    views: tuple[View, ...]
    shared_tables: dict[str, Table]
    shared_drawn: Callable[[], dict[str, Drawing]]
    verdicts: tuple[claims.Verdicts, ...]


def write(folder: Path, content: Content, files: tuple[Path, ...]) -> Path:
    """Builds the site in a new folder and puts it in the place of `folder`, whole or not at all.

    files: folders of tables and figures that are copied into the site. Returns the first page.
    """
    with _whole_folder(folder) as new:
        _Site(content, new).write()
        for source in files:
            if source.is_dir():
                shutil.copytree(source, new / source.name, ignore=_shown_elsewhere)
    return folder / "index.html"


def _shown_elsewhere(folder: str, names: list[str]) -> list[str]:
    """Temporary files, and the pixels of figures that are there as vectors."""
    return [n for n in names if n.startswith(".") or (n.endswith(".png") and n[:-3] + "svg" in names)]


@contextlib.contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        new = Path(scratch) / folder.name
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        new.rename(folder)


class _Site:
    """Renders the pages of one report into a folder."""

    def __init__(self, content: Content, folder: Path) -> None:
        self.content, self.folder, self.results = content, folder, content.results
        names = [entry.name for entry in self.results.entries]
        self.slugs = {e.id: e.name if names.count(e.name) == 1 else e.id for e in self.results.entries}
        self.looks = {
            entry.id: look
            for view in content.views
            for entry, look in zip(
                view.results.entries,
                looks.looks((e.name, e.method) for e in view.results.entries).values(),
                strict=True,
            )
        }
        self.environment = self._environment()

    def write(self) -> None:
        """All pages; those without figures first, because the figures may still be being drawn."""
        shutil.copytree(_FOLDER / "assets", self.folder / "assets")
        self._pictures()
        self._records()
        self._page("claims.html", "claims.html", tally=self.tally)
        self._page("published.html", "published.html", numbers=published.numbers())
        self._page("about.html", "about.html", facts=self.facts(self.results), glossary=self._glossary())
        for view in self.content.views:
            self._page("compare.html", f"compare-{view.name}.html", view=view, **self._comparison(view))
        suites = [{"facts": self.facts(view.results), "duels": _duels(view.results)} for view in self.content.views]
        quantizers = [
            (self.entry_href(entry), self._quantizer(view, entry))
            for view in self.content.views
            for entry in view.results.entries
        ]
        self._page("geometry.html", "geometry.html", shared_drawings=self.content.shared_drawn())
        self._page("index.html", "index.html", facts=suites[0]["facts"])
        for view, values in zip(self.content.views, suites, strict=True):
            self._page("suite.html", view.href, view=view, **values)
        for name, values in quantizers:
            self._page("quantizer.html", name, **values)

    # Pages --------------------------------------------------------------------------------------

    def _environment(self) -> Any:
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_FOLDER),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            number=formats.number,
            interval=formats.interval,
            over_seeds=formats.over_seeds,
            head=formats.title,
            field=formats.field,
            coded=_coded,
        )
        config = self.results.configuration
        environment.globals.update(
            results=self.results,
            configuration=config,
            config_path=_shown_path(config.path),
            root=_shown_path(self.results.root),
            yaml=yaml.safe_dump(config.values, sort_keys=False, allow_unicode=True, width=100),
            views=self.content.views,
            shared=self.content.shared_tables,
            verdicts=self.content.verdicts,
            verdict_css=_VERDICT_CSS,
            tally=self.tally,
            entry_href=self.entry_href,
            record_href=self.record_href,
            slug=lambda entry: self.slugs[entry.id],
            swatch=self.swatch,
            inline=self.inline,
            metric=metric,
            bar=_bar,
            published_text=formats.published,
            difference_text=formats.difference,
            notes=formats.notes,
            has_picture=lambda entry, kind="": (self.folder / f"pictures/{self.slugs[entry.id]}{kind}.png").is_file(),
        )
        return environment

    def _page(self, template: str, name: str, **values: Any) -> None:
        text = self.environment.get_template(template).render(page=name, **values)
        (self.folder / name).write_text(text, encoding="utf-8")

    def entry_href(self, entry: Entry) -> str:
        """The page of a quantizer."""
        return f"quantizer-{self.slugs[entry.id]}.html"

    def record_href(self, sources: tuple[Source, ...], key: str) -> str:
        """Where a number's records stand: the row of a metric, or without a key the whole measurement."""
        return f"records-{sources[0].subject}.html#{sources[0].section}" + (f".{key}" if key else "")

    def swatch(self, entry: Entry | None) -> Any:
        """The quantizer's mark in its colour, or nothing."""
        from markupsafe import Markup

        look = self.looks.get(entry.id) if entry else None
        if look is None:
            return Markup("")
        mark = _MARKS.get(look.marker, _MARKS["o"])
        return Markup(f'<svg class="swatch" viewBox="0 0 12 12" aria-hidden="true" fill="{look.colour}">{mark}</svg>')

    def inline(self, drawing: Drawing) -> Any:
        """A drawing's SVG for inside a page."""
        from markupsafe import Markup

        return Markup(inline(drawing.svg or "", drawing.name))

    @functools.cached_property
    def tally(self) -> dict[str, int]:
        """How many claims got each verdict."""
        return {name: sum(v.verdict == name for v in self.content.verdicts) for name in _VERDICT_CSS}

    # What pages hold ----------------------------------------------------------------------------

    def facts(self, results: Results) -> dict[str, Any]:
        """What the head of a page says about rows, read from their records."""
        reconstruction = [s.record for e in results.entries for s in e.sources.get("reconstruction", ())]
        datasets = {r.dataset.name: r.dataset for r in reconstruction if r.dataset}
        everything = [source.record for source in results.sources()]
        seconds = sum(e.number("training_seconds") or 0.0 for e in results.entries for _ in e.seeds)
        size = tables.equal_size(results.entries)
        equal = [e for e in results.entries if not e.ceiling and size and tables.codebook_size(e) == size]
        scored = sorted(((n, e.name) for e in equal if (n := e.number("psnr")) is not None), reverse=True)
        best = comparisons.best(equal, "psnr", "higher") if scored else None
        tokens = next((cell for e in results.entries if (cell := e.cell("tokens")) and cell.value), None)
        return {
            "quantizers": sum(not e.ceiling for e in results.entries),
            "generators": len(results.generators),
            "equal": len(equal),
            "size": size,
            "seeds": max((len(e.seeds) for e in results.entries), default=0),
            "images": max((d.samples for d in datasets.values()), default=None),
            "dataset": ", ".join(sorted(datasets)) or results.data["source"],
            "side": results.data.get("size"),
            "scenes": max((len(set(r.groups)) for r in reconstruction if r.groups), default=None),
            "tokens": tokens,
            "ceiling": next((cell for e in results.entries if e.ceiling and (cell := e.cell("psnr"))), None),
            "top": next((e.cell("psnr") for e in equal if scored and e.name == scored[0][1]), None),
            "top_entry": next((e for e in equal if scored and e.name == scored[0][1]), None),
            "real": best,
            "records": len(everything),
            "training_minutes": seconds / 60,
            "hardware": sorted({r.machine.hardware for r in everything}),
            "packages": everything[0].machine.packages if everything else {},
            "python": sorted({r.machine.python for r in everything}),
            "newest": max((r.machine.created for r in everything), default=""),
        }

    def _quantizer(self, view: View, entry: Entry) -> dict[str, Any]:
        quantizer = entry.spec["quantizer"]
        file = self.results.configuration.path.parent / quantizer["module"] if "module" in quantizer else None
        others = [e for e in view.results.entries if e.id != entry.id and not e.ceiling]
        against = [(e, d) for e in others if (d := comparisons.difference(entry, e, "psnr")) is not None]
        against.sort(key=lambda pair: -pair[1].value)
        return {
            "view": view,
            "entry": entry,
            "definition": definitions.find(entry.method, file),
            "given": quantizer.get("parameters", {}),
            "groups": [
                (name, [cell for key in entry.keys(name) if (cell := entry.cell(key, (name,))) is not None])
                for name in sorted(entry.sources, key=lambda name: _ORDER.get(name, len(_ORDER)))
            ],
            "geometry": [e for e in self.results.geometry if e.method == entry.method],
            "against": against,
            "generators": [e for e in view.results.generators if e.tokenizer == entry.id],
            "K": tables.codebook_size(entry),
            "bits": tables.bits(entry),
            "claims": [v for v in self.content.verdicts if any(s.subject == entry.id for s in v.records)],
        }

    def _comparison(self, view: View) -> dict[str, Any]:
        """The table of all metrics by all quantizers, and the paired differences that its script needs."""
        entries = view.results.entries
        keys = dict.fromkeys(m.key for table in view.tables.values() for m in table.metrics if not table.beside)
        columns = [metric(key) for key in keys if not key.startswith(("verified", "prior_bpp"))]
        rows = []
        for column in columns:
            cells = [entry.cell(column.key, (*tables.SUITES, "compression")) for entry in entries]
            if any(cell is not None and cell.value is not None for cell in cells):
                rows.append((column, cells))
        pairs = {}
        for key in _DUEL_METRICS:
            for a, b in itertools.combinations(entries, 2):
                found = comparisons.difference(a, b, key)
                if found is not None:
                    for first, second, one in ((a, b, found), (b, a, found.turned())):
                        ends = [None if x is None else round(x, 5) for x in (one.value, one.low, one.high)]
                        pairs[f"{key}|{first.name}|{second.name}"] = [*ends, one.real]
        strips = images.strips(view.results)
        count = strips[0].count if strips else 0
        return {"rows": rows, "entries": entries, "pairs": json.dumps(pairs).replace("<", "\\u003c"), "count": count}

    def _glossary(self) -> list[tuple[Metric, str]]:
        """Every measured column once, with its protocol."""
        found: dict[str, tuple[Metric, str]] = {}
        built = [t for view in self.content.views for t in view.tables.values()] + [
            *self.content.shared_tables.values()
        ]
        for table in built:
            for column in table.metrics:
                protocols = [row.cells[column.key].protocol for row in table.rows if column.key in row.cells]
                found.setdefault(column.key, (column, protocols[0] if protocols else ""))
        return list(found.values())

    def _records(self) -> None:
        pages: dict[str, list[Source]] = {}
        for source in self.results.sources():
            pages.setdefault(source.subject, []).append(source)
        owners = {entry.id: entry for entry in (*self.results.entries, *self.results.generators)}
        for subject, sources in pages.items():
            sections: dict[str, list[Source]] = {}
            for source in sources:
                sections.setdefault(source.section, []).append(source)
            shown = [_section(name, found) for name, found in sections.items()]
            self._page(
                "records.html", f"records-{subject}.html", subject=subject, owner=owners.get(subject), sections=shown
            )
        self._page("records-index.html", "records.html", pages=pages, owners=owners)

    def _pictures(self) -> None:
        folder = self.folder / "pictures"
        folder.mkdir()
        self.sizes: dict[str, tuple[int, int]] = {}
        for view in self.content.views:
            for strip in images.strips(view.results):
                slug = self.slugs[strip.id] if strip.id else f"original-{view.name}"
                images.save(strip.picture, folder / f"{slug}.png")
                self.sizes[slug] = (strip.picture.shape[1], strip.picture.shape[0])
                if strip.error is not None:
                    images.save(strip.error, folder / f"{slug}-error.png")
        self.environment.globals["sizes"] = self.sizes


_VERDICT_CSS = {"holds": "ok", "does not hold": "bad", "undecided": "warn", "not tested at this scale": "off"}


def inline(svg: str, name: str) -> str:
    """An SVG for inside a page: ids made unique, greys taken from the page's theme, names as tooltips."""
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


def _shown_path(path: Path) -> str:
    """A path as a reader can use it: relative to the working folder, or else its last parts; never a machine's."""
    try:
        relative = os.path.relpath(path)
    except ValueError:
        return path.name
    return "/".join(path.parts[-2:]) if relative.startswith("..") else Path(relative).as_posix()


def _coded(text: str) -> Any:
    """Text whose `parts` are shown as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _bar(table: Table, row: Row, key: str) -> float | None:
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


def _duels(results: Results) -> dict[str, Any] | None:
    """PSNR differences of all pairs, rows in order of PSNR; None where fewer than two have a number."""
    scored = [(n, e) for e in results.entries if not e.ceiling and (n := e.number("psnr")) is not None]
    order = [entry for _, entry in sorted(scored, key=lambda pair: -pair[0])]
    if len(order) < 2:
        return None
    found = {}
    for a, b in itertools.combinations(order, 2):
        one = comparisons.difference(a, b, "psnr")
        found |= {(a.name, b.name): one, (b.name, a.name): one and one.turned()}
    largest = max((abs(d.value) for d in found.values() if d), default=1.0) or 1.0
    return {"order": order, "found": found, "largest": largest}


def _section(name: str, sources: list[Source]) -> dict[str, Any]:
    """One measurement of all seeds: rows of metrics, a column a seed, and each record in full."""
    keys = dict.fromkeys(key for source in sources for key in source.record.values)
    rows = [(metric(key), [source.record.values.get(key) for source in sources]) for key in keys]
    details = []
    for source in sources:
        data = _short(source.record.model_dump(mode="json"))
        details.append((source, json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)))
    return {"name": name, "suite": sources[0].record.suite, "sources": sources, "rows": rows, "details": details}


def _short(value: Any) -> Any:
    """Long lists cut to their first items: the record's file has the rest."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list) and len(value) > _LONG:
        return [*value[:6], f"… {len(value) - 6} more in the file"]
    return value
