"""Finds methods by name: the files of this package, installed entry points, and files of the user's own."""

import dataclasses
import importlib
import importlib.metadata
import inspect
import pkgutil
import types
import typing
from pathlib import Path
from typing import Any

from latticebench import user_files
from latticebench.errors import BadInput
from latticebench.quantizers.base import Quantizer

_METHODS: dict[str, type[Quantizer]] = {}
_loaded: list[bool] = []

ENTRY_POINT_GROUP = "latticebench.quantizers"


def register(cls: type[Quantizer]) -> type[Quantizer]:
    """Class decorator: makes a method known by its `name`. Raises BadInput on an incomplete class or a taken name."""
    for attribute in ("name", "title", "reference", "Parameters"):
        if not hasattr(cls, attribute):
            raise BadInput(f"quantizer class {cls.__name__} has no `{attribute}`; see latticebench/quantizers/base.py")
    if not dataclasses.is_dataclass(cls.Parameters):
        raise BadInput(f"quantizer {cls.name}: Parameters must be a dataclass")
    known = _METHODS.get(cls.name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise BadInput(f"two quantizers are called {cls.name!r}: {known.__module__} and {cls.__module__}")
    _METHODS[cls.name] = cls
    return cls


def _load_all() -> None:
    if _loaded:
        return
    import latticebench.quantizers as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        entry.load()
    _loaded.append(True)


def load_module(path: str | Path) -> type[Quantizer]:
    """Imports a file that registers exactly one method and returns its class.

    Raises BadInput when the file is missing or registers none or several. Importing runs the file's code.
    """
    _load_all()
    name = user_files.import_file(path, "module").__name__
    found = [cls for cls in _METHODS.values() if cls.__module__ == name]
    if len(found) != 1:
        raise BadInput(f"{path} registers {len(found)} quantizers; a method file holds exactly one @register class")
    return found[0]


def available() -> list[str]:
    """Names of all known methods, sorted."""
    _load_all()
    return sorted(_METHODS)


def method(name: str) -> type[Quantizer]:
    """The class of a method. Raises BadInput that lists the known names."""
    _load_all()
    if name not in _METHODS:
        raise BadInput(f"unknown quantizer {name!r}; known: {', '.join(sorted(_METHODS))}")
    return _METHODS[name]


def build(cls: type[Quantizer], parameters: dict[str, Any]) -> Quantizer:
    """An instance from plain values. Raises BadInput on unknown, missing or ill-typed parameters."""
    return cls(parse_parameters(cls, parameters))


def create(name: str, **parameters: Any) -> Quantizer:
    """`create("fsq", levels=[8, 5, 5, 5])`. Raises BadInput on an unknown method or parameter."""
    return build(method(name), parameters)


def parse_parameters(cls: type[Quantizer], parameters: dict[str, Any]) -> Any:
    """The method's parameter dataclass from plain (YAML) values."""
    fields = {field.name: field for field in dataclasses.fields(cls.Parameters)}
    unknown = sorted(set(parameters) - set(fields))
    if unknown:
        raise BadInput(f"{cls.name}: unknown parameter {unknown[0]!r}; allowed: {', '.join(fields)}")
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and name not in parameters
    ]
    if missing:
        raise BadInput(f"{cls.name}: parameter {missing[0]!r} is required")
    types_ = typing.get_type_hints(cls.Parameters)
    values = {name: _coerce(cls.name, name, value, types_[name]) for name, value in parameters.items()}
    return cls.Parameters(**values)


def _coerce(method_name: str, name: str, value: Any, wanted: Any) -> Any:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _coerce(method_name, name, value, next(a for a in arguments if a is not type(None)))
    if origin is typing.Literal:
        if value not in arguments:
            raise BadInput(f"{method_name}: {name} must be one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_coerce(method_name, f"{name}[{i}]", v, arguments[0]) for i, v in enumerate(value))
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if inspect.isclass(wanted) and isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    if wanted is Any or (origin is dict and isinstance(value, dict)):
        return value
    raise BadInput(f"{method_name}: {name} must be {getattr(wanted, '__name__', wanted)}, got {value!r}")
