"""A finished generator on disk: model.safetensors and generator.json. Its tokenizer is not part of it."""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import nn

from latticebench.errors import BadInput, Missing
from latticebench.files import sha256, whole, write_json
from latticebench.generators.build import Generator, build

FORMAT = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "generator.json"


def write_weights(model: nn.Module, path: Path) -> str:
    """Writes a model's state dict and returns its sha256."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with whole(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors))
    return sha256(path)


def save(
    model: Generator, folder: Path, options: dict[str, Any], classes: dict[str, Any] | None, metadata: dict[str, Any]
) -> None:
    """Writes a generator; the description last, so a folder that has one is whole.

    options, classes: what `build` was given. metadata: further JSON-like facts, kept as they are.
    """
    weights = write_weights(model, folder / WEIGHTS)
    write_json(
        folder / DESCRIPTION,
        {
            **metadata,
            "format": FORMAT,
            "options": options,
            "classes": classes,
            "tokenizer_fingerprint": model.tokenizer_fingerprint,
            "tokenizer_sha256": model.tokenizer.metadata["weights_sha256"],
            "weights_sha256": weights,
        },
    )


def describe(folder: str | Path) -> dict[str, Any]:
    """What generator.json says. Raises Missing where the folder is unfinished, BadInput where it is damaged."""
    path = Path(folder) / DESCRIPTION
    if not path.is_file() or not (Path(folder) / WEIGHTS).is_file():
        raise Missing(f"{folder} is not a finished generator ({DESCRIPTION} and {WEIGHTS}); run its training first")
    try:
        facts = json.loads(path.read_text())
        if facts["format"] != FORMAT:
            raise BadInput(f"{path}: format {facts['format']}, this version reads {FORMAT}; train again")
    except (ValueError, KeyError) as error:
        raise BadInput(f"{path} is damaged ({error}); delete {folder} and train again") from error
    return facts


def load(
    folder: str | Path, tokenizer: nn.Module, classes: dict[str, Any] | None = None, weights: str = WEIGHTS
) -> Generator:
    """Restores a generator over its tokenizer, in eval mode on the CPU. weights: a snapshot's file, if not the last.

    classes: the class list that it is going to be told, if any. Raises Missing and BadInput as `describe`, and BadInput
    where the tokenizer or the class list is not the one that it was trained with: it would sample garbage silently.
    """
    folder = Path(folder)
    facts = describe(folder)
    found = (tokenizer.quantizer.fingerprint, tokenizer.metadata.get("weights_sha256"))
    stated = (facts["tokenizer_fingerprint"], facts["tokenizer_sha256"])
    if found != stated:
        raise BadInput(
            f"{folder} was trained on tokens of quantizer {stated[0][:12]} and weights {stated[1][:12]}, this tokenizer "
            f"has {found[0][:12]} and {str(found[1])[:12]}; use the tokenizer that it was trained with"
        )
    own = facts["classes"]
    if classes is not None and (own is None or own["sha256"] != classes["sha256"]):
        raise BadInput(
            f"{folder} was trained with the class list {own and own['sha256'][:12]}, these labels are of "
            f"{classes['sha256'][:12]}; labels of two lists must not be mixed"
        )
    model = build(facts["options"], tokenizer, own, seed=0)
    try:
        model.load_state_dict(safetensors.torch.load_file(folder / weights))
    except (safetensors.SafetensorError, RuntimeError, OSError) as error:
        raise BadInput(f"{folder / weights} is damaged or does not fit ({error}); delete it and train again") from error
    return model.eval()
