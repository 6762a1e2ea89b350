"""Reads a configuration: validated against the schema, defaults filled in, subjects named by their hash."""

import copy
import dataclasses
import difflib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from latticebench import extensions
from latticebench.errors import BadInput
from latticebench.files import canonical_json, hash8, sha256

SCHEMA = Path(__file__).resolve().parents[1] / "workflow" / "schemas" / "config.schema.yaml"


@dataclasses.dataclass(frozen=True)
class Subject:
    """One quantizer entry of a configuration, with everything that its training depends on.

    name: the entry's key. spec: data, tokenizer recipe, quantizer and root seed, fully resolved.
    seeds: the training seeds. `id` is `<name>-<hash8 of spec>` and names all of its paths.
    """

    name: str
    spec: dict[str, Any]
    seeds: tuple[int, ...]

    @property
    def id(self) -> str:
        return f"{self.name}-{hash8(self.spec)}"


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A validated configuration with all defaults filled in."""

    path: Path
    values: dict[str, Any]

    @property
    def name(self) -> str:
        return self.values["name"]

    @property
    def data_hash(self) -> str:
        """hash8 of everything that the prepared data depends on."""
        return hash8({"data": self._data(), "seed": self.values["seed"]})

    @property
    def extensions(self) -> dict[str, str]:
        """The files named under `extensions` with their sha256."""
        return {file: sha256(self.path.parent / file) for file in self.values.get("extensions", [])}

    def section(self, name: str) -> dict[str, Any]:
        """A section, with the extensions' hashes where there are any: what a job of that section depends on."""
        own = {"extensions": self.extensions} if self.extensions else {}
        return {**self.values[name], **own}

    def _data(self) -> dict[str, Any]:
        """The data section; of a source that an extension brings, with the extensions' hashes."""
        data = self.values["data"]
        return {**data, "extensions": self.extensions} if data["source"] in extensions.find("source") else data

    def subjects(self) -> list[Subject]:
        """The quantizer entries in the order of the file."""
        result = []
        for name, entry in self.values["quantizers"].items():
            tokenizer = merge(self.values["tokenizer"], entry.get("tokenizer", {}))
            quantizer = {key: entry[key] for key in ("method", "module", "parameters") if key in entry}
            if "module" in quantizer:
                # A changed file is another method: it gets paths of its own, and only its jobs run.
                quantizer["module_sha256"] = sha256(self.path.parent / quantizer["module"])
            spec = {
                "data": self._data(),
                "tokenizer": tokenizer,
                "quantizer": quantizer,
                "seed": self.values["seed"],
            }
            if "released" in entry:
                # Nothing is trained, so nothing of the recipe matters and there is one set of weights.
                spec |= {"released": entry["released"], "tokenizer": {}}
            seeds = 1 if "released" in entry else entry.get("seeds", self.values["seeds"])
            result.append(Subject(name, spec, tuple(range(seeds))))
        return result

    def subject(self, id_or_name: str) -> Subject:
        """A subject by id or name. Raises BadInput that lists the known ones."""
        subjects = self.subjects()
        for subject in subjects:
            if id_or_name in (subject.id, subject.name):
                return subject
        raise BadInput(f"{self.path}: no quantizer entry {id_or_name!r}; there are {', '.join(s.id for s in subjects)}")


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, mappings merged key by key."""
    result = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else copy.deepcopy(value)
    return result


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key written twice: one of the two would be dropped silently."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice (line {line})")
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: str | Path) -> Configuration:
    """Reads, validates and completes a configuration file.

    Raises BadInput naming the key, the value and what is allowed.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except OSError as error:
        raise BadInput(f"configuration {path} cannot be read: {error.strerror}") from error
    try:
        values = yaml.load(text, Loader=_UniqueKeys)
    except (yaml.YAMLError, UnicodeError) as error:
        raise BadInput(f"configuration {path} is not valid YAML: {' '.join(str(error).split())}") from error
    return from_values(values, path)


def from_values(values: Any, path: Path) -> Configuration:
    """A configuration from parsed values; see `load`."""
    values = _unshared(values)  # a YAML anchor used twice is one mapping; its defaults differ by place
    _load_extensions(values, path)
    validator = _validator(tuple(extensions.find("source")), tuple(extensions.find("codec")))
    error = next(iter(sorted(validator.iter_errors(values), key=lambda e: (len(e.absolute_path), str(e.path)))), None)
    if error is not None:
        raise BadInput(f"{path}: {_explain(error)}")
    for name, entry in values["quantizers"].items():
        merged = {**values, "quantizers": {}, "tokenizer": merge(values["tokenizer"], entry["tokenizer"])}
        for error in validator.iter_errors(merged):
            if error.absolute_path and error.absolute_path[0] == "tokenizer":
                raise BadInput(f"{path}: quantizers.{name}.{_explain(error)}")
        _check_quantizer(path, name, entry)
    return Configuration(path, values)


def _load_extensions(values: Any, path: Path) -> None:
    """Imports the files of `extensions`, before the schema is asked: what they register may be named in the file."""
    files = values.get("extensions") if isinstance(values, dict) else None
    for file in files if isinstance(files, list) else []:
        if isinstance(file, str):
            try:
                extensions.load(path.parent / file)
            except BadInput as error:
                raise BadInput(f"{path}: {error}") from error


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(part) for key, part in value.items()}
    return [_unshared(part) for part in value] if isinstance(value, list) else value


def _check_quantizer(path: Path, name: str, entry: dict[str, Any]) -> None:
    from latticebench.quantizers import registry

    if ("method" in entry) == ("module" in entry):
        raise BadInput(f"{path}: quantizers.{name} needs either `method:` or `module:`, not both")
    try:
        if "module" in entry:
            module = Path(entry["module"])
            cls = registry.load_module(module if module.is_absolute() else path.parent / module)
        else:
            cls = registry.method(entry["method"])
        registry.parse_parameters(cls, entry["parameters"])
    except BadInput as error:
        raise BadInput(f"{path}: quantizers.{name}: {error}") from error


@functools.cache
def schema() -> dict[str, Any]:
    """The schema as parsed from its file; not to be changed."""
    return yaml.safe_load(SCHEMA.read_text())


def schema_keys() -> list[tuple[str, str, str, str]]:
    """Every key that a configuration may hold, in order: (dotted key, allowed values, default, meaning)."""
    return list(_keys("", schema()))


def _keys(prefix: str, node: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for name, child in node.get("properties", {}).items():
        key = prefix + name
        required = name in node.get("required", [])
        entry = child.get("additionalProperties")
        if child.get("properties") or isinstance(entry, dict):
            yield from _keys(f"{key}.", child)
            if isinstance(entry, dict):
                yield from _keys(f"{key}.<name>.", entry)
        elif child.get("type") != "object" or "description" in child:
            default = "required" if required else _plain(child.get("default", "unset"))
            yield key, _allowed(child), default, child.get("description", "")


def _allowed(node: dict[str, Any]) -> str:
    if "enum" in node:
        return ", ".join(_plain(value) for value in node["enum"])
    types = node.get("type", "any")
    text = " or ".join(_plain(t) if t != "null" else "null" for t in ([types] if isinstance(types, str) else types))
    if "items" in node:
        text += f" of {_allowed(node['items'])}"
    bounds = [("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")]
    return ", ".join([text, *(f"{sign} {node[key]}" for key, sign in bounds if key in node)])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _extended(sources: tuple[str, ...], codecs: tuple[str, ...]) -> dict[str, Any]:
    """The schema with the names of extensions allowed. Raises BadInput where one is taken."""
    result = copy.deepcopy(schema())
    places = {
        "source": (result["properties"]["data"]["properties"]["source"]["enum"], sources),
        "codec": (result["properties"]["compression"]["properties"]["codecs"]["items"]["enum"], codecs),
    }
    for kind, (allowed, names) in places.items():
        taken = sorted(set(allowed) & set(names))
        if taken:
            raise BadInput(f"an extension registers the {kind} {taken[0]!r}, which exists already; rename it")
        allowed += names
    return result


@functools.cache
def _validator(sources: tuple[str, ...], codecs: tuple[str, ...]) -> Any:
    import jsonschema

    base = jsonschema.Draft202012Validator

    def fill_defaults(validator: Any, properties: dict[str, Any], instance: Any, schema: Any) -> Any:
        if isinstance(instance, dict):
            for key, subschema in properties.items():
                if "default" in subschema:
                    instance.setdefault(key, copy.deepcopy(subschema["default"]))
        yield from base.VALIDATORS["properties"](validator, properties, instance, schema)

    return jsonschema.validators.extend(base, {"properties": fill_defaults})(_extended(sources, codecs))


def _explain(error: Any) -> str:
    where = ".".join(map(str, error.absolute_path)) or "the file"
    if error.validator == "additionalProperties":
        allowed = sorted(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in allowed)
        close = difflib.get_close_matches(str(unknown), allowed, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{where}: unknown key {unknown!r}; allowed: {', '.join(allowed)}{hint}"
    if error.validator == "enum":
        return f"{where}: {error.instance!r} is not allowed; allowed: {', '.join(map(repr, error.validator_value))}"
    if error.validator == "required":
        return f"{where}: {error.message}"
    return f"{where}: {error.instance!r}: {error.message}"
