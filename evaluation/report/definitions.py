"""What a method is, read from its source file: title, reference, equations and parameters.

The source is parsed, not imported: a report shows methods without the seconds that importing torch takes, and shows one
whose file no longer runs.
"""

import ast
import dataclasses
import functools
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter: its default as a text, None where it is required."""

    name: str
    default: str | None
    meaning: str


@dataclasses.dataclass(frozen=True)
class Definition:
    """A method. equations: the text at the top of its file. summary: the class's own. url may be empty."""

    method: str
    title: str
    paper: str
    year: int | None
    url: str
    summary: str
    equations: str
    parameters: tuple[Parameter, ...]


@dataclasses.dataclass(frozen=True)
class _Class:
    node: ast.ClassDef
    module: ast.Module


def find(method: str, file: Path | None = None) -> Definition:
    """A method of the package, or the one that a user's `file` defines; bare where no source says more."""
    known = dict(_package())
    if file is not None and file.is_file():
        known |= {found.node.name: found for found in _classes(file)}
    for found in known.values():
        if _literal(_own(found.node, "name")) == method:
            return _define(method, found, known)
    return Definition(method, method, "", None, "", "", "", ())


@functools.cache
def _package() -> dict[str, _Class]:
    spec = importlib.util.find_spec("latticebench.quantizers")
    folders = spec.submodule_search_locations if spec else None
    files = sorted(path for folder in folders or () for path in Path(folder).glob("*.py"))
    return {found.node.name: found for file in files for found in _classes(file)}


def _classes(file: Path) -> list[_Class]:
    module = ast.parse(file.read_text(encoding="utf-8"))
    return [_Class(node, module) for node in module.body if isinstance(node, ast.ClassDef)]


def _define(method: str, found: _Class, known: dict[str, _Class]) -> Definition:
    reference = _reference(_attribute(found, "reference", known), found, known)
    return Definition(
        method=method,
        title=_literal(_attribute(found, "title", known)) or method,
        paper=reference.get("paper") or "",
        year=reference.get("year"),
        url=reference.get("url") or "",
        summary=" ".join(_doc(found.node).split()),
        equations=_doc(found.module),
        parameters=_parameters(_nested(found, known)),
    )


def _doc(node: ast.ClassDef | ast.Module) -> str:
    return ast.get_docstring(node) or ""


def _lineage(found: _Class, known: dict[str, _Class]) -> list[_Class]:
    """The class and those that it inherits from, nearest first."""
    line = [found]
    for base in found.node.bases:
        name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
        if name in known and known[name] is not found:
            line += _lineage(known[name], known)
    return line


def _own(node: ast.ClassDef | ast.Module, name: str) -> ast.expr | None:
    """The expression that a class or module assigns to a name."""
    for part in node.body:
        targets = (
            part.targets if isinstance(part, ast.Assign) else [part.target] if isinstance(part, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return part.value
    return None


def _attribute(found: _Class, name: str, known: dict[str, _Class]) -> ast.expr | None:
    return next((value for each in _lineage(found, known) if (value := _own(each.node, name)) is not None), None)


def _literal(value: ast.expr | None) -> Any:
    try:
        return None if value is None else ast.literal_eval(value)
    except ValueError:
        return None


def _reference(value: ast.expr | None, owner: _Class, known: dict[str, _Class]) -> dict[str, Any]:
    """Fields of `Reference(paper, year, url)`, written in place or under a module's name for it."""
    if isinstance(value, ast.Name):
        modules = {id(found.module): found.module for found in (owner, *known.values())}.values()
        value = next((found for module in modules if (found := _own(module, value.id)) is not None), None)
    if not isinstance(value, ast.Call):
        return {}
    fields = dict(zip(("paper", "year", "url"), map(_literal, value.args), strict=False))
    return fields | {keyword.arg: _literal(keyword.value) for keyword in value.keywords if keyword.arg}


def _nested(found: _Class, known: dict[str, _Class]) -> ast.ClassDef | None:
    """The class `Parameters` inside the method's class or inside one that it inherits from."""
    for each in _lineage(found, known):
        for part in each.node.body:
            if isinstance(part, ast.ClassDef) and part.name == "Parameters":
                return part
    return None


def _parameters(node: ast.ClassDef | None) -> tuple[Parameter, ...]:
    if node is None:
        return ()
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
    meanings = _meanings(inspect.cleandoc(_doc(node)), {part.target.id for part in fields})
    return tuple(
        Parameter(
            part.target.id,
            None if part.value is None else _default(part.value),
            meanings.get(part.target.id, ""),
        )
        for part in fields
    )


def _default(value: ast.expr) -> str:
    """A string without its quotes, a mapping or list as YAML has it, anything else as Python writes it."""
    if isinstance(value, ast.Call):  # dataclasses.field(default_factory=lambda: ...)
        made = next((k.value for k in value.keywords if k.arg == "default_factory"), None)
        value = made.body if isinstance(made, ast.Lambda) else value
    literal = _literal(value)
    return ast.unparse(value) if literal is None else str(list(literal) if isinstance(literal, tuple) else literal)


def _meanings(text: str, names: set[str]) -> dict[str, str]:
    """Meanings from lines `name: meaning`, continued by indented ones."""
    meanings: dict[str, str] = {}
    current = None
    for line in text.splitlines():
        start = re.match(r"(\w+): +(.*)", line)
        if start and start[1] in names:
            current = start[1]
            meanings[current] = start[2]
        elif current and line.startswith(" "):
            meanings[current] += " " + line.strip()
    return meanings
