"""What samples of one generator are worth at several settings: their table, precision against recall, over training.

The settings come from a record's `sweep`: guidance, temperature, top-k, top-p, and the step of the weights, which is
None for the trained ones.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from evaluation.report import figures, looks
from evaluation.report.figures import NothingToDraw, Plan, legend, new_figure, series
from evaluation.report.results import GENERATION, Entry, Results, Source, metric
from evaluation.report.tables import Field, Row, Table

_AXES = (("precision", "recall"), ("precision_insuite", "recall_insuite"))
"""Pairs of axes of the frontier, the papers' first; the first pair that was measured is drawn."""
_DISTANCES = ("gfid", "fd_insuite_generation")
"""What is drawn over training, the papers' first."""


Knob = float | tuple[float, ...]
"""A setting, or one for each scale."""


class Settings(NamedTuple):
    """How samples were drawn. top_k, top_p: None where they cut nothing off, at no scale."""

    guidance: Knob
    temperature: Knob
    top_k: Knob | None
    top_p: Knob | None
    images: int | None

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Settings":
        guidance, temperature, top_k, top_p = (
            tuple(value) if isinstance(value, list) else value
            for value in (row.get(name, usual) for name, usual in _USUAL.items())
        )
        return cls(
            guidance,
            temperature,
            top_k if any(_each(top_k)) else None,
            top_p if any(0 < one < 1 for one in _each(top_p)) else None,
            row.get("images"),
        )

    def text(self, shown: frozenset[str]) -> str:
        """The settings named in `shown`, short."""
        off = {"top_k": "all", "top_p": "1"}
        values = {name: off.get(name) if (one := getattr(self, name)) is None else told(one) for name in _SYMBOLS}
        return ", ".join(f"{symbol} {values[name]}" for name, symbol in _SYMBOLS.items() if name in shown)

    def cells(self) -> dict[str, Any]:
        """The settings as a table has them."""
        return {name: told(value) if isinstance(value, tuple) else value for name, value in self._asdict().items()}


_USUAL = {"guidance": 1, "temperature": 1.0, "top_k": 0, "top_p": 0.0}
_SYMBOLS = {"guidance": "g", "temperature": "τ", "top_k": "k", "top_p": "p"}


def _each(value: Knob | None) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value or 0,)


def told(value: Knob) -> str:
    """A setting as text; of one for each scale the first and the last."""
    return f"{value[0]:g} to {value[-1]:g}" if isinstance(value, tuple) else f"{value:g}"


class Point(NamedTuple):
    """One setting of one generator. step: of the weights. values: what was measured, by its key."""

    entry: Entry
    source: Source
    step: int
    trained: bool
    settings: Settings
    values: dict[str, float]


_NOT_MEASURED = {*Settings._fields, "step", "batch_size"}


def points(results: Results) -> Iterator[Point]:
    """Every setting of every generator, of the first seed that was sampled at several."""
    for entry in results.generators:
        source = next((s for s in entry.sources.get(GENERATION, ()) if s.record.arrays.get("sweep")), None)
        for row in source.record.arrays["sweep"] if source else ():
            values = {key: value for key, value in row.items() if key not in _NOT_MEASURED and value is not None}
            step = row.get("step")
            last = entry.spec["generation"]["training"]["steps"]
            yield Point(entry, source, last if step is None else step, step is None, Settings.of(row), values)


def table(results: Results) -> Table:
    """A row for each setting; no rows where no generator was sampled at several."""
    found = list(points(results))
    keys = dict.fromkeys(key for point in found for key in point.values)
    fields = (
        Field("step", "Step", "Of the weights.", True),
        Field("guidance", "Guidance", "Strength of classifier-free guidance; 1 is none.", True),
        Field("temperature", "τ", "Temperature of sampling.", True),
        Field("top_k", "Top-k", "Most probable codes that are kept; empty: all.", True),
        Field("top_p", "Top-p", "Probability that is kept; empty: all.", True),
        Field("images", "Samples", "Number of samples that were judged.", True),
        *(Field(key, metric(key).title, metric(key).definition, True) for key in keys),
    )
    rows = []
    for number, point in enumerate(found, 1):
        values = {"step": point.step, **point.settings.cells(), **point.values}
        # The name alone would be the same for all of a generator's rows.
        rows.append(
            Row(f"{point.entry.name} · {number}", point.entry, point.entry.name, values, {},
                origins=dict.fromkeys(values, (point.source,)))
        )  # fmt: skip
    caption = (
        "The first seed's samples at each setting, without intervals: fewer samples than in the table above make every "
        "Fréchet distance larger, so compare rows of equally many."
    )
    return Table("sampling", "Settings of sampling", caption, fields, (), tuple(rows), "setting")


def _varied(found: list[Point]) -> frozenset[str]:
    """The settings that are not the same everywhere."""
    return frozenset(
        name for place, name in enumerate(Settings._fields) if len({point.settings[place] for point in found}) > 1
    )


def _look(results: Results) -> dict[str, looks.Look]:
    return looks.looks((entry.name, entry.method) for entry in results.generators)


def frontier(results: Results) -> tuple[Any, list[str]]:
    """Precision against recall over the settings of trained generators; one line each, the oracle as a cross."""
    trained = [point for point in points(results) if point.trained]
    for precision, recall in _AXES:
        found = [point for point in trained if {precision, recall} <= point.values.keys()]
        if found:
            break
    else:
        raise NothingToDraw("no generator was sampled at several settings yet")
    look, shown = _look(results), _varied(found) or frozenset({"guidance"})
    figure = new_figure(5.6, 4.4)
    axes = figure.add_subplot()
    lines = []
    for entry in dict.fromkeys(point.entry.id for point in found):
        own = sorted((p for p in found if p.entry.id == entry), key=lambda p: [_each(knob) for knob in p.settings])
        style = look[own[0].entry.name]
        # A line says that one knob is turned; several at once are points.
        joined = style.line if len(shown & {"guidance", "temperature", "top_k", "top_p"}) == 1 else "none"
        (line,) = axes.plot(
            [point.values[recall] for point in own],
            [point.values[precision] for point in own],
            color=style.colour,
            marker=style.marker,
            linestyle=joined,
            linewidth=1.1,
            markersize=6,
            label=own[0].entry.name,
            gid=series(own[0].entry.name, "frontier"),
        )
        lines.append(line)
    used = list(dict.fromkeys(point.source.path for point in found))
    for oracle in results.oracles:
        ends = [oracle.number(key, (GENERATION,)) for key in (recall, precision)]
        if None not in ends:
            (line,) = axes.plot(*ends, "X", color=figures.INK, markersize=7, linestyle="none", label=oracle.name)
            lines.append(line)
            used += [source.path for source in oracle.sources[GENERATION]]
    axes.set_xlabel(metric(recall).title)
    axes.set_ylabel(metric(precision).title)
    axes.margins(0.08)
    _label(axes, [(point.settings.text(shown), point.values[recall], point.values[precision]) for point in found])
    legend(figure, lines)
    return figure, used


def _label(axes: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Writes a text beside each point (text, x, y): on its right, or on its left where the next point is close."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for text, x, y in points:
        crowded = any(0 < (u - x) / (right - left) < 0.12 and abs(v - y) / (top - bottom) < 0.03 for _, u, v in points)
        axes.annotate(
            text,
            (x, y),
            xytext=(-4 if crowded else 4, 3),
            textcoords="offset points",
            horizontalalignment="right" if crowded else "left",
            fontsize=6,
            color=figures.MUTED,
        )


def over_training(results: Results) -> tuple[Any, list[str]]:
    """The Fréchet distance of samples by the step of the weights, all else equal; one line a generator."""
    for key in _DISTANCES:
        lines_: dict[tuple[str, Settings], list[Point]] = {}
        for point in points(results):
            if key in point.values:
                lines_.setdefault((point.entry.id, point.settings), []).append(point)
        found = [sorted(line, key=lambda p: p.step) for line in lines_.values() if len({p.step for p in line}) > 1]
        if found:
            break
    else:
        raise NothingToDraw("no generator was sampled at several steps of its training")
    look, shown = _look(results), _varied([line[0] for line in found])
    figure = new_figure(5.6, 3.6)
    axes = figure.add_subplot()
    drawn = []
    for line in found:
        style, settings = look[line[0].entry.name], line[0].settings.text(shown)
        drawn += axes.plot(
            [point.step for point in line],
            [point.values[key] for point in line],
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            linewidth=1.2,
            markersize=5,
            label=f"{line[0].entry.name}, {settings}" if settings else line[0].entry.name,
            gid=series(line[0].entry.name, "over-training"),
        )
    axes.set_xlabel("step")
    axes.set_ylabel(metric(key).title)
    legend(figure, drawn)
    return figure, list(dict.fromkeys(point.source.path for line in found for point in line))


FIGURES = (
    Plan(
        "frontier",
        "Precision and recall",
        "Trained generators sampled at several settings: g is the strength of guidance, τ the temperature, k and p what "
        "top-k and top-p keep. Precision is the share of samples inside the data's manifold, recall the share of data "
        "inside the samples'. Up and right is better. The cross is the validation split judged as if it were samples.",
        "Precision against recall, the settings of each generator.",
        frontier,
    ),
    Plan(
        "over_training",
        "Samples over training",
        "Fréchet distance of samples drawn with the weights of several steps, all settings and the number of samples equal.",
        "Fréchet distance by training step, one line a generator.",
        over_training,
    ),
)
