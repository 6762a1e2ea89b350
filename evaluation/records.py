"""The record: what every measurement writes, and all that tables, figures and claims read.

One JSON file a subject, a suite and a seed. Fields that depend on the machine are flagged; "equal
results" means that `comparable()` of two records is equal.
"""

import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from latticebench.errors import BadInput
from latticebench.files import write_json

FORMAT = 1
_PACKAGES = ("torch", "numpy", "scipy", "pillow", "scikit-image", "torch-fidelity", "lpips")
_ROOT = Path(__file__).resolve().parents[1]

Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(_Strict):
    """A confidence interval and how it was made, e.g. "t, clustered by scene (3 clusters)"."""

    low: Finite
    high: Finite
    method: str
    level: Finite = 0.95


class Value(_Strict):
    """One number under one protocol, or an empty cell with the reason why it is empty."""

    value: Finite | None
    protocol: str
    unit: str = ""
    interval: Interval | None = None
    n: int | None = None
    reason: str | None = None
    machine: bool = False

    @model_validator(mode="after")
    def _empty_cells_say_why(self) -> "Value":
        if (self.value is None) != (self.reason is not None):
            raise ValueError("a value without a number needs a reason, and only then")
        return self


def measured(number: float, protocol: str, **fields: Any) -> Value:
    """A Value; a number that is not finite becomes an empty cell that says so."""
    if not math.isfinite(number):
        return Value(value=None, protocol=protocol, reason=f"not finite ({number})", **fields)
    return Value(value=float(number), protocol=protocol, **fields)


def empty(protocol: str, reason: str, **fields: Any) -> Value:
    """An empty cell with its reason."""
    return Value(value=None, protocol=protocol, reason=reason, **fields)


class Dataset(_Strict):
    """What was measured on: the split's content hash covers pixels, order, labels and preparation."""

    name: str
    split: str
    sha256: str
    samples: int


class File(_Strict):
    """A file that belongs to the record; the path is relative to the record's own folder.

    machine: it differs between runs with equal results, as a training's log with its times does.
    """

    path: str
    sha256: str
    machine: bool = False


class Machine(_Strict):
    """What may differ between two runs with equal results."""

    hardware: str
    threads: int
    wall_seconds: Finite
    peak_memory_bytes: int
    created: str
    python: str
    packages: dict[str, str]


class Record(_Strict):
    """One measurement. `samples` holds per-item values that paired comparisons need, with their `groups`."""

    format: Literal[1] = FORMAT
    subject: str
    name: str
    method: str
    seed: int | None
    suite: str
    parameters: dict[str, Any]
    dataset: Dataset | None
    values: dict[str, Value]
    samples: dict[str, list[Finite | None]] = {}
    groups: list[int] = []
    arrays: dict[str, list[Any]] = {}
    files: dict[str, File] = {}
    weights: dict[str, str] = {}
    code: dict[str, str]
    notes: list[str] = []
    machine: Machine

    def comparable(self) -> dict[str, Any]:
        """Everything that two runs with equal results share."""
        data = self.model_dump(mode="json", exclude={"machine"})
        data["files"] = {key: file for key, file in data["files"].items() if not file["machine"]}
        data["values"] = {key: value for key, value in data["values"].items() if not value["machine"]}
        return data


class Stopwatch:
    """Wall time and peak memory of a measurement; `machine()` closes it into a record's machine part."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def seconds(self) -> float:
        """Wall time since construction."""
        return time.perf_counter() - self.start

    def machine(self, seconds: float | None = None) -> Machine:
        """Hardware, versions, wall time (default: since construction) and the process's peak resident memory.

        A job forked from the warm process (latticebench/warm) counts the pages that it shares with it, and not the
        parts of libraries that it never touched: some 0.3 GB less than the same job in a process of its own.
        """
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Machine(
            hardware=_hardware(),
            threads=_threads(),
            wall_seconds=round(self.seconds() if seconds is None else seconds, 3),
            peak_memory_bytes=peak,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            python=platform.python_version(),
            packages=_versions(),
        )


@functools.cache
def _versions() -> dict[str, str]:
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = "not installed"
    return installed


def _threads() -> int:
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else os.cpu_count() or 1


def _hardware() -> str:
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return f"{model}, {os.cpu_count()} logical cores"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


@functools.cache
def _tree_hash(path: str) -> str:
    root = _ROOT / path
    files = sorted(root.rglob("*.py")) if root.is_dir() else [root]
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(_ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def code_hashes(paths: Iterable[str]) -> dict[str, str]:
    """sha256 of source files and folders (all *.py below), given relative to the project root."""
    return {path: _tree_hash(path) for path in paths}


def write(record: Record, path: str | Path) -> None:
    """Writes a record, whole or not at all."""
    write_json(path, record.model_dump(mode="json"))


def read(path: str | Path) -> Record:
    """Reads and validates a record. Raises BadInput that names the file and the first wrong field."""
    try:
        return Record.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise BadInput(f"record {path} does not exist; run the workflow again to make it") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise BadInput(f"record {path}: {where}: {first['msg']}; delete it and run the workflow again") from error


def read_all(folder: str | Path) -> list[Record]:
    """Every record below a folder's `records/`, in path order."""
    return [read(path) for path in sorted(Path(folder).glob("records/**/*.json")) if is_record(path)]


def is_record(path: Path) -> bool:
    """Whether a .json file below `records/` is one: not a job's manifest, nor what a killed job left half-written."""
    return not path.name.startswith(("made", "."))


def manifest(paths: Iterable[str | Path], root: str | Path) -> dict[str, str]:
    """Relative path -> sha256: what a job's declared output lists of the files it made."""
    from latticebench.files import sha256

    return {str(Path(path).relative_to(root)): sha256(path) for path in paths}


def dump(record: Record) -> str:
    """The record as indented JSON text."""
    return json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True)
