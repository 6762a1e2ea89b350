"""Running checkpoints: where an interrupted training goes on.

One safetensors file a checkpoint, `step-<n>.safetensors`: tensors of the model, the optimizer and the
random state, and in its metadata the step, the log and the identity of the run. The newest two are
kept, so a damaged file costs the steps since the one before it and no more.
"""

import dataclasses
import errno
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from latticebench.errors import BadInput, LatticebenchError
from latticebench.files import whole

log = logging.getLogger(__name__)

FORMAT = "1"
KEPT = 2


@dataclasses.dataclass(frozen=True)
class State:
    """Everything that a training needs to go on; `identity` names what it must not go on with."""

    step: int
    seconds: float
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    random: Tensor
    rows: list[dict[str, float]]
    identity: dict[str, str]
    fingerprint: str
    ema: dict[str, Tensor] = dataclasses.field(default_factory=dict)


def save(folder: Path, state: State) -> Path:
    """Writes a checkpoint and drops all but the newest two.

    Raises LatticebenchError on a full disk; older checkpoints stay.
    """
    tensors, plain = _flatten(state)
    text = json.dumps(plain)
    metadata = {"format": FORMAT, "state": text, "state_sha256": _of_text(text), "sha256": _digest(tensors)}
    path = folder / f"step-{state.step:08d}.safetensors"
    try:
        with whole(path) as temporary:
            temporary.write_bytes(safetensors.torch.save(tensors, metadata))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        older = _paths(folder)
        kept = f"; {older[0].name} is kept" if older else ""
        raise LatticebenchError(
            f"the disk is full: checkpoint {path} could not be written{kept}; free some space and run again to go on"
        ) from error
    for old in _paths(folder)[KEPT:]:
        old.unlink()
    return path


def newest(folder: Path, identity: dict[str, str]) -> State | None:
    """The newest readable checkpoint, or None; a damaged one is passed over with a warning.

    Raises BadInput where a checkpoint belongs to another run (configuration, data, seed).
    """
    paths = _paths(folder)
    for i, path in enumerate(paths):
        try:
            state = _read(path)
        except (safetensors.SafetensorError, ValueError, KeyError, OSError) as error:
            then = f"going on from {paths[i + 1].name}" if i + 1 < len(paths) else "starting again from step 0"
            log.warning("checkpoint %s is damaged (%s); %s", path, error, then)
            continue
        different = [key for key in sorted(identity) if state.identity.get(key) != identity[key]]
        if different:
            detail = ", ".join(f"{key} {state.identity.get(key)} instead of {identity[key]}" for key in different)
            raise BadInput(f"checkpoint {path} is of another run: {detail}; delete {folder} to start again")
        return state
    return None


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


def _flatten(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {f"model/{key}": value for key, value in state.model.items()}
    tensors |= {f"optimizer/{key}": value for key, value in state.optimizer.items()}
    tensors |= {f"ema/{key}": value for key, value in state.ema.items()}
    tensors["random"] = state.random
    # Tied entries would share memory, which safetensors refuses; a clone costs little beside the write.
    tensors = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}
    plain = {
        "step": state.step,
        "seconds": state.seconds,
        "rows": state.rows,
        "identity": state.identity,
        "fingerprint": state.fingerprint,
    }
    return tensors, plain


def _read(path: Path) -> State:
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"format {metadata.get('format')} instead of {FORMAT}")
    if metadata["sha256"] != _digest(tensors):
        raise ValueError("its tensors differ from their checksum")
    if metadata.get("state_sha256") not in (None, _of_text(metadata["state"])):  # older versions wrote none
        raise ValueError("its state differs from its checksum")
    plain = json.loads(metadata["state"])
    return State(
        step=plain["step"],
        seconds=plain["seconds"],
        model=_below("model/", tensors),
        optimizer=_below("optimizer/", tensors),
        random=tensors["random"],
        rows=plain["rows"],
        identity=plain["identity"],
        fingerprint=plain["fingerprint"],
        ema=_below("ema/", tensors),
    )


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
