"""A finished tokenizer on disk: model.safetensors and tokenizer.json, enough to build it again.

Where training kept a moving average of the weights, it lies beside them in ema.safetensors.
"""

import copy
import json
import os
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from latticebench.errors import BadInput, Missing
from latticebench.files import UNREADABLE, sha256, whole, write_json
from latticebench.tokenizers.base import Tokenizer
from latticebench.tokenizers.build import build

FORMAT = 1
WEIGHTS = "model.safetensors"
AVERAGED = "ema.safetensors"
DESCRIPTION = "tokenizer.json"


def save(
    tokenizer: Tokenizer,
    folder: Path,
    tokenizer_options: dict[str, Any],
    quantizer: dict[str, Any],
    metadata: dict[str, Any],
    ema: dict[str, Tensor] | None = None,
) -> None:
    """Writes a tokenizer; the description last, so a folder that has one is whole.

    tokenizer_options, quantizer: what `build` was given. metadata: further JSON-like facts, kept as they are.
    ema: averaged weights, a state dict.
    """
    weights = _write(tokenizer.state_dict(), folder / WEIGHTS)
    facts: dict[str, Any] = {}
    if ema is not None:
        averaged = copy.deepcopy(tokenizer)
        averaged.load_state_dict(ema)
        facts["ema"] = {"fingerprint": averaged.quantizer.fingerprint, "weights_sha256": _write(ema, folder / AVERAGED)}
    if next(tokenizer.parameters()).dtype == torch.float64:
        facts["dtype"] = "float64"
    quantizer = dict(quantizer)
    if "module" in quantizer:
        # Relative, so that a results folder can move together with the file it names.
        quantizer["module_sha256"] = sha256(quantizer["module"])
        quantizer["module"] = os.path.relpath(quantizer["module"], folder)
    write_json(
        folder / DESCRIPTION,
        {
            **metadata,
            **facts,
            "format": FORMAT,
            "architecture": tokenizer.architecture,
            "tokenizer": tokenizer_options,
            "quantizer": quantizer,
            "image_size": tokenizer.image_size,
            "scales": list(tokenizer.scales),
            "codebook_size": tokenizer.quantizer.codebook_size,
            "fingerprint": tokenizer.quantizer.fingerprint,
            "weights_sha256": weights,
        },
    )


def _write(state: dict[str, Tensor], path: Path) -> str:
    """Writes tensors and returns the file's sha256."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with whole(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors))
    return sha256(path)


def load(path: str | Path, weights: Literal["raw", "ema"] = "raw") -> Tokenizer:
    """Restores a tokenizer from its folder, in eval mode on the CPU.

    weights: those that training ended with, or `ema`, their moving average.

    Raises Missing where the folder is not a finished checkpoint, BadInput where its files are damaged or
    the quantizer that this version builds is not the one that was trained (another fingerprint).
    """
    folder = Path(path)
    description, file = folder / DESCRIPTION, folder / (AVERAGED if weights == "ema" else WEIGHTS)
    if not description.is_file() or not (folder / WEIGHTS).is_file():
        raise Missing(f"{folder} is not a finished tokenizer ({DESCRIPTION} and {WEIGHTS}); run its training first")
    try:
        metadata = json.loads(description.read_text())
        if metadata["format"] != FORMAT:
            raise BadInput(f"{description}: format {metadata['format']}, this version reads {FORMAT}; train again")
        options, quantizer, size = metadata["tokenizer"], dict(metadata["quantizer"]), metadata["image_size"]
        if weights == "ema" and "ema" not in metadata:
            raise Missing(f"{folder} has no moving average of its weights; train with tokenizer.training.ema above 0")
        facts = metadata["ema"] if weights == "ema" else metadata
        fingerprint, digest = facts["fingerprint"], facts["weights_sha256"]
    except MemoryError:
        raise
    except UNREADABLE as error:
        raise BadInput(f"{description} is damaged ({error}); delete {folder} and train again") from error
    if sha256(file) != digest:
        raise BadInput(f"{file} has changed since it was written; run again, or delete {folder} and train again")
    if "module" in quantizer:
        quantizer["module"] = str(_checked_module(folder, quantizer, description))
        del quantizer["module_sha256"]
    # The seed matters to initial values only, which the state dict replaces.
    try:
        tokenizer = build(options, quantizer, size, seed=0)
    except MemoryError:
        raise
    except (*UNREADABLE, RuntimeError) as error:
        raise BadInput(f"{description} is damaged ({error!r}); delete {folder} and train again") from error
    if metadata.get("dtype") == "float64":
        tokenizer.double()
    try:
        tokenizer.load_state_dict(safetensors.torch.load_file(file))
    except (safetensors.SafetensorError, RuntimeError, OSError) as error:
        raise BadInput(f"{file} is damaged or does not fit ({error}); delete {folder} and train again") from error
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
