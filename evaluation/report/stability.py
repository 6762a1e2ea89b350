"""Did training stay stable? Loss and gradient norm of every run, from the training logs.

A log ends before the first loss that is not finite; that the training ended there is a note in the record.
"""

import statistics
from typing import Any

import numpy as np

from evaluation.report.figures import NothingToDraw, legend, new_figure, plain_numbers, series
from evaluation.report.results import GENERATION, Entry, Results
from evaluation.report.tables import Field, Row, Table

SPIKE = 5.0
"""A step counts as a spike where the gradient norm is this many times the median of the steps before it."""
WINDOW = 20
FEWEST = 10
"""Rows of a log that its tenths can be told from."""
STOPPED = "training diverged"
"""How the note of a record begins whose training met a loss that is not finite (evaluation/generation.py)."""
FIELDS = (
    Field("seeds", "Seeds", "Training runs with a log, or with a record that they diverged.", True),
    Field("steps", "Steps", "Last step in the log.", True),
    Field("first_loss", "First loss", "Median of the first tenth of the log, mean over seeds.", True),
    Field("last_loss", "Last loss", "Median of the last tenth, mean over seeds.", True),
    Field("median_norm", "Median ‖g‖", "Median gradient norm before clipping, mean over seeds.", True),
    Field("largest_norm", "Largest ‖g‖", "Largest gradient norm of all seeds.", True),
    Field(
        "spikes",
        "Spikes",
        f"Steps whose norm is over {SPIKE:g} times the median of the {WINDOW} before, all seeds.",
        True,
    ),
    Field(
        "above_first",
        "Above first",
        "Share of the log's later rows whose loss is above the very first one, mean over seeds.",
        True,
    ),
    Field(
        "diverged",
        "Diverged",
        "Seeds that ended in a loss that is not finite, or whose last tenth lies above their first.",
        True,
    ),
)


def table(results: Results) -> Table:
    """One row for each tokenizer and generator with a training log."""
    rows = []
    for entry in (*(e for e in results.entries if not e.averaged), *results.generators):
        fields = _fields(results, entry)
        if fields:
            group = "Generators" if entry.tokenizer else "Tokenizers"
            # A generator may be called like a tokenizer.
            name = f"generator {entry.name}" if entry.tokenizer else entry.name
            origins = next(iter(entry.sources.values()), ())
            rows.append(Row(name, entry, group, fields, {}, origins=dict.fromkeys(fields, origins) if origins else {}))
    caption = (
        "From the training logs. A loss holds each method's own terms, so compare it with itself and not between rows; "
        "gradient norms are before clipping."
    )
    return Table("stability", "Stability of training", caption, FIELDS, (), tuple(rows), "run")


def _fields(results: Results, entry: Entry) -> dict[str, Any]:
    """The columns of an entry; empty where it has neither a log nor a record of divergence."""
    broken = stopped(entry)
    logs = {seed: log for seed in entry.seeds if (log := results.log(entry, seed)) is not None and len(log) >= FEWEST}
    ended = {seed for seed, log in logs.items() if diverged(log)}
    found: dict[str, Any] = {"seeds": len({*logs, *broken}), "diverged": len({*ended, *broken})}
    if logs:
        tenths = [_tenths(log) for log in logs.values()]
        norms = [log["grad_norm"] for log in logs.values()]
        found |= {
            "steps": int(max(log["step"].max() for log in logs.values())) + 1,
            "first_loss": statistics.fmean(t[0] for t in tenths),
            "last_loss": statistics.fmean(t[-1] for t in tenths),
            "median_norm": statistics.fmean(float(norm.median()) for norm in norms),
            "largest_norm": max(float(norm.max()) for norm in norms),
            "spikes": sum(spikes(norm) for norm in norms),
            "above_first": statistics.fmean(above_first(log) for log in logs.values()),
        }
    return found if found["seeds"] else {}


def stopped(entry: Entry) -> set[int]:
    """The seeds whose training ended in a loss that is not finite, by the notes of their records."""
    sources = entry.sources.get(GENERATION, ())
    return {s.record.seed for s in sources if any(note.startswith(STOPPED) for note in s.record.notes)}


def _tenths(log: Any) -> list[float]:
    """Median loss of each tenth of a log."""
    return [float(np.median(part)) for part in np.array_split(log["loss"].to_numpy(dtype=float), 10)]


def spikes(norm: Any) -> int:
    """Steps of a series of gradient norms that are far above the median of those before them."""
    before = norm.rolling(WINDOW, min_periods=WINDOW).median().shift(1)
    return int((norm > SPIKE * before).sum())


def above_first(log: Any) -> float:
    """Share of the rows after the first whose loss is above the first one, or not finite."""
    loss = log["loss"].to_numpy(dtype=float)
    return float(np.mean(~(loss[1:] <= loss[0])))


def diverged(log: Any) -> bool:
    """Whether a log's loss ends above where it began: the medians of its last and first tenth."""
    tenths = _tenths(log)
    return tenths[-1] > tenths[0]


_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6C42AD", "#A29A35")
_STYLES = ("-", "--", "-.", ":")


def _running(column: Any) -> Any:
    """A running mean over a tenth of a log: single steps are of few images."""
    kept = column.astype("float64").rolling(max(1, len(column) // 10), min_periods=1).mean()
    return kept[~kept.index.duplicated(keep="last")]


def figure(results: Results) -> tuple[Any, list[str]]:
    """Loss and gradient norm of the generators' training: a line an arm, the mean over seeds, which are faint lines."""
    import pandas as pd

    arms = []
    for entry in results.generators:
        logs = [log for seed in entry.seeds if (log := results.log(entry, seed)) is not None and len(log) > 1]
        if logs:
            arms.append((entry, logs))
    if not arms:
        raise NothingToDraw("no generator has a training log yet")
    drawn = new_figure(5.6, 4.2)
    panels = drawn.subplots(2, 1, sharex=True)
    lines = []
    for axes, key, label in zip(panels, ("loss", "grad_norm"), ("loss", "gradient norm (log)"), strict=True):
        axes.set_title(label)
        for number, (entry, logs) in enumerate(arms):
            # All arms may be of one method, whose colour would then say nothing.
            colour, style = _COLOURS[number % len(_COLOURS)], _STYLES[number % len(_STYLES)]
            curves = [_running(log.set_index("step")[key]) for log in logs]
            for seed, curve in enumerate(curves):
                gid = series(entry.name, f"{key}-{seed}")
                axes.plot(curve.index, curve.to_numpy(), color=colour, linewidth=0.6, alpha=0.35, gid=gid)
            mean = pd.concat(curves, axis=1).mean(axis=1)
            (line,) = axes.plot(
                mean.index,
                mean.to_numpy(),
                color=colour,
                linestyle=style,
                linewidth=1.5,
                label=entry.name,
                gid=series(entry.name, f"{key}-mean"),
            )
            if axes is panels[0]:
                lines.append(line)
    panels[1].set_yscale("log")
    plain_numbers(panels[1].yaxis)
    panels[1].set_xlabel("step")
    legend(drawn, lines)
    return drawn, [results.log_path(entry, seed) for entry, _ in arms for seed in entry.seeds]
