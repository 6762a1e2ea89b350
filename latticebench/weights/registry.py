"""The registry of released weights (checkpoints/registry.yaml) and the lock file beside it."""

import dataclasses
import functools
import os
import posixpath
from pathlib import Path
from typing import Any

import yaml

from latticebench.errors import BadInput, Missing
from latticebench.files import read_own_yaml, whole

ENVIRONMENT = "LATTICEBENCH_CHECKPOINTS"
"""Variable that names another folder than the repository's checkpoints/."""
REGISTRY = "registry.yaml"
LOCK = "lock.yaml"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file that can be fetched; registry.schema.yaml describes the fields."""

    name: str
    title: str
    licence: str
    hub: dict[str, str] | None = None
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    elements: int | None = None
    family: str | None = None
    container: tuple[tuple[str, ...], ...] = ()
    architecture: dict[str, Any] = dataclasses.field(default_factory=dict)
    weights: str = ""
    tokenizer: str | None = None
    classes: dict[str, Any] | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    reproduces: tuple[dict[str, Any], ...] = ()

    @property
    def place(self) -> str:
        """Where it comes from, for messages."""
        if self.hub is None:
            return str(self.url)
        within = self.hub.get("file") or f"{self.hub['folder']}/{self.hub['pattern']}"
        return f"{within} of {self.hub['repository']} at {self.hub['revision']}"

    @property
    def basename(self) -> str:
        """Name of the file without folders; a pattern where the registry has one."""
        path = self.url if self.hub is None else self.hub.get("file") or self.hub["pattern"]
        return posixpath.basename(str(path))


@dataclasses.dataclass(frozen=True)
class Registry:
    """All entries, what was never released (name -> title and reason), and the folder that files land in."""

    folder: Path
    entries: dict[str, Entry]
    unreleased: dict[str, dict[str, str]]

    def entry(self, name: str) -> Entry:
        """The entry of a name. Raises BadInput that lists the names, or says why there is nothing to fetch."""
        if name in self.unreleased:
            raise BadInput(f"{name} cannot be fetched: {self.unreleased[name]['reason']}")
        if name not in self.entries:
            raise BadInput(f"no weights called {name!r}; known: {', '.join(self.entries)}")
        return self.entries[name]

    def pin(self, name: str) -> dict[str, Any] | None:
        """What the lock file (else the registry) says the file is: {sha256, size, file, revision}, or None."""
        locked = self.locked().get(name)
        entry = self.entries[name]
        if locked is None:
            return {"sha256": entry.sha256, "size": entry.size} if entry.sha256 else None
        if entry.sha256 and entry.sha256 != locked["sha256"]:
            raise BadInput(
                f"{self.folder / LOCK} and {REGISTRY} disagree on the sha256 of {name}; remove the wrong one"
            )
        return locked

    def locked(self) -> dict[str, dict[str, Any]]:
        """The lock file: name -> {sha256, size, file, revision}; empty where there is none."""
        path = self.folder / LOCK
        if not path.is_file():
            return {}
        values = _read(path)
        good = isinstance(values, dict) and all(isinstance(v, dict) and "sha256" in v for v in values.values())
        if not good:
            raise BadInput(f"{path} is not a lock file (name: {{sha256, size, …}}); delete it or restore it")
        return values

    def record(self, name: str, facts: dict[str, Any]) -> None:
        """Adds a file that was seen for the first time to the lock file. The caller holds the folder's lock."""
        values = {**self.locked(), name: facts}
        with whole(self.folder / LOCK) as temporary:
            temporary.write_text(
                "# What the first download of each file was; `latticebench fetch` accepts nothing else. Commit it.\n"
                + yaml.safe_dump(dict(sorted(values.items())), sort_keys=False)
            )


def default_folder() -> Path:
    """checkpoints/ of the repository, or what LATTICEBENCH_CHECKPOINTS names. Raises Missing where neither exists."""
    if os.environ.get(ENVIRONMENT):
        return Path(os.environ[ENVIRONMENT])
    for base in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (base / "checkpoints" / REGISTRY).is_file():
            return base / "checkpoints"
    raise Missing(f"no checkpoints/{REGISTRY} here; run inside the repository or set {ENVIRONMENT} to its checkpoints/")


def load(folder: str | Path | None = None, file: str | Path | None = None) -> Registry:
    """Reads and validates a registry.

    folder: where files land (default: `default_folder()`). file: the registry, by default registry.yaml in the folder,
    else the repository's. Raises BadInput naming the entry and field.
    """
    folder = Path(folder) if folder is not None else default_folder()
    path = Path(file) if file is not None else folder / REGISTRY
    if file is None and not path.is_file():
        path = default_folder() / REGISTRY
    if not path.is_file():
        raise Missing(f"the registry {path} does not exist")
    values = _read(path)
    _validate(path, values)
    entries = {name: _entry(path, name, fields) for name, fields in values["weights"].items()}
    for name, entry in entries.items():
        if entry.tokenizer is not None and entry.tokenizer not in entries:
            raise BadInput(f"{path}: weights.{name}.tokenizer names {entry.tokenizer!r}, which is no entry")
    return Registry(folder, entries, values.get("unreleased", {}))


def _entry(path: Path, name: str, fields: dict[str, Any]) -> Entry:
    fields = dict(fields)
    for key in ("file", "folder"):
        inside = (fields.get("hub") or {}).get(key)
        if inside is not None and not stays_inside(inside):
            raise BadInput(f"{path}: weights.{name}.hub.{key} is {inside!r}; a path must stay inside its repository")
    if fields.get("url") and not stays_inside(posixpath.basename(fields["url"])):
        raise BadInput(f"{path}: weights.{name}.url does not end in a file's name")
    if fields.get("family") is None and Entry(name=name, **fields).basename in (REGISTRY, LOCK, name):
        raise BadInput(f"{path}: weights.{name}: a file of that name would lie on top of another in {path.parent}")
    fields["container"] = tuple(tuple(keys) for keys in fields.get("container", ()))
    fields["reproduces"] = tuple(fields.get("reproduces", ()))
    return Entry(name=name, **fields)


def stays_inside(path: str) -> bool:
    """Whether a relative path with forward slashes leads to a file below where it starts."""
    parts = path.split("/")
    return not any(part in ("", ".", "..") or "\\" in part or "\0" in part or ":" in part for part in parts)


@functools.cache
def _schema() -> Any:
    return read_own_yaml(Path(__file__).parent / "registry.schema.yaml")


def _validate(path: Path, values: Any) -> None:
    import jsonschema

    errors = sorted(jsonschema.Draft202012Validator(_schema()).iter_errors(values), key=lambda e: list(e.path))
    if errors:
        where = ".".join(str(part) for part in errors[0].path) or "the whole file"
        raise BadInput(f"{path}: {where}: {errors[0].message}")


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"{path} is not readable YAML: {error}") from error
