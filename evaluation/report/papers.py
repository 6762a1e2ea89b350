"""The papers' tables, in their order of rows and columns, with this run's numbers beside the printed ones.

A dagger marks a difference that compares two scales or two protocols: other images, another size, another recipe. It is
shown all the same, because its sign and size are what a reader asks for first.
"""

import dataclasses
import statistics
from collections.abc import Callable, Iterable

from evaluation.metrics import METRICS, Metric
from evaluation.report import published
from evaluation.report.published import Published
from evaluation.report.results import GENERATION, SUITES, Cell, Entry, Results, Source, metric
from evaluation.report.tables import CODES, Field, Printed, Row, Table, bits, codebook_size, equal_size, size_origins

LAMBDA, LGQ, SIMVQ = "arXiv:2512.14697", "arXiv:2602.16086", "arXiv:2411.02038"
CEILING = "Ceiling"
OURS = "This run, not in the paper"
_COLUMNS = {"active_codes": "codes_used", "max_min_frequency_ratio": "frequency_ratio"}
"""Printed names of metrics that have another key here."""
_METHODS = {"leech-subset": "leech", "vqgan": "vq", "vq-4096": "vq", "lfq (Open-MAGVIT2)": "lfq"}
"""Printed names of methods that have another name here."""
_CODECS = {"jpeg420": "jpeg-420", "j2k-opj": "jpeg2000", "webp": "webp"}
_OURS_FIELD = Field("ours", "Our row", "The row of this run beside the printed one.")
RATIO = Metric(
    "frequency_ratio", "Max/min frequency", "", None, "Share of the most used code over that of the least used one.", 1
)


@dataclasses.dataclass(frozen=True)
class Match:
    """Our side of a printed row: its label, its cells by metric, and what the entry is."""

    name: str
    cells: dict[str, Cell]
    entry: Entry | None


def all_tables(results: Results) -> list[Table]:
    """Every paper's table in which this run has a row of its own."""
    built = [reconstruction(results), compression(results), ablation(results), sweep(results), use(results)]
    built += [generation(results), heads(results), others(results)]
    return [table for table in built if any(row.cells for row in table.rows)]


def reconstruction(results: Results) -> Table:
    """Table 5 of arXiv:2512.14697: the same method at the same codebook size."""
    numbers = [n for n in published.numbers() if n.work == LAMBDA and n.task == "reconstruction"]
    keys = ("psnr", "ssim", "lpips_alex", "rfid")
    return _table(
        results,
        "paper-reconstruction",
        "Reconstruction (Table 5)",
        "After Table 5 of arXiv:2512.14697 (ImageNet validation and COCO, 256 px).",
        numbers,
        keys,
        lambda first: _same(results, first, keys, exact=True),
        _quantizers(results, keys),
    )


def others(results: Results) -> Table:
    """Reconstruction in the other papers and repositories."""
    keys = ("psnr", "ssim", "rfid", "usage")
    numbers = [
        n
        for n in published.numbers()
        if n.task == "reconstruction" and n.work not in (LAMBDA, LGQ) and n.metric in keys
    ]
    return _table(
        results,
        "paper-others",
        "Reconstruction in other papers",
        "SimVQ, Open-MAGVIT2 and Infinity, as their repositories print it; ours is the same method at the same "
        "codebook size.",
        numbers,
        keys,
        lambda first: _same(results, first, keys, exact=True),
        [],
        group=lambda n: f"{n.work}, {n.dataset}, {n.resolution} px",
    )


def ablation(results: Results) -> Table:
    """Table 8 of arXiv:2512.14697: codebooks of equal size."""
    numbers = [n for n in published.numbers() if n.task == "reconstruction-ablation"]
    keys = ("rfid", "lpips_alex", "psnr")
    size = equal_size(results.entries)
    return _table(
        results,
        "paper-ablation",
        "Ablation at equal K (Table 8)",
        "After Table 8 of arXiv:2512.14697: codebooks of one size, then the whole Λ24. Ours: the same method at the "
        "size that most rows of this run share.",
        numbers,
        keys,
        lambda first: _same(results, first, keys, exact=first.codebook_size == 196_560),
        [m for m in _quantizers(results, keys) if m.entry and (m.entry.ceiling or codebook_size(m.entry) == size)],
    )


def sweep(results: Results) -> Table:
    """LGQ's comparison at an equal budget, and all rows of the same methods at other sizes."""
    numbers = [n for n in published.numbers() if n.work == LGQ]
    keys = ("rfid", "ssim", "psnr", "codes_used", "usage", "perplexity")
    budget = ("lgq", "fsq", "simvq", "vq")
    ours = [m for m in _quantizers(results, keys) if m.entry and (m.entry.ceiling or m.entry.method in budget)]
    ours.sort(key=lambda m: (m.entry is not None and not m.entry.ceiling, _size(m.entry)))
    return _table(
        results,
        "paper-sweep",
        "Equal budget (LGQ)",
        "After arXiv:2602.16086: learned and fixed grids at one codebook size, by fidelity and codes in use.",
        numbers,
        keys,
        lambda first: _same(results, first, keys, exact=False),
        ours,
    )


def use(results: Results) -> Table:
    """Use of the codebook, with what the papers print about it."""
    wanted = ("usage", "active_codes", "max_min_frequency_ratio")
    numbers = [n for n in published.numbers() if n.metric in wanted and n.task != "generation"]
    keys = ("usage", "relative_usage", "codes_used", "perplexity", "entropy_bits", RATIO.key)
    return _table(
        results,
        "paper-use",
        "Use of the codebook",
        "Shares of codes in use and how evenly (Figure 4 of arXiv:2512.14697 and others). Few tokens cannot use many "
        "codes: compare usage with a uniform source's at as many tokens.",
        numbers,
        keys,
        lambda first: _same(results, first, keys, exact=True),
        _quantizers(results, keys),
        group=lambda n: n.work,
    )


def compression(results: Results) -> Table:
    """Table 6 of arXiv:2512.14697, and the classical codecs as tensorflow/compression prints them."""
    points = _points()
    keys = ("nominal_bpp", "bpp", "psnr", "ms_ssim")
    ours = [found for entry in results.entries if (found := _coded(entry)) is not None]
    return _table(
        results,
        "paper-compression",
        "Compression (Table 6)",
        "After Table 6 of arXiv:2512.14697 (Kodak, 24 images), with classical codecs. Ours: bpp are coded bytes, "
        "headers included, under the prior that makes the smallest files; a codec's row is its setting of nearest rate.",
        [n for point in points for n in point],
        keys,
        lambda first: _coded_match(results, first, ours),
        ours,
        points=points,
    )


def generation(results: Results) -> Table:
    """Table 7 of arXiv:2512.14697."""
    numbers = [n for n in published.numbers() if n.task == "generation" and n.work == LAMBDA]
    keys = (
        "gfid",
        "inception_score",
        "precision",
        "recall",
        "fd_insuite_generation",
        "precision_insuite",
        "recall_insuite",
        "bits_per_token",
    )
    return _table(
        results,
        "paper-generation",
        "Generation (Table 7)",
        "After Table 7 of arXiv:2512.14697 (ImageNet, 256 px, 50,000 samples). Ours: generators over this run's "
        "tokenizers; the oracle's row judges validation images in the place of samples.",
        numbers,
        keys,
        lambda first: _generator(results, first, keys),
        _generators(results, keys),
        fields=(_OURS_FIELD,),
    )


def heads(results: Results) -> Table:
    """Table 9 of arXiv:2512.14697: prediction heads."""
    numbers = [n for n in published.numbers() if n.task == "generation-head"]
    keys = ("gfid", "recall", "fd_insuite_generation", "recall_insuite", "bits_per_token")
    both = {head(entry) for entry in results.generators} == {"full", "digits"}

    def match(first: Published) -> Match | None:
        kind = "full" if first.method.startswith("full") else "digits"
        alike = (e for e in results.generators if head(e) == kind and e.method.startswith("leech"))
        entry = next((e for e in alike if _tokens_size(results, e) == first.codebook_size), None)
        return _generator_match(entry, keys) if entry else None

    ours = _generators(results, keys) if both else []
    return _table(
        results,
        "paper-heads",
        "Prediction heads (Table 9)",
        "After Table 9 of arXiv:2512.14697: one prediction among all codes against a prediction for each digit.",
        numbers if both else [],
        keys,
        match,
        ours,
        fields=(_OURS_FIELD,),
    )


def head(entry: Entry) -> str:
    """Kind of a generator's prediction head: "full" or "digits"."""
    return entry.spec["generation"]["head"]["kind"]


# Rows ------------------------------------------------------------------------------------------


def _table(
    results: Results,
    name: str,
    title: str,
    caption: str,
    numbers: list[Published],
    keys: tuple[str, ...],
    match: Callable[[Published], Match | None],
    ours: Iterable[Match],
    *,
    fields: tuple[Field, ...] = (_OURS_FIELD, *CODES),
    group: Callable[[Published], str] = lambda n: f"{n.work}, {n.dataset or 'geometry'}",
    points: list[list[Published]] | None = None,
) -> Table:
    """Printed rows in their order, each with our match; the ceiling above, our other rows below."""
    ours = list(ours)
    top = [_own_row(m, CEILING) for m in ours if m.entry and m.entry.ceiling]
    middle, taken = [], set()
    keyed: dict[str, int] = {}
    for found in points or _grouped(numbers):
        first = found[0]
        matched = match(first)
        if matched:
            taken.add(matched.name)
        label = first.method + (f", K = {first.codebook_size:,}" if first.codebook_size else "")
        keyed[label] = keyed.get(label, 0) + 1
        key = label if keyed[label] == 1 else f"{label} ({keyed[label]})"
        middle.append(_printed_row(results, key, group(first), found, matched, keys))
    # A printed row may repeat a match (two data sets, two works): our own rows are those that stand nowhere above.
    rest = [_own_row(m, OURS) for m in ours if not (m.entry and m.entry.ceiling) and m.name not in taken]
    columns = tuple(RATIO if key == RATIO.key else metric(key) for key in keys)
    return Table(name, title, caption, fields, columns, (*top, *middle, *rest), "row")


def _grouped(numbers: list[Published]) -> list[list[Published]]:
    groups: dict[tuple[object, ...], list[Published]] = {}
    for n in numbers:
        groups.setdefault((n.work, n.dataset, n.resolution, n.method, n.codebook_size), []).append(n)
    return list(groups.values())


def _points() -> list[list[Published]]:
    """Kodak's operating points: each begins with its rate."""
    points: list[list[Published]] = []
    for n in published.numbers():
        if n.task == "compression":
            if n.metric in ("bpp", "nominal_bpp"):
                points.append([])
            points[-1].append(n)
    return points


def _own_row(match: Match, group: str) -> Row:
    entry = match.entry
    fields = {"ours": match.name, "K": codebook_size(entry) if entry and "quantizer" in entry.spec else None}
    fields["bits"] = bits(entry) if fields["K"] else None
    origins = size_origins(entry) if fields["K"] and entry else {}
    return Row(match.name, entry, group, fields, match.cells, origins=origins)


def _printed_row(
    results: Results, key: str, group: str, found: list[Published], match: Match | None, keys: tuple[str, ...]
) -> Row:
    first = found[0]
    printed = {}
    for n in found:
        column = _COLUMNS.get(n.metric, n.metric)
        if column not in keys:
            continue
        cell = match.cells.get(column) if match else None
        value = None if cell is None or cell.value is None else cell.value - n.value
        why = _why_not(results, match, cell, n) if match and value is not None else ""
        printed[column] = Printed(n, value, why)
    fields = {"ours": match.name if match else None, "K": first.codebook_size, "bits": first.bits}
    if match and match.entry and "quantizer" in match.entry.spec and (size := codebook_size(match.entry)):
        fields |= {"K": size, "bits": bits(match.entry)}  # the printed K stands in the row's label
    return Row(key, match.entry if match else None, group, fields, match.cells if match else {}, printed)


def _why_not(results: Results, match: Match, cell: Cell | None, number: Published) -> str:
    """Why a difference does not compare like with like; empty where it does."""
    reasons = []
    record = cell.sources[0].record if cell else None
    if number.dataset and record and record.dataset and record.dataset.name != number.dataset:
        reasons.append(f"images of {record.dataset.name}, in print {number.dataset}")
    side = results.data.get("size")
    if number.resolution.isdigit() and side and int(number.resolution) != side:
        reasons.append(f"{side} px, in print {number.resolution} px")
    size = codebook_size(match.entry) if match.entry and "quantizer" in match.entry.spec else None
    if size and number.codebook_size and size != number.codebook_size:
        reasons.append(f"K = {size:,}, in print {number.codebook_size:,}")
    if match.entry and "released" not in match.entry.spec:
        reasons.append("trained here by a recipe of its own")
    if number.protocol.startswith("unstated"):
        reasons.append("the protocol is not stated in print")
    elif "50k" in number.protocol and record and record.dataset and record.dataset.samples != 50_000:
        reasons.append(f"{record.dataset.samples:,} images, in print 50,000")
    return "; ".join(reasons)


def _same(results: Results, number: Published, keys: tuple[str, ...], exact: bool) -> Match | None:
    """Our row of the printed method, at the printed size or (not exact) at the size that most rows share."""
    averaged = number.method.endswith("-ema")
    method = number.method.removesuffix("-ema")
    method = _METHODS.get(method, method)
    wanted = number.codebook_size if exact else equal_size(results.entries)
    alike = [e for e in results.entries if e.method == method and e.averaged == averaged]
    found = [e for e in alike if wanted and codebook_size(e) == wanted]
    entry = min(found, key=lambda e: e.name != method, default=None)
    return _match(entry, keys) if entry else None


def _match(entry: Entry, keys: tuple[str, ...]) -> Match:
    cells = {key: cell for key in keys if (cell := _cell(entry, key)) is not None}
    return Match(entry.name, cells, entry)


def _cell(entry: Entry, key: str) -> Cell | None:
    return frequency_ratio(entry) if key == RATIO.key else entry.cell(key)


def frequency_ratio(entry: Entry) -> Cell | None:
    """Largest over smallest share of tokens among the used codes, a mean over seeds."""
    most, least = entry.cell("max_frequency"), entry.cell("min_frequency")
    if most is None or least is None:
        return None
    ratios = []
    for source in most.sources:
        top, low = (source.record.values[key].value for key in ("max_frequency", "min_frequency"))
        if top and low:
            ratios.append(top / low)
    value = statistics.fmean(ratios) if ratios else None
    sd = statistics.stdev(ratios) if len(ratios) > 1 else None
    return Cell(
        RATIO, value, None, None, sd, len(ratios), most.protocol, most.reason, False, most.sources, "max_frequency"
    )


def _quantizers(results: Results, keys: tuple[str, ...]) -> list[Match]:
    found = [_match(entry, keys) for entry in results.entries]
    return [match for match in found if match.cells]


def _size(entry: Entry | None) -> int:
    return (codebook_size(entry) or 0) if entry else 0


# Coded sizes -----------------------------------------------------------------------------------


def _coded(entry: Entry) -> Match | None:
    coded = [c for c in (entry.cell(f"bpp_{kind}", ("compression",)) for kind in ("network", "static", "uniform")) if c]
    measured = [cell for cell in coded if cell.value is not None]
    if not measured:
        return None
    best = min(measured, key=lambda cell: cell.value or 0.0)
    cells = {"bpp": dataclasses.replace(best, metric=METRICS["bpp"], record_key=best.metric.key)}
    for key, suites in (("nominal_bpp", SUITES), ("psnr", ("compression",)), ("ms_ssim", ("compression",))):
        cell = entry.cell(key, suites)
        if cell is not None:
            cells[key] = cell
    return Match(entry.name, cells, entry)


def _coded_match(results: Results, number: Published, ours: list[Match]) -> Match | None:
    if number.method in _CODECS:
        source = next((s for s in results.codecs if s.record.method == _CODECS[number.method]), None)
        return _codec(source, number.value) if source else None
    fitting = [m for m in ours if m.entry and m.entry.method == number.method]
    return next((m for m in fitting if _size(m.entry) == number.codebook_size), None)


def _codec(source: Source, rate: float) -> Match:
    """A codec's setting whose mean rate is nearest to `rate`."""
    arrays = source.record.arrays
    point = min(range(len(arrays["bpp"])), key=lambda i: abs(arrays["bpp"][i] - rate))
    cells = {}
    for key in ("bpp", "psnr", "ms_ssim"):
        if key in arrays:
            protocol = source.record.values[f"{key}_points"].protocol
            cells[key] = Cell(
                metric(key),
                float(arrays[key][point]),
                None,
                None,
                None,
                1,
                protocol,
                None,
                False,
                (source,),
                f"{key}_points",
            )
    return Match(f"{source.record.name}, setting {arrays['settings'][point]}", cells, None)


# Generators ------------------------------------------------------------------------------------


def _generators(results: Results, keys: tuple[str, ...]) -> list[Match]:
    found = [_generator_match(entry, keys) for entry in (*results.oracles, *results.generators)]
    return [match for match in found if match.cells]


def _generator_match(entry: Entry, keys: tuple[str, ...]) -> Match:
    cells = {key: cell for key in keys if (cell := entry.cell(key, (GENERATION,))) is not None}
    return Match(entry.name, cells, entry)


def _generator(results: Results, number: Published, keys: tuple[str, ...]) -> Match | None:
    """The generator over the same quantizer's tokens beside the 12-layer rows; the oracle beside the oracle."""
    if number.method == "validation-oracle":
        return _generator_match(results.oracles[0], keys) if results.oracles else None
    if not number.method.startswith("infinity-cc-12layer"):
        return None
    wanted = number.method.split()[1]
    alike = (e for e in results.generators if e.method == wanted and head(e) == "full")
    entry = next((e for e in alike if _tokens_size(results, e) == number.codebook_size), None)
    return _generator_match(entry, keys) if entry else None


def _tokens_size(results: Results, generator: Entry) -> int | None:
    """K of the tokens that a generator models."""
    tokenizer = next((e for e in results.entries if e.id == generator.tokenizer), None)
    return codebook_size(tokenizer) if tokenizer else None
