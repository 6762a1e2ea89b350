"""A tokenizer from a subject's specification."""

import dataclasses
from pathlib import Path
from typing import Any

from latticebench import seeding
from latticebench.errors import BadInput
from latticebench.quantizers import Quantizer, registry
from latticebench.tokenizers import convolutional, paper_vit
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
        return _around(module, tokenizer, image_size, seed)


def _around(quantizer: Quantizer, tokenizer: dict[str, Any], image_size: int, seed: int) -> Tokenizer:
    kind = tokenizer.get("architecture", ViTTokenizer.architecture)
    if kind == ViTTokenizer.architecture:
        return ViTTokenizer(quantizer, image_size, _options(Architecture, tokenizer), seed)
    if kind == paper_vit.PaperViTTokenizer.architecture:
        return paper_vit.PaperViTTokenizer(quantizer, image_size, _options(paper_vit.Architecture, tokenizer))
    if kind in (convolutional.ConvolutionalTokenizer.architecture, convolutional.MultiScaleTokenizer.architecture):
        options = convolutional.Architecture.from_definition(_completed(tokenizer, kind, quantizer.dim))
        return convolutional.build(quantizer, image_size, options)
    raise BadInput(f"tokenizer.architecture: unknown kind {kind!r}")


def _completed(tokenizer: dict[str, Any], kind: str, dim: int) -> dict[str, Any]:
    """A configuration's section as a definition: it names a schedule of scales for one scale too, and may leave the
    latent to the quantizer."""
    network = tokenizer["network"]
    scales = tokenizer.get("scales") if kind == convolutional.MultiScaleTokenizer.architecture else None
    return {**tokenizer, "network": {**network, "latent": network["latent"] or dim}, "scales": scales}


def _options(kind: type, values: dict[str, Any]) -> Any:
    return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind)})
