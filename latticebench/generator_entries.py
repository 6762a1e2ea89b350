"""The `generation` and `generators` parts of a configuration: entries resolved to subjects, and checked.

A generator's subject depends on everything in its entry; its training and its tokens depend on less, so each has
a subject of its own: a changed guidance strength trains nothing again, and two models of the same tokens share
them.
"""

import copy
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latticebench.errors import BadInput

if TYPE_CHECKING:
    from latticebench.configuration import Subject

BYTES_PER_WEIGHT = 16
"""A weight, its gradient and two moments, float32."""
_JUDGING = ("sampling", "sweep")
_UNLABELLED = ("bundled-photographs", "flat-folder")


def resolve(values: dict[str, Any], quantizers: "dict[str, Subject]") -> "list[Subject]":
    """The generator entries of the top level or of a suite; quantizers: its subjects by name.

    spec = {tokenizer: the tokenizer's spec, name and seeds, generation: merged options, seed: the root seed}.
    """
    from latticebench.configuration import merge

    result = []
    for name, entry in values["generators"].items():
        tokenizer = quantizers[entry["tokenizer"]]
        spec = {
            "tokenizer": {"name": tokenizer.name, "spec": tokenizer.spec, "seeds": len(tokenizer.seeds)},
            "generation": merge(values["generation"], entry["generation"]),
            "seed": values["seed"],
        }
        result.append(dataclasses.replace(tokenizer, name=name, spec=spec, seeds=tuple(range(entry["seeds"]))))
    return result


def tokenizer_of(generator: "Subject") -> "Subject":
    """The subject of the tokenizer whose tokens a generator models."""
    part = generator.spec["tokenizer"]
    return dataclasses.replace(generator, name=part["name"], spec=part["spec"], seeds=tuple(range(part["seeds"])))


def tokenizer_seed(generator: "Subject", seed: int) -> int:
    """The seed of the tokenizer that seed `seed` of a generator reads: the same, modulo the tokenizer's seeds."""
    return seed % generator.spec["tokenizer"]["seeds"]


def training_of(generator: "Subject") -> "Subject":
    """What a generator's training depends on: everything but sampling and sweeps."""
    spec = copy.deepcopy(generator.spec)
    for key in _JUDGING:
        del spec["generation"][key]
    return dataclasses.replace(generator, spec=spec)


def tokens_of(generator: "Subject") -> "Subject":
    """What the extracted tokens depend on: tokenizer, views and classes; its seeds are the tokenizer's."""
    tokenizer, options = tokenizer_of(generator), generator.spec["generation"]
    spec = {
        "tokenizer": tokenizer.spec,
        "tokens": options["tokens"],
        "classes": options["classes"],
        "seed": generator.spec["seed"],
    }
    return dataclasses.replace(tokenizer, spec=spec)


def check(validator: Any, path: Path, prefix: str, values: dict[str, Any]) -> None:
    """Raises BadInput naming the entry and the key where a generator cannot be trained or sampled as it says.

    validator: of the schema; it checks the entries' overrides in their place. prefix: of the keys, where `values`
    are those of a suite.
    """
    from latticebench.configuration import explain, merge

    for name, entry in values["generators"].items():
        where = f"{path}: {prefix}generators.{name}"
        if entry["tokenizer"] not in values["quantizers"]:
            known = ", ".join(values["quantizers"])
            raise BadInput(f"{where}.tokenizer: there is no quantizer entry {entry['tokenizer']!r}; there are {known}")
        merged = merge(values["generation"], entry["generation"])
        for error in validator.iter_errors({**values, "generation": merged, "generators": {}}):
            if error.absolute_path and error.absolute_path[0] == "generation":
                raise BadInput(f"{where}.{explain(error)}")
        _check_options(where, merged, values["data"])
        _check_head(where, merged, values["quantizers"][entry["tokenizer"]], path)


def _check_options(where: str, options: dict[str, Any], data: dict[str, Any]) -> None:
    model, sampling = options["model"], options["sampling"]
    if model["width"] % model["heads"]:
        raise BadInput(f"{where}: model.width {model['width']} is no multiple of model.heads {model['heads']}")
    if options["classes"] == "data" and data["source"] in _UNLABELLED:
        raise BadInput(f"{where}: {data['source']} has no labels; set generation.classes to pixels or none")
    count = _class_count(options["classes"], data)
    if model["classes"] is not None and count is not None and model["classes"] != count:
        raise BadInput(
            f"{where}: model.classes is {model['classes']}, generation.classes {options['classes']} has {count}; "
            "leave model.classes out"
        )
    guided = [s for s in (sampling["guidance"], *options["sweep"]["guidance"]) if s not in (1, [1, 1])]
    if guided and options["classes"] == "none":
        raise BadInput(f"{where}: guidance {guided[0]} without classes; set generation.classes, or guidance to 1")
    if guided and not model["class_drop"]:
        raise BadInput(
            f"{where}: guidance {guided[0]} needs model.class_drop above 0: a model that was always told the class "
            "knows no other distribution to be guided from"
        )
    late = [step for step in options["training"]["snapshots"] if step >= options["training"]["steps"]]
    if late:
        raise BadInput(f"{where}: training.snapshots: {late[0]} is not before the last of training.steps")


def _class_count(kind: str, data: dict[str, Any]) -> int | None:
    """Classes that a model is told, 0 for none; None where only the prepared data knows."""
    from latticebench.data import pixel_classes

    if kind == "data":
        # Preparing refuses to call any other number of classes ilsvrc.
        return 1000 if data["class_list"] == "ilsvrc" else None
    return len(pixel_classes.NAMES) if kind == "pixels" else 0


def _check_head(where: str, options: dict[str, Any], entry: dict[str, Any], path: Path) -> None:
    from latticebench.quantizers.base import MAX_INDEX_SIZE, Quantizer

    cls, size = _size(entry, path)
    if not cls.quantizes:
        raise BadInput(f"{where}.tokenizer: {cls.name} quantizes nothing, so there are no tokens to model")
    if size > MAX_INDEX_SIZE:
        raise BadInput(
            f"{where}.tokenizer: {cls.name} has K = 2^{math.log2(size):.0f} codes here, and tokens are kept as indices "
            "below 2^62; take a quantizer of at most 62 bits"
        )
    if options["head"]["kind"] == "digits":
        if cls.to_digits is Quantizer.to_digits:
            raise BadInput(f"{where}: head.kind digits: a code of {cls.name} has no digits; use full")
    else:
        check_memory(where, size, options)


def check_memory(where: str, codebook_size: int, options: dict[str, Any]) -> None:
    """Raises BadInput where a full head over `codebook_size` codes takes more than head.memory_mb."""
    need = BYTES_PER_WEIGHT * codebook_size * options["model"]["width"] / 1e6
    if need > options["head"]["memory_mb"]:
        raise BadInput(
            f"{where}: a full head over K = {codebook_size} codes of width {options['model']['width']} takes "
            f"{need:.4g} MB with gradients and moments, head.memory_mb allows {options['head']['memory_mb']}; "
            "set head.kind to digits, or raise it"
        )


def _size(entry: dict[str, Any], path: Path) -> tuple[Any, int]:
    """The quantizer's class and K; only a method whose parameters do not state K is built, which is quick."""
    import torch

    from latticebench.quantizers import registry

    cls = registry.load_module(path.parent / entry["module"]) if "module" in entry else registry.method(entry["method"])
    parameters = registry.parse_parameters(cls, entry["parameters"])
    size = getattr(parameters, "codebook_size", None)
    if not isinstance(size, int):
        with torch.random.fork_rng(devices=[]):
            size = cls(parameters).codebook_size
    return cls, size
