"""Reads a configuration: validated against the schema, defaults filled in, subjects named by their hash."""

import copy
import dataclasses
import difflib
import functools
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from latticebench import extensions, generator_entries, tokenizer_entries
from latticebench.errors import BadInput
from latticebench.files import canonical_json, hash8, read_own_yaml, sha256

SCHEMA = Path(__file__).resolve().parents[1] / "workflow" / "schemas" / "config.schema.yaml"
MAIN_SUITE = "main"
"""Name of the suite that the top level's quantizers make up."""
_MOST_VALUES = 100_000
SUITE_SECTIONS = ("data", "tokenizer", "generation")
"""Sections that a suite may override."""

AVERAGED = "-averaged"
"""Ends the name of an entry's second subject, the moving average of its weights."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """One quantizer entry of a configuration, with everything that its training depends on.

    name: the entry's key. spec: data, tokenizer recipe, quantizer and root seed, fully resolved.
    seeds: the training seeds. `id` is `<name>-<hash8 of spec>` and names all of its paths.
    """

    name: str
    spec: dict[str, Any]
    seeds: tuple[int, ...]

    @functools.cached_property
    def id(self) -> str:
        return f"{self.name}-{hash8(self.spec)}"

    @functools.cached_property
    def data_hash(self) -> str:
        """hash8 of everything that the prepared data depends on; names its folder."""
        return hash8({"data": self.spec["data"], "seed": self.spec["seed"]})

    @property
    def trained(self) -> "Subject":
        """The subject whose training makes the weights: itself, or what this one is the moving average of."""
        if "weights" not in self.spec:
            return self
        spec = {key: value for key, value in self.spec.items() if key != "weights"}
        return Subject(self.name.removesuffix(AVERAGED), spec, self.seeds)


@dataclasses.dataclass(frozen=True)
class Suite:
    """A named part of a configuration that can be run on its own.

    title: for the report. table: the published table that it reproduces, or None. subjects: its quantizer entries
    in the order of the file; an entry that several suites share is one subject, with the most seeds any of them asks.
    generators: its generator entries, see `generator_entries`.
    """

    name: str
    title: str
    table: str | None
    subjects: tuple[Subject, ...]
    generators: tuple[Subject, ...] = ()


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
        """hash8 of everything that the top level's prepared data depends on."""
        return hash8({"data": self._data(self.values["data"]), "seed": self.values["seed"]})

    @property
    def extensions(self) -> dict[str, str]:
        """The files named under `extensions` with their sha256."""
        return {file: sha256(self.path.parent / file) for file in self.values.get("extensions", [])}

    def section(self, name: str) -> dict[str, Any]:
        """A section, with the extensions' hashes where there are any: what a job of that section depends on."""
        own = {"extensions": self.extensions} if self.extensions else {}
        return {**self.values[name], **own}

    def _data(self, data: dict[str, Any]) -> dict[str, Any]:
        """A data section; of a source that an extension brings, with the extensions' hashes."""
        return {**data, "extensions": self.extensions} if data["source"] in extensions.find("source") else data

    def suites(self) -> list[Suite]:
        """The suites in the order of the file; the top level's own quantizers are the suite `main`, and come first."""
        return list(self._suites)

    def suite(self, name: str) -> Suite:
        """A suite by name. Raises BadInput that lists the known ones."""
        suites = {suite.name: suite for suite in self._suites}
        if name not in suites:
            close = difflib.get_close_matches(name, suites, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise BadInput(f"{self.path}: no suite {name!r}; there are {', '.join(suites)}{hint}")
        return suites[name]

    def subjects(self) -> list[Subject]:
        """The quantizer entries of all suites in the order of the file, each once."""
        return list({subject.id: subject for suite in self._suites for subject in suite.subjects}.values())

    def generators(self) -> list[Subject]:
        """The generator entries of all suites in the order of the file, each once."""
        return list({generator.id: generator for suite in self._suites for generator in suite.generators}.values())

    def generator(self, id_or_name: str) -> Subject:
        """A generator by id, or by a name that only one has. Raises BadInput that lists the known ones."""
        return self._find(id_or_name, self.generators(), "generator")

    def subject(self, id_or_name: str) -> Subject:
        """A subject by id, or by a name that only one has. Raises BadInput that lists the known ones."""
        return self._find(id_or_name, self.subjects(), "quantizer")

    def _find(self, id_or_name: str, subjects: list[Subject], what: str) -> Subject:
        found = [subject for subject in subjects if subject.id == id_or_name]
        found = found or [subject for subject in subjects if subject.name == id_or_name]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(subject.id for subject in found)
            raise BadInput(f"{self.path}: {id_or_name!r} is an entry of several suites; name one of {ids}")
        known = ", ".join(subject.id for subject in subjects) or "none"
        raise BadInput(f"{self.path}: no {what} entry {id_or_name!r}; there are {known}")

    def seed_groups(self, subject: Subject) -> list[str]:
        """The seeds of a subject as its jobs take them, `jobs.seeds_per_job` at a time: "0-1", "2", …"""
        size = self.values["jobs"]["seeds_per_job"]
        groups = [subject.seeds[start : start + size] for start in range(0, len(subject.seeds), size)]
        return [str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups]

    def with_data(self, data_hash: str) -> "Configuration":
        """This configuration with the data section of that hash at its top level. Raises BadInput on an unknown one."""
        sections = [self.values["data"], *(suite["data"] for suite in self.values.get("suites", {}).values())]
        for section in sections:
            config = dataclasses.replace(self, values={**self.values, "data": section})
            if config.data_hash == data_hash:
                return config
        raise BadInput(f"{self.path}: no suite has data of the hash {data_hash!r}")

    @functools.cached_property
    def _suites(self) -> tuple[Suite, ...]:
        values = self.values
        parts = {MAIN_SUITE: values} if "quantizers" in values else {}
        parts |= values.get("suites", {})
        made = {name: self._entries(part) for name, part in parts.items()}
        seeds: dict[str, tuple[int, ...]] = {}
        for subjects in made.values():
            for subject in subjects:
                seeds[subject.id] = max(seeds.get(subject.id, ()), subject.seeds, key=len)
        result = []
        for name, own in made.items():
            part = parts[name]
            subjects = tuple(dataclasses.replace(subject, seeds=seeds[subject.id]) for subject in own)
            generators = generator_entries.resolve({**values, **part}, {subject.name: subject for subject in subjects})
            result.append(Suite(name, part.get("title", name), part.get("table"), subjects, tuple(generators)))
        return tuple(result)

    def _entries(self, part: dict[str, Any]) -> list[Subject]:
        """The quantizer entries of the top level or of a suite."""
        result = []
        for name, entry in part["quantizers"].items():
            tokenizer = merge(part["tokenizer"], entry.get("tokenizer", {}))
            quantizer = {key: entry[key] for key in ("method", "module", "parameters") if key in entry}
            if "module" in quantizer:
                # A changed file is another method: it gets paths of its own, and only its jobs run.
                quantizer["module_sha256"] = sha256(self.path.parent / quantizer["module"])
            spec = {
                "data": self._data(part["data"]),
                "tokenizer": tokenizer,
                "quantizer": quantizer,
                "seed": self.values["seed"],
            }
            if "released" in entry:
                # Nothing is trained, so nothing of the recipe matters and there is one set of weights.
                spec |= {"released": entry["released"], "tokenizer": {}}
            seeds = 1 if "released" in entry else entry.get("seeds", self.values["seeds"])
            result.append(Subject(name, spec, tuple(range(seeds))))
            if "released" not in entry and tokenizer["training"]["ema"]:
                # Judged beside the raw weights, as a row of its own.
                result.append(Subject(name + AVERAGED, {**spec, "weights": "ema"}, tuple(range(seeds))))
        return result


def parse_seeds(text: str) -> list[int]:
    """ "3" -> [3], "0-2" -> [0, 1, 2]. Raises BadInput on anything else."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise BadInput(f"--seeds: {text!r} is neither a seed (0) nor a range of them (0-1)")
    return list(range(int(match[1]), int(match[2] or match[1]) + 1))


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
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<` brings keys that others may override
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice (line {line})")
            seen.add(key)
        return super().construct_mapping(node, deep)


CHECKED = "LATTICEBENCH_CHECKED"
"""Environment variable: the fingerprint of the configuration that a run has checked in full, for its jobs."""


def fingerprint(path: str | Path) -> str | None:
    """Of a configuration file's place and content; None where it cannot be read."""
    path = Path(path)
    try:
        return hashlib.sha256(bytes(path.resolve()) + b"\0" + path.read_bytes()).hexdigest()
    except OSError:
        return None


def load(path: str | Path, methods: bool = True) -> Configuration:
    """Reads, validates and completes a configuration file.

    methods: False leaves out what only the methods' own code can say about their entries. It spares readers of
    results the import of torch: whatever made the results has asked it. So it is left out in the jobs of a run that
    has asked it of the same file (`CHECKED`).
    Raises BadInput naming the key, the value and what is allowed.
    """
    path = Path(path)
    methods = methods and os.environ.get(CHECKED) != fingerprint(path)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise BadInput(f"configuration {path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise BadInput(f"configuration {path} is not valid YAML: nested too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # PyYAML lets errors of conversions through
        raise BadInput(f"configuration {path} is not valid YAML: {' '.join(str(error).split())}") from error
    return from_values(values, path, methods)


def from_values(values: Any, path: Path, methods: bool = True) -> Configuration:
    """A configuration from parsed values; see `load`."""
    try:
        values = _unshared(values)
    except RecursionError as error:
        raise BadInput(f"{path}: nested too deeply, or an anchor that holds itself") from error
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from error
    _load_extensions(values, path)
    validator = _validator(tuple(extensions.find("source")), tuple(extensions.find("codec")))
    error = next(iter(sorted(validator.iter_errors(values), key=lambda e: (len(e.absolute_path), str(e.path)))), None)
    if error is not None:
        raise BadInput(f"{path}: {explain(error)}")
    if "quantizers" not in values and "suites" not in values:
        raise BadInput(f"{path}: the file needs `quantizers:`, or `suites:` with quantizers of their own")
    if values["generators"] and "quantizers" not in values:
        raise BadInput(f"{path}: generators need quantizers beside them; put them into the suite that has those")
    if "quantizers" in values and methods:
        _check_entries(validator, path, "", values)
    for name, suite in values.get("suites", {}).items():
        _complete_suite(validator, path, name, values)
        if methods:
            _check_entries(validator, path, f"suites.{name}.", {**values, **suite})
    config = Configuration(path, values)
    _check_priors(config)
    return config


def _check_priors(config: Configuration) -> None:
    """Raises BadInput where a network prior is asked for an entry that the file lacks."""
    names = {subject.name for subject in config.subjects()}
    for name in config.values["compression"]["network"]:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise BadInput(f"{config.path}: compression.network: there is no quantizer entry {name!r}{hint}")


def _complete_suite(validator: Any, path: Path, name: str, values: dict[str, Any]) -> None:
    """Fills the sections that a suite may override with the top level's. Raises BadInput on a value not allowed."""
    suite = values["suites"][name]
    if name == MAIN_SUITE and "quantizers" in values:
        raise BadInput(f"{path}: suites.{name}: the top level's quantizers have this name; choose another")
    for section in SUITE_SECTIONS:
        suite[section] = merge(values[section], suite[section])
    merged = {**values, "suites": {}, **{section: suite[section] for section in SUITE_SECTIONS}}
    for error in validator.iter_errors(merged):
        if error.absolute_path and error.absolute_path[0] in SUITE_SECTIONS:
            raise BadInput(f"{path}: suites.{name}.{explain(error)}")


def _check_entries(validator: Any, path: Path, prefix: str, values: dict[str, Any]) -> None:
    """Raises BadInput on a quantizer entry of the top level or a suite that is not allowed."""
    for name, entry in values["quantizers"].items():
        where = f"{prefix}quantizers.{name}"
        merged = {**values, "quantizers": {}, "tokenizer": merge(values["tokenizer"], entry["tokenizer"])}
        for error in validator.iter_errors(merged):
            if error.absolute_path and error.absolute_path[0] == "tokenizer":
                raise BadInput(f"{path}: {where}.{explain(error)}")
        _check_quantizer(path, where, entry)
        if "released" not in entry:
            tokenizer_entries.check(
                f"{path}: {where}", entry, merged["tokenizer"], values["data"]["size"], values["jobs"], path.parent
            )
    generator_entries.check(validator, path, prefix, values)


def _load_extensions(values: Any, path: Path) -> None:
    """Imports the files of `extensions`, before the schema is asked: what they register may be named in the file."""
    files = values.get("extensions") if isinstance(values, dict) else None
    for file in files if isinstance(files, list) else []:
        if isinstance(file, str):
            try:
                extensions.load(path.parent / file)
            except BadInput as error:
                raise BadInput(f"{path}: {error}") from error


def _unshared(values: Any) -> Any:
    """A copy in which an anchor that is used twice is two mappings: their defaults differ by place.

    Raises ValueError where anchors of anchors multiply beyond any configuration, RecursionError for one inside itself.
    """
    left = _MOST_VALUES

    def copied(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"more than {_MOST_VALUES} values once its anchors are written out")
        if isinstance(value, dict):
            odd = next((key for key in value if not isinstance(key, str)), None)
            if odd is not None:
                raise ValueError(f"key {odd!r} is not text; quote it")
            return {key: copied(part) for key, part in value.items()}
        return [copied(part) for part in value] if isinstance(value, list) else value

    return copied(values)


def _check_quantizer(path: Path, where: str, entry: dict[str, Any]) -> None:
    from latticebench.quantizers import registry

    if ("method" in entry) == ("module" in entry):
        raise BadInput(f"{path}: {where} needs either `method:` or `module:`, not both")
    try:
        if "module" in entry:
            module = Path(entry["module"])
            cls = registry.load_module(module if module.is_absolute() else path.parent / module)
        else:
            cls = registry.method(entry["method"])
        registry.parse_parameters(cls, entry["parameters"])
    except BadInput as error:
        raise BadInput(f"{path}: {where}: {error}") from error


@functools.cache
def schema() -> dict[str, Any]:
    """The schema as parsed from its file; not to be changed."""
    return read_own_yaml(SCHEMA)


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
    items = node.get("items", {})
    if items:
        text += f" of {_allowed(items)}"
    bounds = [("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")]
    # A number or an array of such numbers: the bound of both is said once.
    return ", ".join([text, *(f"{s} {node[key]}" for key, s in bounds if key in node and node[key] != items.get(key))])


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


def explain(error: Any) -> str:
    """A schema error as one line that names the key, the value and what is allowed."""
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
