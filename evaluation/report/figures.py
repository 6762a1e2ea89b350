"""Figures from records, training logs and stored pictures: SVG and PNG, one style sheet, the same bytes every time."""

import concurrent.futures
import contextlib
import dataclasses
import importlib
import io
import itertools
import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.report import images, looks, tables
from evaluation.report.results import Results
from latticebench.files import whole

STYLE = Path(__file__).with_name("style.mplstyle")
PHOTOGRAPHS_DPI = 150
INK, MUTED, GRID = "#1F2328", "#57606A", "#D9DDE2"


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure as a page shows it. `missing` says why nothing could be drawn. svg: None then, and for photographs."""

    name: str
    title: str
    caption: str
    alt: str
    svg: str | None
    missing: str | None
    sources: tuple[str, ...] = ()


class NothingToDraw(Exception):
    """The records that a figure needs are not there; the text says which."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A figure that can be drawn. function: results -> figure and the files that it was made from.

    photographs: it is made of pixels, so there is a PNG file and no SVG.
    """

    name: str
    title: str
    caption: str
    alt: str
    function: Callable[[Results], tuple[Any, list[str]]]
    photographs: bool = False


def draw(results: Results, folder: str | Path, plans: Iterable[Plan]) -> list[Drawing]:
    """Draws the plans that the results allow, into <folder>/<name>.png and, but for photographs, .svg."""
    with drawing([(results, plan) for plan in plans], folder) as drawn:
        return list(drawn)


@contextlib.contextmanager
def drawing(
    tasks: Sequence[tuple[Results, Plan]], folder: str | Path, processes: int = 1
) -> Iterator[Iterable[Drawing]]:
    """The same for pairs of results and plan. Where the system can fork, other processes draw during the block."""
    if processes < 2 or len(tasks) < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield (_drawn(results, plan, Path(folder)) for results, plan in tasks)
        return
    _inherited[:] = tasks
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"):
        importlib.import_module(module)  # once, and not in each process
    try:
        fork = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(processes, fork) as pool:
            yield pool.map(_draw_inherited, range(len(tasks)), itertools.repeat(Path(folder)))
    finally:
        _inherited.clear()


_inherited: list[tuple[Results, Plan]] = []


def _draw_inherited(number: int, folder: Path) -> Drawing:
    return _drawn(*_inherited[number], folder)


def _drawn(results: Results, plan: Plan, folder: Path) -> Drawing:
    import matplotlib
    from matplotlib import style

    about = (plan.name, plan.title, plan.caption, plan.alt)
    with matplotlib.rc_context(), style.context(STYLE):
        try:
            figure, sources = plan.function(results)
        except NothingToDraw as reason:
            return Drawing(*about, None, str(reason))
        svg = _save(figure, folder / plan.name, plan.photographs)
        return Drawing(*about, svg, None, tuple(sources))


def _save(figure: Any, stem: Path, photographs: bool) -> str | None:
    """Writes the files; returns the SVG text. Nothing in them depends on the day or the machine's user."""
    from matplotlib import rc_context

    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    # The layout is solved once and kept. The figure has no engine after that, not even the placeholder that "none"
    # stands for: with one, matplotlib draws everything twice for each file.
    with rc_context({"figure.constrained_layout.use": False, "figure.autolayout": False}):
        figure.set_layout_engine(None)
        return _write(figure, stem, photographs)


def _write(figure: Any, stem: Path, photographs: bool) -> str | None:
    settings = {"dpi": PHOTOGRAPHS_DPI} if photographs else {}
    with whole(stem.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", facecolor="white", metadata={"Software": "latticebench"}, **settings)
    if photographs:
        return None
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": "latticebench"})
    with whole(stem.with_suffix(".svg")) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    return text.getvalue()


def new_figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def powers_of_ten(*axes: Any) -> None:
    """Labels logarithmic axes 10ⁿ in plain text: matplotlib's own formulas for such labels take seconds to set."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    def label(value: float, _: int | None) -> str:
        exponent = round(math.log10(value))
        return f"10{str(exponent).translate(_RAISED)}" if math.isclose(value, 10.0**exponent) else ""

    for axis in axes:
        axis.set_major_formatter(FuncFormatter(label))
        axis.set_minor_formatter(NullFormatter())


def plain_numbers(axis: Any) -> None:
    """Labels a logarithmic axis of few decades 0.5, 1, 2, …: as many of the steps between as have room."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        """LogFormatter's choice of ticks, without its exponents: it writes 0.6 as 6e-01."""

        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain(minor_thresholds=(1.5, 0.5)))


def entry_looks(results: Results) -> dict[str, looks.Look]:
    return looks.looks((entry.name, entry.method) for entry in results.entries)


def series(name: str, kind: str) -> str:
    """The id of a mark in the SVG: the page highlights and hides a quantizer by it."""
    return f"series:{name}:{kind}"


def rate_distortion(results: Results) -> tuple[Any, list[str]]:
    """PSNR against rate: the empirical entropy (mark) and the nominal rate (tick), one mark a quantizer."""
    look = entry_looks(results)
    figure = new_figure(5.6, 4.6)
    axes = figure.add_subplot()
    used: list[str] = []
    drawn = []
    for entry in results.entries:
        psnr, entropy, nominal = (entry.cell(key) for key in ("psnr", "entropy_bpp", "nominal_bpp"))
        if psnr is None or psnr.value is None or (not entry.ceiling and (entropy is None or entropy.value is None)):
            continue
        used += [source.path for cell in (psnr, entropy, nominal) if cell for source in cell.sources]
        style = look[entry.name]
        if entry.ceiling:
            # Often ten decibels above the rest: a line there would press all marks together at the bottom.
            axes.annotate(
                f"{entry.name}, without quantization: {psnr.value:.2f} dB ↑",
                (0.0, 1.0),
                xycoords="axes fraction",
                xytext=(0, 5),
                textcoords="offset points",
                fontsize=8,
                color=style.colour,
            )
            continue
        assert entropy is not None
        if nominal is not None and nominal.value is not None:
            axes.plot(
                [entropy.value, nominal.value],
                [psnr.value, psnr.value],
                color=style.colour,
                linewidth=0.9,
                alpha=0.55,
                marker="|",
                markevery=[1],
                markersize=6,
                zorder=2,
                gid=series(entry.name, "gap"),
            )
        for source in psnr.sources if psnr.n > 1 else ():
            value = source.record.values["psnr"].value
            rate = next(
                (s.record.values["entropy_bpp"].value for s in entropy.sources if s.record.seed == source.record.seed),
                None,
            )
            if value is not None and rate is not None:
                axes.plot(
                    rate,
                    value,
                    ".",
                    color=style.colour,
                    markersize=3,
                    alpha=0.7,
                    zorder=3,
                    gid=series(entry.name, f"seed{source.record.seed}"),
                )
        (line,) = axes.plot(
            entropy.value,
            psnr.value,
            style.marker,
            color=style.colour,
            markeredgecolor="white",
            markeredgewidth=0.6,
            markersize=9 if style.marker in "*XP" else 7,
            linestyle="none",
            label=entry.name,
            zorder=4,
            gid=series(entry.name, "mean"),
        )
        drawn.append((psnr.value, line))
    if not drawn:
        raise NothingToDraw("no quantizer has both a PSNR and an entropy rate yet")
    axes.set_xlabel("bits per pixel (mark: empirical entropy, tick: nominal log2 K)")
    axes.set_ylabel("PSNR (dB)")
    axes.margins(x=0.06, y=0.1)
    legend(figure, [line for _, line in sorted(drawn, key=lambda pair: -pair[0])])
    return figure, used


def legend(figure: Any, lines: list[Any]) -> None:
    made = figure.legend(handles=lines, loc="outside lower left", ncols=4, handletextpad=0.5, columnspacing=1.2)
    for text, line in zip(made.get_texts(), lines, strict=True):
        text.set_gid(series(line.get_label(), "label"))


def usage(results: Results) -> tuple[Any, list[str]]:
    """Frequency of the used codes by rank, both axes logarithmic, with the uniform source as a reference."""
    look = entry_looks(results)
    figure = new_figure(5.6, 4.5)
    axes = figure.add_subplot()
    lines, used = [], []
    for entry in results.entries:
        sources = [s for s in entry.sources.get("codebook", ()) if "count" in s.record.arrays]
        if not sources:
            continue
        counts = expand(sources[0].record.arrays)
        if not len(counts):
            continue
        used.append(sources[0].path)
        ranks = np.unique(np.round(np.geomspace(1, len(counts), 160)).astype(int))
        style = look[entry.name]
        (line,) = axes.plot(
            ranks,
            counts[ranks - 1] / counts.sum(),
            color=style.colour,
            linestyle=style.line,
            label=entry.name,
            gid=series(entry.name, "curve"),
        )
        axes.plot(
            len(counts),
            counts[-1] / counts.sum(),
            style.marker,
            color=style.colour,
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            gid=series(entry.name, "end"),
        )
        line.set_marker("none")
        lines.append((len(counts), line))
    if not lines:
        raise NothingToDraw("no codebook record holds a histogram yet")
    size = tables.equal_size(results.entries)
    if size:
        axes.axhline(1 / size, color=MUTED, linestyle=(0, (1, 2)), linewidth=1)
        axes.annotate(
            f"uniform over {size:,} codes",
            (0, 1 / size),
            xycoords=("axes fraction", "data"),
            va="top",
            xytext=(4, -3),
            textcoords="offset points",
            fontsize=8,
            color=MUTED,
        )
        axes.margins(y=0.08)
    axes.set(xscale="log", yscale="log", xlabel="rank of the code", ylabel="share of tokens")
    powers_of_ten(axes.xaxis, axes.yaxis)
    legend(figure, [line for _, line in sorted(lines, key=lambda pair: -pair[0])])
    return figure, used


def expand(arrays: dict[str, list[Any]]) -> np.ndarray:
    """Counts of the used codes, most used first, from the run-length form of `evaluation.codebooks.histogram`."""
    counts = np.asarray(arrays["count"], dtype=np.int64)
    return (
        np.repeat(counts, np.asarray(arrays["codes"], dtype=np.int64)) if "codes" in arrays else np.sort(counts)[::-1]
    )


_CURVES = (
    ("l1", "ℓ1 error (log)", True),
    ("grad_norm", "gradient norm (log)", True),
    ("codes_used", "codes used, last window", False),
    ("loss", "training loss, all terms (log)", True),
)


def training(results: Results) -> tuple[Any, list[str]]:
    """Training curves: a running median of each seed's log, then the mean over seeds."""
    import pandas as pd

    look = entry_looks(results)
    logs = []
    for entry in (entry for entry in results.entries if not entry.averaged):
        found = [log for seed in entry.seeds if (log := results.log(entry, seed)) is not None and len(log) > 1]
        if found:
            logs.append((entry, found))
    if not logs:
        raise NothingToDraw("no training log is there yet")
    columns = [c for c in _CURVES if any(c[0] in log for _, found in logs for log in found)]
    figure = new_figure(5.6, 1.6 * len(columns) + 1.0)
    panels = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
    lines = []
    for axes, (key, label, log_scale) in zip(panels, columns, strict=True):
        axes.set_title(label)
        if log_scale:
            axes.set_yscale("log")
            plain_numbers(axes.yaxis)
        for entry, found in logs:
            curves = [smooth(log.set_index("step")[key]) for log in found if key in log]
            if entry.ceiling and key == "codes_used":
                continue
            if not curves:
                continue
            mean = pd.concat(curves, axis=1).mean(axis=1)
            style = look[entry.name]
            (line,) = axes.plot(
                mean.index,
                mean.to_numpy(),
                color=style.colour,
                linestyle=style.line,
                linewidth=1.2,
                label=entry.name,
                gid=series(entry.name, f"curve-{key}"),
            )
            if axes is panels[0]:
                lines.append(line)
    panels[-1].set_xlabel("step")
    legend(figure, lines)
    used = [results.log_path(e, s) for e, _ in logs for s in e.seeds]
    return figure, used


def smooth(column: Any) -> Any:
    window = max(1, len(column) // 40)
    smooth = column.astype("float64").rolling(window, min_periods=1).median()
    return smooth[~smooth.index.duplicated(keep="last")]


_PICTURES = 3
_INSET = 4
_CELL = 128
"""Pictures of the grid, how much their insets magnify, and roughly the side of a cell in pixels."""
_GAP = 2
"""White pixels around a cell."""


def reconstructions(results: Results) -> tuple[Any, list[str]]:
    """A few pictures: the original's row, then each quantizer's, each with a magnified inset and its error map."""
    strips = images.strips(results)
    if not strips:
        raise NothingToDraw("no stored pictures are there yet")
    count = strips[0].count
    chosen = sorted({round(i) for i in np.linspace(0, count - 1, min(_PICTURES, count))})
    pictures = images.split(strips[0].picture, count)
    places = [_busiest(pictures[i]) for i in chosen]
    # One image, laid out in pixels and shown at its own size: a grid of axes takes ten times as long to lay out.
    side = max(1, round(_CELL / len(pictures[0]))) * len(pictures[0])
    rows = [_row(strip, chosen, places, side) for strip in strips]
    canvas = opaque(np.concatenate(rows))
    height, width = rows[0].shape[:2]
    labels = [s.label if s.psnr is None else f"{s.label}\n{s.psnr:.2f} dB" for s in strips]
    left, head = 0.15 + 0.06 * max(len(line) for label in labels for line in label.split("\n")), 0.25  # inches, at 7 pt
    across, down = canvas.shape[1] / PHOTOGRAPHS_DPI, canvas.shape[0] / PHOTOGRAPHS_DPI
    figure = new_figure(left + across, head + down)
    figure.set_layout_engine("none")
    axes = figure.add_axes((left / (left + across), 0, across / (left + across), down / (head + down)))
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_yticks([(i + 0.5) * height for i in range(len(strips))], labels, fontsize=7)
    look = entry_looks(results)
    for strip, label in zip(strips, axes.get_yticklabels(), strict=True):
        label.set_color(look[strip.name].colour if strip.name in look else INK)
    cell = width / (3 * len(chosen))
    heads = ["picture", f"{_INSET} ×", "error"] * len(chosen)
    axes.set_xticks([(i + 0.5) * cell for i in range(len(heads))], heads, fontsize=7, color=MUTED)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return figure, [strip.path for strip in strips if strip.path]


def _row(strip: images.Strip, chosen: list[int], places: list[tuple[int, int, int]], side: int) -> np.ndarray:
    """A strip's chosen pictures, each with its inset and error map `side` pixels wide, as one image."""
    pictures = images.split(strip.picture, strip.count)
    errors = images.split(strip.error, strip.count) if strip.error is not None else None
    cells = []
    for i, (top, left, extent) in zip(chosen, places, strict=True):
        framed = _enlarge(pictures[i], side)
        scale = len(framed) / len(pictures[i])
        ends = [round(edge * scale) for edge in (top, top + extent, left, left + extent)]
        _frame(framed[ends[0] : ends[1], ends[2] : ends[3]], 1)
        inset = _enlarge(pictures[i][top : top + extent, left : left + extent], side)
        _frame(inset, 2)
        error = _enlarge(errors[i], side) if errors else np.full_like(framed, 255)
        around = ((_GAP, _GAP), (_GAP, _GAP), (0, 0))
        cells += [np.pad(cell, around, constant_values=255) for cell in (framed, inset, error)]
    return np.concatenate(cells, axis=1)


def opaque(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 -> (h, w, 4): to pixels without alpha matplotlib adds its own in float64, and is twice as slow."""
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])


def _enlarge(pixels: np.ndarray, side: int) -> np.ndarray:
    """The picture at `side` pixels by its nearest ones; a copy."""
    rows, columns = (np.arange(side) * extent // side for extent in pixels.shape[:2])
    return pixels[rows][:, columns].copy()


def _frame(pixels: np.ndarray, width: int) -> None:
    """Paints a frame on the edge of a picture, in place."""
    for edge in (np.s_[:width], np.s_[-width:], np.s_[:, :width], np.s_[:, -width:]):
        pixels[edge] = (213, 94, 0)


def _busiest(picture: np.ndarray) -> tuple[int, int, int]:
    """Top, left and side of the square, a quarter of the picture's side, whose grey levels vary most."""
    grey = picture.astype(np.float32).mean(-1)
    side = max(4, min(grey.shape) // _INSET)
    tops, lefts = (range(0, size - side + 1, max(1, side // 4)) for size in grey.shape)
    scored = [(float(grey[t : t + side, x : x + side].std()), t, x) for t in tops for x in lefts]
    _, top, left = max(scored)
    return top, left, side


def smallest_distance(results: Results) -> tuple[Any, list[str]]:
    """δ_min against K, one panel a dimension, one line a construction."""
    panels: dict[int, dict[str, list[tuple[int, float]]]] = {}
    used = []
    for entry in results.geometry:
        suites = tuple(entry.sources)
        delta, size = entry.number("delta_min", suites), tables.codebook_size(entry)
        if delta is None or size is None or entry.dim is None:
            continue
        used += [source.path for found in entry.sources.values() for source in found]
        panels.setdefault(entry.dim, {}).setdefault(entry.method, []).append((size, delta))
    # A dimension with a single codebook is a number for the table, not a curve.
    counts = {dim: sum(map(len, methods.values())) for dim, methods in panels.items()}
    dims = sorted((dim for dim in panels if counts[dim] > 1), key=lambda dim: (-counts[dim], dim))[:3]
    if not dims:
        raise NothingToDraw("no dimension has two geometry records with a smallest distance yet")
    figure = new_figure(5.6, 3.2)
    lines: dict[str, Any] = {}
    methods = sorted({method for dim in dims for method in panels[dim]})
    look = looks.looks((method, method) for method in methods)
    for axes, dim in zip(figure.subplots(1, len(dims), squeeze=False)[0], sorted(dims), strict=True):
        for method, points in sorted(panels[dim].items()):
            sizes, deltas = zip(*sorted(points), strict=True)
            (line,) = axes.plot(
                sizes,
                deltas,
                color=look[method].colour,
                marker=look[method].marker,
                linestyle="-",
                linewidth=1,
                label=method,
                clip_on=False,
                zorder=3,
                gid=series(method, f"delta-{dim}"),
            )
            lines.setdefault(method, line)
        axes.set(xscale="log", title=f"d = {dim}", xlabel="codebook size K")
        powers_of_ten(axes.xaxis)
        axes.xaxis.set_minor_formatter("")
        axes.set_ylim(bottom=0)
    figure.axes[0].set_ylabel("smallest distance δ_min")
    legend(figure, list(lines.values()))
    return figure, used


SUITE: tuple[Plan, ...] = (
    Plan(
        "rate_distortion",
        "Rate and distortion",
        "PSNR against rate, one mark a quantizer (mean over seeds; small dots are the seeds). The mark stands at the "
        "empirical entropy of the tokens, the tick at the nominal rate log2 K: the line between is capacity left "
        "unused. Neither is a coded size. The ceiling above the axes is the same network without quantization. Sampling intervals "
        "are in the table: all quantizers see the same images, so compare by the paired marks there.",
        "Scatter plot of PSNR against bits per pixel for every quantizer, with the unquantized ceiling named above the axes.",
        rate_distortion,
    ),
    Plan(
        "usage",
        "Use of the codebook",
        "Share of all evaluation tokens that each code takes, codes sorted from the most to the least used, first "
        "seed. A curve that ends early leaves the rest of its codes unused; a flat one spends its bits evenly. With "
        "finitely many tokens even a uniform source shows a slope.",
        "Log-log curves of code frequency by rank, one line a quantizer.",
        usage,
    ),
    Plan(
        "training",
        "Training",
        "Running medians of the training log, mean over seeds. The ℓ1 error is the part of the loss that all share "
        "and the proxy of PSNR; the whole loss holds each method's own terms and is not comparable between methods.",
        "Line plots of training error, gradient norm, codes used and loss by step, one line a quantizer.",
        training,
    ),
    Plan(
        "reconstructions",
        "Reconstructions",
        "Pictures of the evaluation split, the same for every quantizer; the framed square four times as large beside "
        "them, and the absolute error: mean of the channels, black at 0 and brightest at 64 of 255 grey levels, the "
        "same scale everywhere.",
        "Grid of original pictures and their reconstruction by each quantizer, with magnified insets and error maps.",
        reconstructions,
        photographs=True,
    ),
)

SHARED: tuple[Plan, ...] = (
    Plan(
        "smallest_distance",
        "Smallest distance between codes",
        "δ_min, the smallest distance between two code vectors on the unit sphere, against the size of the codebook "
        "(after Figure 2 of arXiv:2512.14697). Larger is better spread.",
        "Plots of smallest distance against codebook size, one panel a dimension.",
        smallest_distance,
    ),
)
