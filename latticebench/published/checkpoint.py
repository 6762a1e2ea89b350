"""From a fetched file to a checkpoint of ours, which `tokenizers.load` restores without knowing where it came from."""

import dataclasses
from pathlib import Path
from typing import Any

from latticebench import published
from latticebench.errors import BadInput, Missing
from latticebench.tokenizers import checkpoint
from latticebench.tokenizers.base import Tokenizer, trainable_parameters
from latticebench.weights import Entry, Registry, present


def tokenizer(registry: Registry, name: str) -> Tokenizer:
    """The tokenizer of a fetched entry. Raises Missing where it is not here, BadInput where it is none."""
    entry = registry.entry(name)
    if entry.family is None or published.module(entry.family).NEEDS_TOKENIZER:
        raise BadInput(f"{name} is no tokenizer")
    return published.adapt(entry.family, _state(registry, name), **entry.architecture)


def generator(registry: Registry, name: str) -> Any:
    """The generator of a fetched transformer, over its fetched tokenizer."""
    entry = registry.entry(name)
    if entry.tokenizer is None or entry.family is None:
        raise BadInput(f"{name} is no transformer")
    under = tokenizer(registry, entry.tokenizer)
    return published.adapt(entry.family, _state(registry, name), tokenizer=under, **entry.architecture)


def write(registry: Registry, name: str, made: Tokenizer, folder: Path, facts: dict[str, Any] | None = None) -> None:
    """Writes `made`, the tokenizer of an entry, as model.safetensors and tokenizer.json into `folder`.

    facts: further JSON-like facts for the description.
    """
    entry = registry.entry(name)
    quantizer = {
        "method": made.quantizer.name,
        "parameters": dataclasses.asdict(made.quantizer.parameters_dataclass),
    }
    options = {"architecture": made.architecture, **made.definition()}
    checkpoint.save(made, folder, options, quantizer, {**_facts(registry, entry, made), **(facts or {})})


def _facts(registry: Registry, entry: Entry, made: Tokenizer) -> dict[str, Any]:
    pin = registry.pin(entry.name) or {}
    return {
        "name": entry.name,
        "method": made.quantizer.name,
        "parameters": trainable_parameters(made),
        "released": {
            "title": entry.title,
            "place": entry.place,
            "sha256": pin.get("sha256"),
            "licence": entry.licence,
            "weights": entry.weights,
            "settings": entry.settings,
            "reproduces": list(entry.reproduces),
        },
    }


def _state(registry: Registry, name: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    path = present(registry, name)
    if path is None:
        raise Missing(f"{name} is not here; run: latticebench fetch {name}")
    return load_file(path)
