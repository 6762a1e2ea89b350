"""What the families' dataclasses share."""

import dataclasses
from typing import Any, TypeVar

from latticebench.errors import BadInput

T = TypeVar("T")


def fill(family: str, kind: type[T], values: dict[str, Any]) -> T:
    """The family's dataclass from keyword arguments (lists become tuples). Raises BadInput on an unknown name."""
    names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise BadInput(f"{family}: unknown architecture option {unknown[0]!r}; known: {', '.join(names)}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def agree(family: str, options: Any, found: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """For each name the option where it was given, else what the file's shapes say."""
    values = {}
    for name in names:
        given = getattr(options, name)
        values[name] = getattr(found, name) if given is None else given
    return values
