"""The papers' claims: each a sentence, its source, the scale it needs, and a small function over records.

A verdict is about the scale of the run that it was made from. "Undecided" means that an interval crosses the line
that the claim draws; "not tested at this scale" that a row, a suite or enough tokens are missing.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any, Literal

from evaluation.report import comparisons, formats, stability, tables
from evaluation.report.results import GENERATION, Cell, Entry, Results, Source, metric

Verdict = Literal["holds", "does not hold", "undecided", "not tested at this scale"]
UNTESTED: Verdict = "not tested at this scale"

MARGIN_DB = 0.25
"""Fidelity counts as reached when the PSNR is less than this below."""
SIGNIFICANT = 0.05
"""An exact test's probability has to lie below this."""
FULL_USE = 0.95
"""Share of a uniform source's usage from which a codebook counts as fully used."""
TOKENS_A_CODE = 10
"""With fewer tokens a code than this, even a uniform source's frequencies look uneven."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the records say about a claim, in a sentence, and which records say it."""

    verdict: Verdict
    text: str
    records: tuple[Source, ...] = ()


Check = Callable[[Results], Finding]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim: the sentence, where it is made, what it takes to test it, and the function that does."""

    key: str
    sentence: str
    source: str
    scale: str
    check: Check


@dataclasses.dataclass(frozen=True)
class Pick:
    """A row of the run: of a method, at a codebook size or (None) at the size that most rows share."""

    method: str
    size: int | None = None

    def find(self, results: Results) -> Entry | None:
        """The row; where several fit, the one that is called like its method, else the first."""
        size = self.size or tables.equal_size(results.entries)
        fitting = [e for e in results.entries if e.method == self.method and tables.codebook_size(e) == size]
        return min(fitting, key=lambda e: e.name != self.method, default=None)

    def __str__(self) -> str:
        return f"{self.method} at {f'K = {self.size:,}' if self.size else 'the equal codebook size'}"


def _untested(why: str) -> Finding:
    return Finding(UNTESTED, why)


def _verdict(low: float, high: float, line: float) -> Verdict:
    """Whether [low, high] lies above the line, below it, or across."""
    return "holds" if low > line else "does not hold" if high < line else "undecided"


def _range(cell: Cell) -> tuple[float, float]:
    """The sampling interval widened to the seeds' values; these alone where there is no interval."""
    values = [v for s in cell.sources if (v := s.record.values[cell.metric.key].value) is not None]
    bounds = [bound for bound in (cell.low, cell.high) if bound is not None]
    return min(values + bounds), max(values + bounds)


def _records(*cells: Cell | None) -> tuple[Source, ...]:
    found = {source.path: source for cell in cells if cell is not None for source in cell.sources}
    return tuple(found.values())


def reconstructs_better(first: Pick, second: Pick, key: str = "psnr") -> Check:
    """The first row's metric is really better than the second's, paired on the same images."""

    def check(results: Results) -> Finding:
        a, b = first.find(results), second.find(results)
        if a is None or b is None:
            return _untested(f"This run has no row of {first if a is None else second}.")
        found = comparisons.difference(a, b, key)
        column = metric(key)
        if found is None:
            return _untested(f"{a.name} and {b.name} do not both have {column.title}.")
        sign = -1 if column.better == "lower" else 1
        verdict: Verdict = "undecided" if not found.real else "holds" if sign * found.value > 0 else "does not hold"
        between = "" if found.low is None else f" (95%: {_n(found.low)} to {_n(found.high)})"
        text = f"{a.name} − {b.name}: {_n(found.value)} {column.unit or column.title}{between}, {found.how}."
        return Finding(verdict, text, _records(a.cell(key), b.cell(key)))

    return check


def uses_codebook(pick: Pick) -> Check:
    """The row uses at least FULL_USE of what a uniform source would at as many tokens."""

    def check(results: Results) -> Finding:
        entry = pick.find(results)
        cell = entry.cell("relative_usage") if entry else None
        if entry is None or cell is None or cell.value is None:
            return _untested(f"This run has no codebook record of {pick}.")
        low, high = _range(cell)
        text = f"{entry.name} uses {cell.value:.1%} of what a uniform source would ({low:.1%} to {high:.1%})."
        return Finding(_verdict(low, high, FULL_USE), text, _records(cell))

    return check


def uses_more(first: Pick, second: Pick, key: str = "relative_usage") -> Check:
    """The first row's use is really above the second's: the intervals, widened to the seeds, don't overlap."""

    def check(results: Results) -> Finding:
        cells = [entry.cell(key) if (entry := pick.find(results)) else None for pick in (first, second)]
        if any(cell is None or cell.value is None for cell in cells):
            return _untested(f"This run has no codebook records of both {first} and {second}.")
        (low, high), (other_low, other_high) = (_range(cell) for cell in cells if cell is not None)
        text = f"{metric(key).title}: {first.method} {_n(low)} to {_n(high)}, {second.method} {_n(other_low)} to {_n(other_high)}."
        verdict: Verdict = "holds" if low > other_high else "does not hold" if high < other_low else "undecided"
        return Finding(verdict, text, _records(*cells))

    return check


def smallest_distance(method: str, size: int, printed: float) -> Check:
    """The codebook's δ_min is the printed number to its three decimals."""

    def check(results: Results) -> Finding:
        cell = _delta(results, method, size)
        if cell is None or cell.value is None:
            return _untested(f"No geometry record of {method} at K = {size:,}.")
        low, high = _range(cell)
        near = low <= printed + 5e-4 and high >= printed - 5e-4
        text = f"Ours: {cell.value:.6f}; printed: {printed}."
        if low < high and near and not (low >= printed - 5e-4 and high <= printed + 5e-4):
            return Finding("undecided", f"{text} Estimated between {low:.4f} and {high:.4f}.", _records(cell))
        return Finding("holds" if near else "does not hold", text, _records(cell))

    return check


def better_spread(first: tuple[str, int], second: tuple[str, int]) -> Check:
    """The first codebook's δ_min is above the second's."""

    def check(results: Results) -> Finding:
        a, b = _delta(results, *first), _delta(results, *second)
        if a is None or b is None or a.value is None or b.value is None:
            return _untested(
                f"No geometry records of both {first[0]} at K = {first[1]:,} and {second[0]} at K = {second[1]:,}."
            )
        (low, high), (other_low, other_high) = _range(a), _range(b)
        verdict: Verdict = "holds" if low > other_high else "does not hold" if high < other_low else "undecided"
        return Finding(verdict, f"δ_min {a.value:.4f} for {first[0]}, {b.value:.4f} for {second[0]}.", _records(a, b))

    return check


def _delta(results: Results, method: str, size: int, dim: int | None = None) -> Cell | None:
    """δ_min of a method at a size; of several dimensions the given one, or else the largest."""
    fitting = [e for e in results.geometry if e.method == method and tables.codebook_size(e) == size]
    if dim is not None:
        fitting = [entry for entry in fitting if entry.dim in (dim, None)]
    found = max(fitting, key=lambda entry: entry.dim or 0, default=None)
    return found.cell("delta_min", tuple(found.sources)) if found else None


def distance_orders_fidelity(results: Results) -> Finding:
    """Of fixed codebooks at equal K, the one with the larger δ_min is never really worse, and at least once better."""
    size = tables.equal_size(results.entries)
    rows, lacking = [], []
    for method in ("leech", "bsq", "random", "fibonacci"):
        entry = Pick(method).find(results)
        delta = _delta(results, method, size, entry.dim) if size and entry else None
        if not entry or entry.number("psnr") is None:
            continue
        if delta and delta.value is not None:
            rows.append((delta.value, entry, delta))
        else:
            lacking.append(entry.name)
    if len(rows) < 3:
        return _untested("Fewer than three fixed codebooks of equal size have both a δ_min and a PSNR.")
    better, worse, open_pairs = 0, [], 0
    for (d1, a, _), (d2, b, _) in itertools.combinations(rows, 2):
        if d1 == d2:
            continue
        large, small = (a, b) if d1 > d2 else (b, a)
        found = comparisons.difference(large, small, "psnr")
        if found is None or not found.real:
            open_pairs += 1
        elif found.value > 0:
            better += 1
        else:
            worse.append(f"{large.name} below {small.name}")
    text = f"Pairs where the larger δ_min is really better: {better}, really worse: {len(worse)}, open: {open_pairs}."
    if worse:
        text += f" Against: {', '.join(worse)}."
    if lacking:
        text += f" Without a record of its δ_min at this size: {', '.join(lacking)}."
    sources = _records(*(cell for _, entry, delta in rows for cell in (delta, entry.cell("psnr"))))
    return Finding("does not hold" if worse else "undecided" if open_pairs else "holds", text, sources)


def half_the_codes(results: Results) -> Finding:
    """LGQ's PSNR is not MARGIN_DB below FSQ's, with at most 60% of its active codes."""
    lgq, fsq = Pick("lgq").find(results), Pick("fsq").find(results)
    found = comparisons.difference(lgq, fsq, "psnr") if lgq and fsq else None
    codes = [entry.cell("codes_used") if entry else None for entry in (lgq, fsq)]
    if lgq is None or fsq is None or found is None or any(cell is None or cell.value is None for cell in codes):
        return _untested("This run lacks lgq or fsq at the equal codebook size, or their records.")
    (low, high), (fsq_low, fsq_high) = (_range(cell) for cell in codes if cell is not None)
    fidelity = "undecided" if found.low is None or found.high is None else _verdict(found.low, found.high, -MARGIN_DB)
    few = _verdict(-high / fsq_low, -low / fsq_high, -0.6)
    text = (
        f"PSNR lgq − fsq: {_n(found.value)} dB (reached above −{MARGIN_DB} dB: {fidelity}); "
        f"active codes {low / fsq_high:.2f} to {high / fsq_low:.2f} of fsq's (at most 0.60: {few})."
    )
    sources = _records(lgq.cell("psnr"), fsq.cell("psnr"), *codes)
    if "does not hold" in (fidelity, few):
        return Finding("does not hold", text, sources)
    return Finding("holds" if fidelity == few == "holds" else "undecided", text, sources)


def uniform_use(pick: Pick) -> Check:
    """The tokens' entropy is within 0.1 bit of log2 K, with enough tokens to tell."""

    def check(results: Results) -> Finding:
        entry = pick.find(results)
        cell, tokens = (entry.cell("entropy_bits"), entry.number("tokens")) if entry else (None, None)
        size = tables.codebook_size(entry) if entry else None
        if entry is None or cell is None or cell.value is None or not tokens or not size:
            return _untested(f"This run has no codebook record of {pick}.")
        if tokens < TOKENS_A_CODE * size:
            return _untested(f"{tokens:,.0f} tokens for {size:,} codes; {TOKENS_A_CODE * size:,} are needed to see it.")
        bits = math.log2(size)
        low, high = _range(cell)
        text = f"Entropy {cell.value:.3f} of {bits:.3f} bits ({low:.3f} to {high:.3f})."
        return Finding(_verdict(low, high, bits - 0.1), text, _records(cell))

    return check


def full_head_wins(results: Results) -> Finding:
    """Of two generators that differ in their head alone, direct prediction has the lower gFID and the higher recall."""
    full, digits = _pair(results, lambda options: options["head"]["kind"], "full", "digits")
    if full is None or digits is None:
        return _untested("This run has no two generators that differ in their head alone.")
    tokenizer = next((entry for entry in results.entries if entry.id == full.tokenizer), None)
    size = tables.codebook_size(tokenizer) if tokenizer else None
    signs, cells = [], []
    for pair, sign in ((("gfid", "fd_insuite_generation"), -1), (("recall", "recall_insuite"), 1)):
        key = next((key for key in pair if all(_number(entry, key) is not None for entry in (full, digits))), None)
        if key is None:
            return _untested(f"{metric(pair[0]).title} is not measured for both heads.")
        a, b = (entry.cell(key, (GENERATION,)) for entry in (full, digits))
        assert a is not None and b is not None
        (low, high), (other_low, other_high) = _range(a), _range(b)
        known = a.low is not None and b.low is not None
        signs.append(0 if not known else sign if low > other_high else -sign if high < other_low else 0)
        cells += [a, b]
    numbers = "; ".join(f"{a.metric.title} {_n(a.value)} against {_n(b.value)}" for a, b in (cells[:2], cells[2:]))
    known = dict.fromkeys(a.metric.title for a, b in (cells[:2], cells[2:]) if None not in (a.low, b.low))
    unknown = dict.fromkeys(a.metric.title for a, b in (cells[:2], cells[2:]) if None in (a.low, b.low))
    basis = [f"compared by whether the intervals of {' and '.join(known)} overlap"] if known else []
    basis += [f"{' and '.join(unknown)} without an interval, so nothing follows from it"] if unknown else []
    verdict: Verdict = "does not hold" if -1 in signs else "holds" if signs == [1, 1] else "undecided"
    at = f" over {size:,} codes" if size else ""
    text = f"{full.name} against {digits.name}{at}: {numbers}; {'; '.join(basis)}."
    return Finding(verdict, text, _records(*cells))


def _number(entry: Entry, key: str) -> float | None:
    return entry.number(key, (GENERATION,))


Options = dict[str, Any]


def _pair(
    results: Results, trait: Callable[[Options], Any], first: Any, second: Any
) -> tuple[Entry | None, Entry | None]:
    """Two judged generators with the given traits whose options are equal but for the section that holds the trait."""
    judged = [entry for entry in results.generators if entry.sources.get(GENERATION)]
    for a in judged:
        for b in judged:
            options = [dict(entry.spec["generation"]) for entry in (a, b)]
            if (trait(options[0]), trait(options[1])) == (first, second) and a.tokenizer == b.tokenizer:
                for each in options:
                    each.pop("head")
                if options[0] == options[1]:
                    return a, b
    return None, None


def stable_training(results: Results) -> Finding:
    """Z-loss or a matrix-wise optimizer trains on where the same model without both diverges."""
    plain, helped = [], []
    for entry in results.generators:
        options = entry.spec["generation"]["training"]
        safe = bool(options.get("z_weight")) or options.get("optimizer") in MATRIX_WISE
        outcomes = [(source, _diverged(results, entry, source)) for source in entry.sources.get(GENERATION, ())]
        (helped if safe else plain).extend(outcomes)
    if not plain or not helped:
        return _untested("This run has no generators both with and without Z-loss or a matrix-wise optimizer.")
    bare, guarded = (sum(broken for _, broken in runs) for runs in (plain, helped))
    text = f"Diverged: {bare} of {len(plain)} trainings without either, {guarded} of {len(helped)} with one or both."
    sources = tuple(source for source, _ in (*plain, *helped))
    if guarded:
        return Finding("does not hold", text, sources)
    # Fisher's exact test, one-sided: how probable it is that as many divergences all fall on trainings without.
    chance = math.comb(len(plain), bare) / math.comb(len(plain) + len(helped), bare)
    if bare:
        text += f" By chance with probability {chance:.2g} (Fisher's exact test; below {SIGNIFICANT} is needed)."
    return Finding("holds" if chance < SIGNIFICANT else "undecided", text, sources)


def _diverged(results: Results, entry: Entry, source: Source) -> bool:
    """Whether a training ended in a loss that is not finite, or, by its log, above the one that it began with."""
    if source.record.seed in stability.stopped(entry):
        return True
    log = results.log(entry, source.record.seed)
    return log is not None and len(log) >= stability.FEWEST and stability.diverged(log)


def generates_better(first: str, second: str) -> Check:
    """A generator over the first quantizer's tokens has the lower gFID than one over the second's, models alike."""

    def check(results: Results) -> Finding:
        found = []
        for method in (first, second):
            fitting = [e for e in results.generators if e.method == method and e.sources.get(GENERATION)]
            found.append(fitting[0] if fitting else None)
        a, b = found
        if a is None or b is None:
            return _untested(f"This run has no judged generators over both {first} and {second}.")
        key = next((k for k in ("gfid", "fd_insuite_generation") if None not in (_number(a, k), _number(b, k))), None)
        if key is None:
            return _untested(f"{a.name} and {b.name} do not both have a distance of their samples.")
        cells = [entry.cell(key, (GENERATION,)) for entry in (a, b)]
        (low, high), (other_low, other_high) = (_range(cell) for cell in cells if cell is not None)
        verdict: Verdict = "holds" if high < other_low else "does not hold" if low > other_high else "undecided"
        text = f"{metric(key).title}: {a.name} {_n(low)} to {_n(high)}, {b.name} {_n(other_low)} to {_n(other_high)}."
        return Finding(verdict, text, _records(*cells))

    return check


def codes_cost_less(results: Results) -> Finding:
    """Λ24's coded files are not larger than BSQ's, and its PSNR is really higher."""
    a, b = LEECH.find(results), BSQ18.find(results)
    cells = [_coded(entry) if entry else None for entry in (a, b)]
    if a is None or b is None or any(cell is None or cell.value is None for cell in cells):
        return _untested("This run has no coded files of both Λ24 and BSQ with 18 bits.")
    found = comparisons.difference(a, b, "psnr")
    (low, high), (other_low, other_high) = (_range(cell) for cell in cells if cell is not None)
    rate: Verdict = "holds" if high < other_low else "does not hold" if low > other_high else "undecided"
    fidelity: Verdict = (
        "undecided" if found is None or not found.real else "holds" if found.value > 0 else "does not hold"
    )
    text = f"Coded bits per pixel {_n(low)} to {_n(high)} against {_n(other_low)} to {_n(other_high)} ({rate}); PSNR: {fidelity}."
    sources = _records(*cells, a.cell("psnr"), b.cell("psnr"))
    if "does not hold" in (rate, fidelity):
        return Finding("does not hold", text, sources)
    return Finding("holds" if rate == fidelity == "holds" else "undecided", text, sources)


def _coded(entry: Entry) -> Cell | None:
    return entry.cell("bpp_static", ("compression",))


def _n(value: float | None) -> str:
    return formats.number(value, 3)


MATRIX_WISE = ("muon", "dion")
LEECH, BSQ18 = Pick("leech-published", 196_560), Pick("bsq", 2**18)
LAMBDA = "arXiv:2512.14697"
ROWS = "both rows at one recipe, judged on the same images (the paper: ImageNet, 256 px, 50,000 images)"
GEOMETRY = "the geometry stage; no training"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "delta-leech",
        "The smallest distance of the Λ24 codebook is 0.866.",
        f"{LAMBDA}, Table 4; true of the released file, whose two Golay codes differ; the Leech shell itself has 1.0",
        GEOMETRY,
        smallest_distance("leech-published", 196_560, 0.866),
    ),
    Claim(
        "delta-bsq",
        "The smallest distance of BSQ with 18 bits is 0.471.",
        f"{LAMBDA}, Table 4",
        GEOMETRY,
        smallest_distance("bsq", 2**18, 0.471),
    ),
    Claim(
        "delta-shell",
        "The true Leech shell is better spread than the released codebook.",
        "SPLAG, chapter 14: the kissing configuration in 24 dimensions has angle 60°",
        GEOMETRY,
        better_spread(("leech", 196_560), ("leech-published", 196_560)),
    ),
    Claim(
        "spread-bsq",
        "Λ24 is better spread than BSQ although it has nearly as many codes.",
        f"{LAMBDA}, Table 4",
        GEOMETRY,
        better_spread(("leech-published", 196_560), ("bsq", 2**18)),
    ),
    Claim(
        "spread-random",
        "Λ24 is better spread than as many random directions.",
        f"{LAMBDA}, Figure 2",
        GEOMETRY,
        better_spread(("leech-published", 196_560), ("random", 196_560)),
    ),
    Claim(
        "leech-over-bsq",
        "Λ24-SQ reconstructs better than BSQ at fewer bits (17.58 against 18).",
        f"{LAMBDA}, Table 5 and Figure 1",
        ROWS,
        reconstructs_better(LEECH, BSQ18),
    ),
    Claim(
        "leech-over-random",
        "Λ24-SQ reconstructs better than as many random directions.",
        f"{LAMBDA}, Section on codebooks",
        ROWS,
        reconstructs_better(LEECH, Pick("random", 196_560)),
    ),
    Claim(
        "equal-leech-bsq",
        "At equal size, a subset of Λ24 reconstructs better than BSQ.",
        f"{LAMBDA}, Table 8 (23.390 against 23.171 dB at 16,384 codes)",
        ROWS,
        reconstructs_better(Pick("leech"), Pick("bsq")),
    ),
    Claim(
        "equal-bsq-random",
        "At equal size, BSQ reconstructs better than random directions.",
        f"{LAMBDA}, Table 8 (23.171 against 23.018 dB at 16,384 codes)",
        ROWS,
        reconstructs_better(Pick("bsq"), Pick("random")),
    ),
    Claim(
        "distance-fidelity",
        "A larger smallest distance reconstructs better at equal codebook size.",
        f"{LAMBDA}, Table 8 and Section on geometry",
        "three fixed codebooks of equal size with geometry and reconstruction records",
        distance_orders_fidelity,
    ),
    Claim(
        "no-entropy-term",
        "Λ24 needs no entropy penalty: without one it uses more of its codes than BSQ does with one.",
        f"{LAMBDA}, Section on entropy regularisation as lattice relocation",
        "both rows, use measured against a uniform source at as many tokens",
        uses_more(LEECH, BSQ18),
    ),
    Claim(
        "uniform-use",
        "Λ24’s codes are used almost uniformly.",
        f"{LAMBDA}, Figure 4",
        f"{TOKENS_A_CODE * 196_560:,} tokens, ten a code",
        uniform_use(LEECH),
    ),
    Claim(
        "lgq-half",
        "LGQ reaches FSQ’s fidelity with about half the active codes.",
        "arXiv:2602.16086, abstract",
        f"both rows at equal size; reached means less than {MARGIN_DB} dB below",
        half_the_codes,
    ),
    Claim(
        "lgq-rfid",
        "LGQ has a lower rFID than FSQ at equal codebook size.",
        "arXiv:2602.16086 (110.64 against 125.56 at 16,384 codes)",
        "the FID Inception weights and enough images",
        reconstructs_better(Pick("lgq"), Pick("fsq"), "rfid"),
    ),
    Claim(
        "simvq-use",
        "SimVQ uses its whole codebook.",
        "arXiv:2411.02038, repository (100% at 65,536 codes)",
        "one row; use measured against a uniform source at as many tokens",
        uses_codebook(Pick("simvq")),
    ),
    Claim(
        "simvq-over-vq",
        "SimVQ reconstructs better than plain VQ at equal codebook size.",
        "arXiv:2411.02038, repository (24.15 against 22.20 dB at 65,536 codes)",
        ROWS,
        reconstructs_better(Pick("simvq"), Pick("vq")),
    ),
    Claim(
        "simvq-more-codes",
        "SimVQ uses more of its codes than plain VQ.",
        "arXiv:2411.02038, repository (100% against 1.4% at 65,536 codes)",
        "both rows at equal size",
        uses_more(Pick("simvq"), Pick("vq")),
    ),
    Claim(
        "fsq-use",
        "FSQ uses its whole codebook with no auxiliary loss.",
        "arXiv:2309.15505, Table 2",
        "one row; use measured against a uniform source at as many tokens",
        uses_codebook(Pick("fsq")),
    ),
    Claim(
        "lfq-use",
        "LFQ uses its whole codebook.",
        "arXiv:2409.04410 (100% at 262,144 codes)",
        "one row; use measured against a uniform source at as many tokens",
        uses_codebook(Pick("lfq")),
    ),
    Claim(
        "full-head",
        "Direct 196,560-way prediction beats factorised prediction on gFID and recall.",
        f"{LAMBDA}, Table 9 (gFID 8.7 against 11.7)",
        "two generators that differ in their head alone; without ADM's files, distance and recall of the suite's own "
        "features stand in for gFID and recall",
        full_head_wins,
    ),
    Claim(
        "stable-training",
        "Z-loss and Dion prevent divergence.",
        f"{LAMBDA}, Section on training",
        "generators of one model with and without them; whether one diverges without is part of the claim",
        stable_training,
    ),
    Claim(
        "generation-leech",
        "Generation over Λ24’s tokens is better than over BSQ’s.",
        f"{LAMBDA} (gFID 3.15 against 4.43, 12 layers)",
        "one generator over each, trained alike",
        generates_better("leech-published", "bsq"),
    ),
    Claim(
        "coded-leech",
        "Λ24 reconstructs better than BSQ in smaller files.",
        f"{LAMBDA}, Table 6 (29.63 against 28.86 dB at 0.2747 against 0.2788 bpp)",
        "the coded files of both rows under the static prior; the paper codes Kodak",
        codes_cost_less,
    ),
)


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """A claim with its findings, each with the title of the suite that it was made from; those that test it first."""

    claim: Claim
    findings: tuple[tuple[str, Finding], ...]

    @property
    def verdict(self) -> Verdict:
        """The one verdict of all suites that test the claim; undecided where they disagree."""
        found = {finding.verdict for _, finding in self.findings}
        return found.pop() if len(found) == 1 else "undecided"

    @property
    def records(self) -> tuple[Source, ...]:
        """Every record that a finding rests on."""
        return tuple({source.path: source for _, finding in self.findings for source in finding.records}.values())


def check_all(results: Results) -> tuple[Verdicts, ...]:
    """Every claim, in order, checked inside each suite: rows of two suites are never compared."""
    return tuple(_check(claim, results) for claim in CLAIMS)


def _check(claim: Claim, results: Results) -> Verdicts:
    views = results.views or (results,)
    found: dict[tuple[str, str], tuple[str, Finding]] = {}
    for view in views:
        finding = claim.check(view)
        title = view.part.title if view.part and len(views) > 1 else ""
        found.setdefault((finding.verdict, finding.text), (title, finding))
    tested = [pair for pair in found.values() if pair[1].verdict != UNTESTED]
    return Verdicts(claim, tuple(tested or list(found.values())[:1]))
