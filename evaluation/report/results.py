"""What a results folder holds, found by its configuration: records, training logs, pictures, and what is missing."""

import dataclasses
import functools
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evaluation import records
from evaluation.metrics import METRICS, Metric
from evaluation.records import Record, Value
from latticebench import generator_entries
from latticebench.configuration import Configuration, Subject
from latticebench.errors import BadInput

SUITES = ("reconstruction", "codebook", "rates", "cost")
"""What the judge measures of every quantizer."""
GENERATION = "generation"


@dataclasses.dataclass(frozen=True)
class Source:
    """A record and where it lies, relative to the results folder."""

    path: str
    record: Record

    @property
    def subject(self) -> str:
        """The folder below records/ that the record lies in: one page of the report shows all of it."""
        return self.path.removeprefix("records/").partition("/")[0]

    @property
    def section(self) -> str:
        """The record's place on that page: shared by the seeds of one measurement."""
        rest = self.path.removesuffix(".json").split("/")[2:]
        return "-".join(part for part in rest if not part.startswith("seed"))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number of a table, over the seeds of one quantizer.

    value: the mean over seeds. low, high: the 95% sampling interval (mean of the seeds' bounds: the seeds share the
    images, so it doesn't shrink with their number). sd: standard deviation over seeds, None for one seed. n: seeds.
    """

    metric: Metric
    value: float | None
    low: float | None
    high: float | None
    sd: float | None
    n: int
    protocol: str
    reason: str | None
    machine: bool
    sources: tuple[Source, ...]
    record_key: str = ""

    @property
    def key(self) -> str:
        """The value's key in its records, which `record_key` gives where the column has another."""
        return self.record_key or self.metric.key

    @property
    def half_width(self) -> float | None:
        """Half the width of the sampling interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclasses.dataclass(frozen=True)
class Entry:
    """A quantizer, a codebook of the geometry stage, or a generator (whose `tokenizer` is an id), with its records.

    method: the quantizer's; of a generator, that of its tokenizer. spec: everything that the entry depends on.
    training: folder of the trained model and its log below the results folder.
    """

    name: str
    id: str
    method: str
    seeds: tuple[int, ...]
    spec: dict[str, Any]
    sources: dict[str, tuple[Source, ...]]
    tokenizer: str | None = None
    training: str = ""

    @property
    def averaged(self) -> bool:
        """Whether the row is the moving average of another row's weights, and shares its training."""
        return "weights" in self.spec

    @property
    def ceiling(self) -> bool:
        """Whether the row is the ceiling of the tables: it quantizes nothing."""
        return self.method == "identity"

    def keys(self, suite: str) -> list[str]:
        """Names of the values of a suite, in the order of METRICS, unknown ones last."""
        found = dict.fromkeys(key for source in self.sources.get(suite, ()) for key in source.record.values)
        return sorted(found, key=_order)

    def cell(self, key: str, suites: Iterable[str] = SUITES) -> Cell | None:
        """The cell of a metric: None where no record mentions it.

        Raises BadInput where two seeds were measured under two protocols.
        """
        for suite in suites:
            sources = tuple(source for source in self.sources.get(suite, ()) if key in source.record.values)
            if sources:
                return _cell(key, sources)
        return None

    def number(self, key: str, suites: Iterable[str] = SUITES) -> float | None:
        """The mean over seeds, or None."""
        cell = self.cell(key, suites)
        return None if cell is None else cell.value

    @property
    def dim(self) -> int | None:
        """Dimension of the code vectors, where a record or the parameters state it."""
        number = self.number("dim", tuple(self.sources)) or self.spec.get("quantizer", {}).get("parameters", {}).get(
            "dim"
        )
        return None if number is None else round(number)


@dataclasses.dataclass(frozen=True)
class Gap:
    """Something that a finished run has and this one lacks."""

    what: str
    why: str


@dataclasses.dataclass(frozen=True)
class Part:
    """A suite of the configuration: rows that share data and tokenizer recipe, and so may share a table.

    entries, generators: ids. data: the suite's data section. table: the published table that it reproduces.
    """

    name: str
    title: str
    table: str | None
    entries: frozenset[str]
    generators: frozenset[str]
    data: dict[str, Any]
    data_hash: str


@dataclasses.dataclass(frozen=True)
class Results:
    """Everything that a report is made of.

    entries: of all suites, or, in what `of` returns, of one. generators: models of tokens. codecs: records of the
    classical codecs. part: the suite that this is cut to.
    """

    configuration: Configuration
    root: Path
    entries: tuple[Entry, ...]
    geometry: tuple[Entry, ...]
    gaps: tuple[Gap, ...]
    generators: tuple[Entry, ...] = ()
    oracles: tuple[Entry, ...] = ()
    codecs: tuple[Source, ...] = ()
    parts: tuple[Part, ...] = ()
    part: Part | None = None

    @property
    def finished(self) -> bool:
        return not self.gaps

    def of(self, part: Part) -> "Results":
        """The rows of one suite. Codecs belong to the suite whose images they coded."""
        entries = tuple(entry for entry in self.entries if entry.id in part.entries)
        generators = tuple(entry for entry in self.generators if entry.id in part.generators)
        images = {s.record.dataset.sha256 for e in entries for f in e.sources.values() for s in f if s.record.dataset}
        codecs = tuple(s for s in self.codecs if s.record.dataset is None or s.record.dataset.sha256 in images)
        oracles = tuple(entry for entry in self.oracles if entry.id == f"oracle-{part.data_hash}")
        return dataclasses.replace(
            self, entries=entries, generators=generators, oracles=oracles, codecs=codecs, part=part
        )

    @property
    def views(self) -> tuple["Results", ...]:
        """One cut for each suite."""
        return tuple(self.of(part) for part in self.parts)

    @property
    def data(self) -> dict[str, Any]:
        """The data section of the suite, or of the top level."""
        return self.part.data if self.part else self.configuration.values["data"]

    @property
    def data_hash(self) -> str:
        """Of that data."""
        return self.part.data_hash if self.part else self.configuration.data_hash

    def entry(self, name: str) -> Entry | None:
        """The quantizer of that name, if the configuration has one."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def log_path(self, entry: Entry, seed: int) -> str:
        """Where a training log lies, relative to the results folder."""
        return f"{entry.training}/seed{seed}/log.parquet"

    def log(self, entry: Entry, seed: int) -> Any:
        """A training log as a data frame, or None where it isn't there."""
        import pandas as pd

        path = self.root / self.log_path(entry, seed)
        return pd.read_parquet(path) if path.is_file() else None

    def pictures(self, entry: Entry) -> dict[str, Any] | None:
        """The stored reconstructions of a quantizer's first seed that has them: arrays by name."""
        import numpy as np

        for seed in entry.seeds:
            path = self.root / "pictures" / entry.id / f"seed{seed}.npz"
            if path.is_file():
                with np.load(path, allow_pickle=False) as file:
                    return {key: file[key] for key in file.files}
        return None

    def sources(self) -> list[Source]:
        """Every record that the report may quote."""
        entries = (*self.entries, *self.generators, *self.oracles, *self.geometry)
        return [*(s for entry in entries for suite in entry.sources.values() for s in suite), *self.codecs]


def metric(key: str) -> Metric:
    """A metric's column; a key that METRICS lacks is titled by itself."""
    return METRICS.get(key) or Metric(key, key.replace("_", " "), "", None, "")


@functools.cache
def _positions() -> dict[str, int]:
    return {key: position for position, key in enumerate(METRICS)}


def _order(key: str) -> tuple[int, str]:
    return _positions().get(key, len(METRICS)), key


def _cell(key: str, sources: tuple[Source, ...]) -> Cell:
    values = [source.record.values[key] for source in sources]
    one_protocol(key, [(value.protocol, source.path) for value, source in zip(values, sources, strict=True)])
    numbers = [value.value for value in values if value.value is not None]
    reasons = [value.reason for value in values if value.reason is not None]
    intervals = [value.interval for value in values if value.value is not None and value.interval is not None]
    whole = bool(numbers) and len(intervals) == len(numbers)
    unit = values[0].unit
    column = metric(key)
    return Cell(
        metric=column if column.unit or not unit else column._replace(unit=unit),
        value=statistics.fmean(numbers) if numbers else None,
        low=statistics.fmean(i.low for i in intervals) if whole else None,
        high=statistics.fmean(i.high for i in intervals) if whole else None,
        sd=statistics.stdev(numbers) if len(numbers) > 1 else None,
        n=len(numbers),
        protocol=values[0].protocol,
        reason=reasons[0] if reasons and not numbers else None,
        machine=any(value.machine for value in values),
        sources=sources,
    )


def one_protocol(column: str, found: list[tuple[str, str]]) -> str:
    """The one protocol of (protocol, record path) pairs. Raises BadInput that names two of them and their records."""
    first, path = found[0]
    for protocol, other in found[1:]:
        if protocol != first:
            raise BadInput(
                f"column {column!r}: {path} was measured under {first!r} and {other} under {protocol!r}; numbers of two "
                "protocols don't share a column: delete the older record and run the workflow again"
            )
    return first


def load(configuration: Configuration, root: str | Path) -> Results:
    """Finds a configuration's results below `root`. A missing part becomes a gap; a broken one raises BadInput."""
    root = Path(root)
    gaps: list[Gap] = []
    entries = tuple(_entry(root, subject, gaps) for subject in configuration.subjects())
    generators = tuple(_generator(root, subject, gaps) for subject in configuration.generators())
    geometry = tuple(
        _lone(root, path) for path in sorted(root.glob("records/geometry/*.json")) if records.is_record(path)
    )
    if not geometry:
        gaps.append(Gap("geometry of the codebooks", "records/geometry holds no record: the stage has not run"))
    if not any(True for _ in root.glob("pictures/*/*.npz")):
        gaps.append(Gap("reconstructed pictures", "pictures/ holds no file: no tokenizer has been judged"))
    oracles = tuple(_lone(root, path) for path in sorted(root.glob("records/oracle-*/generation.json")))
    codecs = tuple(
        _source(root, path) for path in sorted(root.glob("records/codecs/*.json")) if records.is_record(path)
    )
    parts = tuple(
        Part(
            suite.name,
            suite.title,
            suite.table,
            frozenset(subject.id for subject in suite.subjects),
            frozenset(subject.id for subject in suite.generators),
            suite.subjects[0].spec["data"],
            suite.subjects[0].data_hash,
        )
        for suite in configuration.suites()
    )
    return Results(configuration, root, entries, geometry, tuple(gaps), generators, oracles, codecs, parts)


def _source(root: Path, path: Path) -> Source:
    return Source(path.relative_to(root).as_posix(), records.read(path))


def _seed_records(root: Path, subject: Subject) -> dict[str, tuple[Source, ...]]:
    sources: dict[str, list[Source]] = {}
    for seed in subject.seeds:
        folder = root / "records" / subject.id / f"seed{seed}"
        for path in sorted(path for path in folder.glob("*.json") if records.is_record(path)):
            source = _source(root, path)
            sources.setdefault(source.record.suite, []).append(source)
    return {suite: tuple(found) for suite, found in sources.items()}


def _entry(root: Path, subject: Subject, gaps: list[Gap]) -> Entry:
    quantizer = subject.spec["quantizer"]
    for seed in subject.seeds:
        folder = root / "records" / subject.id / f"seed{seed}"
        missing = [suite for suite in SUITES if not (folder / f"{suite}.json").is_file()]
        if missing:
            gaps.append(Gap(f"{subject.name}, seed {seed}: {', '.join(missing)}", _why(root, subject, seed)))
    return Entry(
        name=subject.name,
        id=subject.id,
        method=quantizer.get("method") or Path(quantizer["module"]).stem,
        seeds=subject.seeds,
        spec=subject.spec,
        sources=_seed_records(root, subject),
        training=f"tokenizers/{subject.trained.id}",
    )


def _generator(root: Path, subject: Subject, gaps: list[Gap]) -> Entry:
    tokenizer = generator_entries.tokenizer_of(subject)
    training = f"generators/{generator_entries.training_of(subject).id}"
    sources = _seed_records(root, subject)
    found = {source.record.seed for source in sources.get(GENERATION, ())}
    for seed in subject.seeds:
        if seed not in found:
            trained = (root / training / f"seed{seed}" / "model.safetensors").is_file()
            why = "the generator is trained but not judged" if trained else "the generator is not trained"
            gaps.append(Gap(f"generator {subject.name}, seed {seed}", why))
    quantizer = tokenizer.spec["quantizer"]
    return Entry(
        name=subject.name,
        id=subject.id,
        method=quantizer.get("method") or Path(quantizer["module"]).stem,
        seeds=subject.seeds,
        spec=subject.spec,
        sources=sources,
        tokenizer=tokenizer.id,
        training=training,
    )


def _why(root: Path, subject: Subject, seed: int) -> str:
    if (root / "tokenizers" / subject.trained.id / f"seed{seed}" / "model.safetensors").is_file():
        return "the tokenizer is trained but not judged"
    if (root / "running" / subject.trained.id / f"seed{seed}").is_dir():
        return "training began and did not end"
    return "training has not begun"


def _lone(root: Path, path: Path) -> Entry:
    source = _source(root, path)
    record = source.record
    return Entry(
        name=record.name,
        id=record.subject,
        method=record.method,
        seeds=() if record.seed is None else (record.seed,),
        spec={"quantizer": record.parameters.get("quantizer", {"method": record.method, "parameters": {}})},
        sources={record.suite: (source,)},
    )


def finite(value: Value | Cell | None) -> bool:
    """Whether a cell holds a number."""
    return value is not None and value.value is not None and math.isfinite(value.value)
