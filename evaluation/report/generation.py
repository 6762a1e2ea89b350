"""The report's part on generators: their table, token frequencies, sample grids."""

from pathlib import Path
from typing import Any

import numpy as np

from evaluation.report import looks, stability, sweeps, tables
from evaluation.report.figures import NothingToDraw, Plan, legend, new_figure, powers_of_ten, series
from evaluation.report.results import GENERATION, Entry, Results, Source, metric
from evaluation.report.tables import Field, Row, Table

_ACROSS, _LARGEST = 12, 48


def table(results: Results) -> Table:
    """Everything that was measured of the samples, the oracle's row first."""
    entries = (*results.oracles, *results.generators)
    keys = dict.fromkeys(key for entry in entries for key in entry.keys(GENERATION))
    rows = [
        Row(
            key=entry.name,
            entry=entry,
            group="Generators" if entry.tokenizer else "Ceiling: real images in the place of samples",
            fields=_fields(results, entry),
            cells={key: cell for key in keys if (cell := entry.cell(key, (GENERATION,))) is not None},
        )
        for entry in entries
    ]
    fields = (
        Field("tokenizer", "Tokenizer", "The quantizer entry whose tokens it models."),
        Field("head", "Head", "One prediction among all codes, or one for each digit."),
        Field("optimizer", "Optimizer", "What moves its parameters."),
    )
    caption = (
        "Samples judged against the training images, and the held-out likelihood of tokens. Likelihoods of two "
        "tokenizers are comparable in bits per pixel, not per token."
    )
    built = Table("generation", "Generators", caption, fields, tuple(map(metric, keys)), tuple(rows), "generator")
    return tables.checked(built)


def _fields(results: Results, entry: Entry) -> dict[str, Any]:
    if not entry.tokenizer:
        return {}
    options = entry.spec["generation"]
    return {
        "tokenizer": next((e.name for e in results.entries if e.id == entry.tokenizer), entry.tokenizer),
        "head": options["head"]["kind"],
        "optimizer": options["training"].get("optimizer"),
    }


def _look(entries: tuple[Entry, ...]) -> dict[str, looks.Look]:
    return looks.looks((entry.name, entry.method) for entry in entries)


def _first(entry: Entry, array: str) -> Source | None:
    """The first seed's record that holds an array."""
    return next((s for s in entry.sources.get(GENERATION, ()) if s.record.arrays.get(array)), None)


def token_frequencies(results: Results) -> tuple[Any, list[str]]:
    """Sorted frequencies of the samples' tokens (lines) and of as many tokens of data (dotted)."""
    found = [(entry, source) for entry in results.generators if (source := _first(entry, "token_ranks"))]
    if not found:
        raise NothingToDraw("no generator's tokens were counted yet")
    look = _look(results.generators)
    figure = new_figure(5.6, 4.2)
    axes = figure.add_subplot()
    lines = []
    for entry, source in found:
        arrays, style = source.record.arrays, look[entry.name]
        ranks = np.asarray(arrays["token_ranks"])
        for side, line_style in (("data", (0, (1, 2))), ("samples", style.line)):
            shares = np.asarray(arrays[f"token_frequencies_{side}"], dtype=float)
            (line,) = axes.plot(
                ranks[shares > 0],
                shares[shares > 0],
                color=style.colour,
                linestyle=line_style,
                linewidth=1.2,
                label=entry.name,
                gid=series(entry.name, f"frequency-{side}"),
            )
        lines.append(line)
    axes.set(xscale="log", yscale="log", xlabel="rank of the code", ylabel="share of tokens")
    powers_of_ten(axes.xaxis, axes.yaxis)
    legend(figure, lines)
    return figure, [source.path for _, source in found]


def samples(results: Results) -> tuple[Any, list[str]]:
    """A row of stored samples for each generator."""
    found = [(entry, grid, path) for entry in results.generators for grid, path in [_grid(results, entry)] if path]
    if not found:
        raise NothingToDraw("no stored samples are there yet")
    figure = new_figure(0.62 * _ACROSS + 1.4, 0.66 * len(found) + 0.2)
    look = _look(results.generators)
    for axes, (entry, grid, _) in zip(figure.subplots(len(found), 1, squeeze=False)[:, 0], found, strict=True):
        axes.imshow(np.concatenate(list(grid), axis=1), interpolation="nearest", aspect="equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_ylabel(
            entry.name, rotation=0, ha="right", va="center", color=look[entry.name].colour, fontsize=8, labelpad=5
        )
    return figure, [path for _, _, path in found]


def _grid(results: Results, entry: Entry) -> tuple[np.ndarray | None, str]:
    """The first seed's stored samples (n, h, w, 3) uint8, evenly chosen, and where they lie."""
    for source in entry.sources.get(GENERATION, ()):
        file = source.record.files.get("grid")
        path = (results.root / source.path).parent / file.path if file else None
        if path is not None and path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                pictures = next((stored[key] for key in stored.files if stored[key].ndim == 4), None)
            if pictures is not None:
                chosen = np.linspace(0, len(pictures) - 1, min(_ACROSS, len(pictures))).round().astype(int)
                step = max(1, -(-pictures.shape[1] // (2 * _LARGEST)))
                return pictures[chosen][:, ::step, ::step], _relative(results.root, path)
    return None, ""


def _relative(root: Path, path: Path) -> str:
    return path.resolve().relative_to(root.resolve()).as_posix()


FIGURES = (
    *sweeps.FIGURES,
    Plan(
        "token_frequencies",
        "Token frequencies",
        "Share of each code among the samples' tokens, sorted; dotted, the same for as many tokens of the data. A line "
        "that falls faster than its dotted one has dropped rare codes.",
        "Log-log curves of token frequency by rank, for samples and for data.",
        token_frequencies,
    ),
    Plan(
        "samples",
        "Samples",
        "Stored samples of each generator's first seed, evenly chosen, never picked by quality.",
        "A row of generated pictures for each generator.",
        samples,
        photographs=True,
    ),
    Plan(
        "stability",
        "Loss and gradient norm of the generators",
        "Running means over a tenth of the training logs: a line a generator, the mean over its seeds, which are the pale "
        "lines. A run that stops early diverged there.",
        "Loss and gradient norm by training step, one line a generator.",
        stability.figure,
    ),
)
