"""The report's part on real bitstreams: curves of coded sizes beside the classical codecs, and their differences."""

import dataclasses
import re
from typing import Any

import numpy as np

from evaluation.compression import bjontegaard
from evaluation.compression.format import MODES
from evaluation.metrics import METRICS
from evaluation.report import figures, looks, published, tables
from evaluation.report.results import Entry, Results, Source
from latticebench.files import canonical_json

SUITE = "compression"
ANCHOR = "jpeg-420"
"""The codec that Bjøntegaard's differences are against."""
QUALITIES = ("psnr", "ms_ssim", "lpips_alex")
_LINE = 0.03
"""Share of a panel's height that a small label takes."""
_CODEC_LINES = {
    "jpeg-420": ("#57606A", "-"),
    "jpeg-444": ("#57606A", (0, (4, 2))),
    "webp": ("#8A6D3B", "-"),
    "jpeg2000": ("#3B6E8A", "-"),
    "avif": ("#5B8A3B", "-"),
    "jpeg-xl": ("#8A3B6E", "-"),
}


@dataclasses.dataclass(frozen=True)
class Curve:
    """Means over images, sorted by rate. rate: coded bits per pixel. qualities: metric -> one number a point.

    method: a quantizer's, or a codec's name. kind: "tokenizer" or "codec". sources: its records.
    prior: that all points of a tokenizer's curve are coded with.
    """

    name: str
    method: str
    kind: str
    rate: tuple[float, ...]
    qualities: dict[str, tuple[float, ...]]
    sources: tuple[Source, ...] = ()
    prior: str | None = None


def table(results: Results) -> tables.Table:
    """Coded sizes under each prior, beside what the prior alone would cost."""
    return tables.suite(
        results,
        SUITE,
        "Coded sizes",
        "Bits per pixel of files that were written, decoded in a fresh process and compared token by token. Every file "
        "carries a header of 24 bytes and a checksum of 4, much for small images. Prior bpp is the cross-entropy alone.",
    )


def differences(results: Results) -> tables.Table:
    """Bjøntegaard's differences of every curve against JPEG 4:2:0, or the reason why there is none."""
    curves = [*tokenizer_curves(results), *codec_curves(results)]
    anchor = next((curve for curve in curves if curve.method == ANCHOR), None)
    rows = []
    for curve in curves:
        if curve is anchor:
            continue
        rate, quality, reason = _against(anchor, curve)
        fields: dict[str, Any] = {
            "points": len(curve.rate),
            "prior": curve.prior,
            "low": min(curve.rate),
            "high": max(curve.rate),
            "bd_rate": rate,
            "bd_psnr": quality,
            "why": reason,
        }
        origins = dict.fromkeys(("points", "low", "high", "bd_rate", "bd_psnr"), curve.sources)
        rows.append(tables.Row(curve.name, None, f"{curve.kind.capitalize()}s", fields, {}, origins=origins))
    fields_ = (
        tables.Field("points", "Points", "Rate points of the curve.", True),
        tables.Field("prior", "Prior", "That all points of a tokenizer's curve are coded with."),
        tables.Field("low", "Lowest bpp", "Coded bits per pixel, mean over images.", True),
        tables.Field("high", "Highest bpp", "Coded bits per pixel, mean over images.", True),
        tables.Field("bd_rate", "BD-rate (%)", "Mean difference in bits at equal PSNR; negative needs fewer.", True),
        tables.Field("bd_psnr", "BD-PSNR (dB)", "Mean difference in PSNR at equal bits; positive is better.", True),
        tables.Field("why", "Why empty", "Why there is no difference."),
    )
    caption = (
        "Bjøntegaard's differences against JPEG 4:2:0 with optimised Huffman tables, PCHIP through the means over "
        "images, over the common range. A tokenizer's curve is one quantizer at several sizes or strides."
    )
    return tables.Table("bjontegaard", "Against JPEG", caption, fields_, (), tuple(rows), "curve")


def _against(anchor: Curve | None, curve: Curve) -> tuple[float | None, float | None, str | None]:
    if anchor is None:
        return None, None, "JPEG 4:2:0 was not measured"
    ours = (anchor.rate, anchor.qualities["psnr"], curve.rate, curve.qualities["psnr"])
    numbers: list[float | None] = []
    reasons: list[str] = []
    for function in (bjontegaard.bd_rate, bjontegaard.bd_psnr):
        try:
            numbers.append(function(*ours))
        except bjontegaard.NoOverlap as error:
            numbers.append(None)
            reasons.append(str(error))
    return numbers[0], numbers[1], "; ".join(dict.fromkeys(reasons)) or None


_SIZES = {"codebook_size", "levels", "dim", "subset", "seed"}
"""Parameters in which the points of one curve may differ, beside the stride."""


def tokenizer_curves(results: Results) -> list[Curve]:
    """One curve a quantizer, its entries of other sizes and strides as points.

    All points of a curve are coded with one kind of prior: the one that all have and that makes the smallest files.
    """
    found: dict[str, list[Entry]] = {}
    for entry in results.entries:
        if entry.number("bpp_uniform", (SUITE,)) is not None and entry.number("psnr", (SUITE,)) is not None:
            found.setdefault(_family(entry), []).append(entry)
    return [_curve(entries) for entries in found.values()]


def _curve(entries: list[Entry]) -> Curve:
    rates = {kind: _numbers(entries, f"bpp_{kind}") for kind in MODES}
    rate, prior = min((sum(found), found, kind) for kind, found in rates.items() if found is not None)[1:]
    order = np.argsort(rate)
    qualities = {key: numbers for key in QUALITIES if (numbers := _numbers(entries, key)) is not None}
    name = min((entry.name for entry in entries), key=len)
    if len(entries) > 1:  # fsq-8, fsq-12, … are the points of fsq
        name = re.sub(r"-\d+$", "", name)
    return Curve(
        name,
        entries[0].method,
        "tokenizer",
        tuple(rate[i] for i in order),
        {key: tuple(numbers[i] for i in order) for key, numbers in qualities.items()},
        tuple(source for entry in entries for source in entry.sources[SUITE]),
        prior,
    )


def _numbers(entries: list[Entry], key: str) -> list[float] | None:
    """A value of each entry, or None where one lacks it."""
    numbers = [entry.number(key, (SUITE,)) for entry in entries]
    return None if None in numbers else [number for number in numbers if number is not None]


def _family(entry: Entry) -> str:
    """What the points of a curve share: everything of the specification but sizes and stride."""
    quantizer, tokenizer = entry.spec["quantizer"], entry.spec.get("tokenizer", {})
    parameters = {key: value for key, value in quantizer.get("parameters", {}).items() if key not in _SIZES}
    shared = {key: value for key, value in tokenizer.items() if key not in ("patch", "training")}
    return canonical_json([entry.method, parameters, shared])


def codec_curves(results: Results) -> list[Curve]:
    """The classical codecs' curves."""
    curves = []
    for source in results.codecs:
        arrays = source.record.arrays
        if not arrays.get("bpp"):
            continue
        order = np.argsort(arrays["bpp"])
        qualities = {key: tuple(float(arrays[key][i]) for i in order) for key in QUALITIES if key in arrays}
        rate = tuple(float(arrays["bpp"][i]) for i in order)
        curves.append(Curve(source.record.name, source.record.method, "codec", rate, qualities, (source,)))
    return curves


def published_points(results: Results) -> list[tuple[str, bool, float, dict[str, float]]]:
    """(method, whether the rate is nominal, rate, qualities) of the numbers in print for the coded images.

    Empty unless the images are Kodak's: on others no printed number is comparable.
    """
    names = {
        source.record.dataset.name
        for entry in results.entries
        for source in entry.sources.get(SUITE, ())
        if source.record.dataset is not None
    }
    if names != {"kodak"}:
        return []
    points: list[tuple[str, bool, float, dict[str, float]]] = []
    for number in published.numbers():
        if number.task != "compression" or number.dataset != "kodak":
            continue
        if number.metric in ("bpp", "nominal_bpp"):
            points.append((number.method, number.metric == "nominal_bpp", number.value, {}))
        elif points and points[-1][0] == number.method:
            points[-1][3][number.metric] = number.value
    return points


def curves(results: Results) -> tuple[Any, list[str]]:
    """Quality against coded bits per pixel, one panel a metric."""
    ours, codecs, printed = tokenizer_curves(results), codec_curves(results), published_points(results)
    keys = [key for key in QUALITIES if any(key in curve.qualities for curve in (*ours, *codecs))]
    if not ours or not keys:
        raise figures.NothingToDraw("no tokenizer has been coded yet")
    figure = figures.new_figure(5.6 if len(keys) == 1 else 4.2 * len(keys), 5.0)
    if printed:  # their names stand beside the panels
        figure.get_layout_engine().set(w_pad=0.12)
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axes, key in zip(panels, keys, strict=True):
        for curve in codecs:
            _draw_codec(axes, curve, key, handles)
        for curve in ours:
            _draw_tokenizer(axes, curve, key, handles)
        named: dict[str, tuple[float, float]] = {}
        for method, nominal, rate, qualities in printed:
            if key in qualities:
                _draw_published(axes, nominal, rate, qualities[key], handles)
                named[method] = max(named.get(method, (0.0, 0.0)), (rate, qualities[key]))
        axes.set_xlabel("coded bits per pixel, headers included")
        unit = METRICS[key].unit
        axes.set_ylabel(METRICS[key].title + (f" ({unit})" if unit else ""))
        _set_limits(axes, key, ours, codecs, [(rate, found[key]) for _, _, rate, found in printed if key in found])
        _name_published(axes, named)
    figures.legend(figure, list(handles.values()))
    return figure, [source.path for curve in (*ours, *codecs) for source in curve.sources]


def _set_limits(
    axes: Any, key: str, ours: list[Curve], codecs: list[Curve], printed: list[tuple[float, float]]
) -> None:
    """The tokenizers' rates, the numbers in print and each codec's low end; its curve leaves the panel beyond."""
    right = max(
        [1.6 * curve.rate[-1] for curve in ours]
        + [1.2 * curve.rate[0] for curve in codecs]
        + [1.2 * rate for rate, _ in printed]
    )
    shown = [
        quality
        for curve in (*ours, *codecs)
        if key in curve.qualities
        for rate, quality in zip(curve.rate, curve.qualities[key], strict=True)
        if rate <= right
    ] + [quality for _, quality in printed]
    margin = 0.06 * (max(shown) - min(shown)) or 0.5
    axes.set_xlim(0, right)
    axes.set_ylim(min(shown) - margin, max(shown) + margin)


def _draw_codec(axes: Any, curve: Curve, key: str, handles: dict[str, Any]) -> None:
    if key in curve.qualities:
        colour, line = _CODEC_LINES.get(curve.method, ("#57606A", ":"))
        (handle,) = axes.plot(
            curve.rate, curve.qualities[key], color=colour, linestyle=line, linewidth=1.1, label=curve.name, zorder=1
        )
        handles.setdefault(curve.name, handle)


def _draw_tokenizer(axes: Any, curve: Curve, key: str, handles: dict[str, Any]) -> None:
    if key in curve.qualities:
        look = looks.looks([(curve.name, curve.method)])[curve.name]
        (handle,) = axes.plot(
            curve.rate,
            curve.qualities[key],
            color=look.colour,
            marker=look.marker,
            markeredgecolor="white",
            markeredgewidth=0.6,
            linewidth=1.2,
            label=curve.name,
            zorder=3,
            gid=figures.series(curve.name, f"coded-{key}"),
        )
        handles.setdefault(curve.name, handle)


def _name_published(axes: Any, named: dict[str, tuple[float, float]]) -> None:
    """Names of points beside the panel, in the points' order and a line apart: the points themselves lie too close."""
    bottom, top = axes.get_ylim()
    place = top
    for method, point in sorted(named.items(), key=lambda pair: -pair[1][1]):
        place = min(place, point[1])
        axes.annotate(
            method,
            point,
            xytext=(1.02, (place - bottom) / (top - bottom)),
            textcoords="axes fraction",
            fontsize=6,
            color=figures.MUTED,
            va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": figures.MUTED, "shrinkB": 3, "relpos": (0, 0.5)},
        )
        place -= _LINE * (top - bottom)


def _draw_published(axes: Any, nominal: bool, rate: float, quality: float, handles: dict[str, Any]) -> None:
    (handle,) = axes.plot(
        rate,
        quality,
        "d" if nominal else "o",
        color=figures.INK,
        markerfacecolor="none",
        markersize=5,
        linestyle="none",
        label="in print, nominal rate" if nominal else "in print",
        zorder=2,
    )
    handles.setdefault(handle.get_label(), handle)


FIGURES = (
    figures.Plan(
        "coded_rate_distortion",
        "Coded rate and distortion",
        "Quality against bits per pixel of files that were written and read back, headers included; means over images. "
        "All points of a tokenizer's curve share one kind of prior, the best that all of them have. Lines without marks are the "
        "classical codecs on the same images. Open circles, where the images are Kodak's, are numbers in print; open "
        "diamonds are printed nominal rates (log2 K, nothing was coded) and not comparable with coded ones.",
        "Rate-distortion curves of the tokenizers' coded files and of classical codecs.",
        curves,
    ),
)
