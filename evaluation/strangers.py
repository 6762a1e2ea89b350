"""A prior's file at the door of `compress` and `decompress`: checked here, since the codec takes it at its word."""

import json
from pathlib import Path

from evaluation.compression import coder, priors
from evaluation.compression.codec import TokenCodec
from evaluation.compression.digits import MAX_CODEBOOK
from evaluation.compression.layout import Layout
from latticebench.errors import BadInput

_TYPES = {"static": {"I64"}, "network": {"I16", "I32"}}
_MOST = {"codebook_size": MAX_CODEBOOK, "rows": 2**16, "columns": 2**16, "width": 4096, "layers": 64, "heads": 64}
"""Largest numbers of a prior's metadata, the network's those of the configuration's schema; the smallest is 1."""
_RAISED = (ArithmeticError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What json, numpy, torch and the codec raise on contents that are no prior's."""


def codec(layout: Layout, file: Path | None) -> TokenCodec:
    """The codec of a tokenizer under the prior in a file, or under none.

    Raises Missing where the file is not there, BadInput that names it where it is no prior or another tokenizer's.
    """
    if file is None:
        return TokenCodec(layout)
    prior = _loaded(file)
    try:
        return TokenCodec(layout, prior)
    except BadInput as error:
        raise BadInput(
            f"--prior {file}: {error}; give the prior that was fitted to this tokenizer, which the compression stage of "
            "`make run` and `python -m evaluation.compression.fit` write"
        ) from error


def _loaded(file: Path) -> priors.Prior:
    try:
        if file.is_file():
            _check(file)
        return priors.load(file)
    except _RAISED as error:
        raise BadInput(
            f"--prior {file} is damaged or no prior ({type(error).__name__}: {error}); give a file that the compression "
            "stage of `make run` or `python -m evaluation.compression.fit` wrote"
        ) from error


def _check(file: Path) -> None:
    """Raises ValueError and others of _RAISED on types and numbers that no fitted prior has."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as content:
            metadata = json.loads((content.metadata() or {}).get(priors.METADATA, "null"))
            parts = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118 (not a mapping)
            types = {name: part.get_dtype() for name, part in parts.items()}
            ranks = {name: len(part.get_shape()) for name, part in parts.items()}
            if not isinstance(metadata, dict):
                raise ValueError("it has no description")
            static = metadata.get("kind") == "static"
            odd = [name for name, kind in types.items() if kind not in _TYPES["static" if static else "network"]]
            if odd:
                raise ValueError(f"its array {odd[0]} is of type {types[odd[0]]}")
            if static and (ranks.get("codes"), ranks.get("table")) != (1, 1):
                raise ValueError("its codes or its table are no lists of numbers")
            # A sum of larger entries may run over and come out right.
            if static and content.get_tensor("table").max(initial=0) > coder.TOTAL:
                raise ValueError("its table exceeds its total")
    except (SafetensorError, OSError) as error:
        raise ValueError(str(error)) from error
    for key, most in _MOST.items():
        if key in metadata and not 1 <= int(metadata[key]) <= most:
            raise ValueError(f"its {key} is {metadata[key]}; from 1 to {most} is possible")
