"""A finished tokenizer on disk: model.safetensors and tokenizer.json, enough to build it again."""

import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from latticebench.errors import BadInput, Missing
from latticebench.files import sha256, whole, write_json
from latticebench.tokenizers.base import Tokenizer
from latticebench.tokenizers.build import build

FORMAT = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "tokenizer.json"


def save(
    tokenizer: Tokenizer,
    folder: Path,
    tokenizer_options: dict[str, Any],
    quantizer: dict[str, Any],
    metadata: dict[str, Any],
) -> None:
    """Writes a tokenizer; the description last, so a folder that has one is whole.

    tokenizer_options, quantizer: what `build` was given. metadata: further JSON-like facts, kept as they are.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in tokenizer.state_dict().items()}
    with whole(folder / WEIGHTS) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors))
    quantizer = dict(quantizer)
    if "module" in quantizer:
        # Relative, so that a results folder can move together with the file it names.
        quantizer["module_sha256"] = sha256(quantizer["module"])
        quantizer["module"] = os.path.relpath(quantizer["module"], folder)
    write_json(
        folder / DESCRIPTION,
        {
            **metadata,
            "format": FORMAT,
            "architecture": tokenizer.architecture,
            "tokenizer": tokenizer_options,
            "quantizer": quantizer,
            "image_size": tokenizer.image_size,
            "scales": list(tokenizer.scales),
            "codebook_size": tokenizer.quantizer.codebook_size,
            "fingerprint": tokenizer.quantizer.fingerprint,
            "weights_sha256": sha256(folder / WEIGHTS),
        },
    )


def load(path: str | Path) -> Tokenizer:
    """Restores a tokenizer from its folder, in eval mode on the CPU.

    Raises Missing where the folder is not a finished checkpoint, BadInput where its files are damaged or
    the quantizer that this version builds is not the one that was trained (another fingerprint).
    """
    folder = Path(path)
    description, weights = folder / DESCRIPTION, folder / WEIGHTS
    if not description.is_file() or not weights.is_file():
        raise Missing(f"{folder} is not a finished tokenizer ({DESCRIPTION} and {WEIGHTS}); run its training first")
    try:
        metadata = json.loads(description.read_text())
        if metadata["format"] != FORMAT:
            raise BadInput(f"{description}: format {metadata['format']}, this version reads {FORMAT}; train again")
        options, quantizer, size = metadata["tokenizer"], dict(metadata["quantizer"]), metadata["image_size"]
        fingerprint = metadata["fingerprint"]
    except (ValueError, KeyError) as error:
        raise BadInput(f"{description} is damaged ({error}); delete {folder} and train again") from error
    if "module" in quantizer:
        quantizer["module"] = str(_checked_module(folder, quantizer, description))
        del quantizer["module_sha256"]
    # The seed matters to initial values only, which the state dict replaces.
    tokenizer = build(options, quantizer, size, seed=0)
    try:
        tokenizer.load_state_dict(safetensors.torch.load_file(weights))
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise BadInput(f"{weights} is damaged or does not fit ({error}); delete {folder} and train again") from error
    if tokenizer.quantizer.fingerprint != fingerprint:
        raise BadInput(
            f"{folder}: trained with quantizer {fingerprint[:12]}, this version builds"
            f" {tokenizer.quantizer.fingerprint[:12]}; its tokens would be decoded wrongly: train again"
        )
    tokenizer.metadata = metadata
    return tokenizer.eval()


def _checked_module(folder: Path, quantizer: dict[str, Any], description: Path) -> Path:
    module = (folder / quantizer["module"]).resolve()
    if not module.is_file():
        raise Missing(f"{description} names the quantizer file {module}, which is not there; put it back")
    if sha256(module) != quantizer["module_sha256"]:
        raise BadInput(f"{module} has changed since {folder} was trained with it; restore it or train again")
    return module
