"""Sources, metrics, codecs, families and heads from files of the user's own.

A configuration names the files under `extensions`; each is imported when the configuration is read, so in every
process of a run, and calls `register`. Installed packages name theirs under the entry point group
`latticebench.extensions`. docs/extending.md has an example of each kind.
"""

import importlib.metadata
from pathlib import Path
from typing import Any

from latticebench import user_files
from latticebench.errors import BadInput
from latticebench.files import sha256

ENTRY_POINT_GROUP = "latticebench.extensions"
KINDS = ("source", "metric", "codec", "family", "head")

_found: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
_installed: list[bool] = []


def register(kind: str, name: str, thing: Any) -> None:
    """Makes `thing` known by its name. Raises BadInput on an unknown kind or a name that another one has."""
    if kind not in KINDS:
        raise BadInput(f"extension {name!r}: unknown kind {kind!r}; known: {', '.join(KINDS)}")
    if name in _found[kind]:
        raise BadInput(f"two extensions register a {kind} called {name!r}; rename one")
    _found[kind][name] = thing


def find(kind: str) -> dict[str, Any]:
    """Everything of a kind that installed packages and loaded files registered, by name."""
    if not _installed:
        _installed.append(True)
        for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
            entry.load()
    return dict(_found[kind])


def load(path: str | Path) -> str:
    """Imports a file, once in a process, and returns its sha256. Raises BadInput where it is missing."""
    user_files.import_file(path, "extensions")
    return sha256(path)
