"""A tokenizer from a subject's specification."""

import dataclasses
from pathlib import Path
from typing import Any

from latticebench import seeding
from latticebench.quantizers import Quantizer, registry
from latticebench.tokenizers.base import Tokenizer
from latticebench.tokenizers.vit import Architecture, ViTTokenizer
from latticebench.training.loop import seeded


def run_seed(spec: dict[str, Any], seed: int) -> int:
    """The root of all draws of one training: the configuration's root seed and the training seed."""
    return seeding.derive(spec["seed"], "tokenizer", seed)


def resolve_quantizer(entry: dict[str, Any], base: Path, seed: int) -> dict[str, Any]:
    """A quantizer entry with its draws fixed: method or module (made absolute from `base`) and parameters.

    A method's parameter `seed` that the configuration leaves open follows the training seed, so that
    random codebooks differ between seeds and the interval over seeds covers the draw.
    """
    resolved = {key: entry[key] for key in ("method", "module") if key in entry}
    if "module" in resolved:
        resolved["module"] = str((base / resolved["module"]).resolve())
    parameters = dict(entry["parameters"])
    fields = {field.name for field in dataclasses.fields(quantizer_class(resolved).Parameters)}
    if "seed" in fields and "seed" not in parameters:
        parameters["seed"] = seeding.derive(seed, "quantizer") % 2**31
    return {**resolved, "parameters": parameters}


def quantizer_class(entry: dict[str, Any]) -> type[Quantizer]:
    """The class that a quantizer entry names by `method`, or by the file `module`."""
    return registry.load_module(entry["module"]) if "module" in entry else registry.method(entry["method"])


def build(tokenizer: dict[str, Any], quantizer: dict[str, Any], image_size: int, seed: int) -> Tokenizer:
    """A tokenizer with seeded initial weights.

    tokenizer: the `tokenizer` part of a specification. quantizer: from `resolve_quantizer`. Raises BadInput on
    values that do not go together.
    """
    with seeded(seeding.derive(seed, "weights")):
        module = registry.build(quantizer_class(quantizer), quantizer["parameters"])
        names = [field.name for field in dataclasses.fields(Architecture)]
        return ViTTokenizer(module, image_size, Architecture(**{name: tokenizer[name] for name in names}), seed)
