"""Reads released checkpoints without running anything in them.

Pickles go through torch's weights-only reader, which builds tensors, plain containers, numbers and strings.
A family's file may hold a few other classes (a configuration object, parsed arguments); their names are on
the family's list and become inert stand-ins. Everything else is refused by name,
and so is a file that would cost more memory than it has bytes.
"""

import contextlib
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latticebench.errors import BadInput
from latticebench.weights import screening


class StandIn:
    """Takes the place of an object of a listed class: remembers nothing, does nothing."""

    def __new__(cls, *args: Any) -> "StandIn":
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _plain_dict(*args: Any) -> dict[Any, Any]:
    return {}


_FILLED_ITEM_BY_ITEM = {"collections.defaultdict": _plain_dict}
"""Containers that the reader fills after it made them: a stand-in could not take the items."""


def state_dict(
    path: Path, container: tuple[tuple[str, ...], ...], stand_ins: tuple[str, ...] = ()
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a file at the first path of keys that exists, and a list of what was left out.

    container: paths to try, () for the whole file. stand_ins: dotted names of classes that may occur. Raises BadInput
    on a damaged file, on code, and where no path leads to tensors.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path), []
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise _damaged(path, error) from error
    content = _load(path, stand_ins)
    for keys in container or ((),):
        found: Any = content
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, dict) and any(isinstance(value, Tensor) for value in found.values()):
            tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
            _check_size(path, tensors)
            return tensors, _left_out(content, found)
    tried = ", ".join("/".join(keys) or "the whole file" for keys in container)
    has = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
    raise BadInput(f"{path}: no state dict at {tried}; the file holds {has}")


_MOST_SHARED = 4


def _check_size(path: Path, tensors: dict[str, Tensor]) -> None:
    """Raises BadInput where tensors are larger than the file: views may repeat a stored number without end.

    Tied weights are tensors that share what is stored once, so that a file may hold a little more than its bytes.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size > _MOST_SHARED * path.stat().st_size:
        raise BadInput(f"{path} is refused: its tensors take {size} bytes and it has {path.stat().st_size}")


def _left_out(content: dict[Any, Any], taken: dict[Any, Any], prefix: str = "") -> list[str]:
    """Names and types of what is not a tensor of the state dict, two levels deep."""
    left = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        if value is taken:
            left += [f"{name}.{k} ({_kind(v)})" for k, v in taken.items() if not isinstance(v, Tensor)]
        elif isinstance(value, dict) and any(v is taken for v in value.values()):
            left += _left_out(value, taken, f"{name}.")
        elif content is not taken or not isinstance(value, Tensor):
            left.append(f"{name} ({_kind(value)})")
    return left


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return f"dict of {len(value)}"
    return type(value).__name__


def _load(path: Path, stand_ins: tuple[str, ...]) -> Any:
    try:
        is_zip = zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:
        raise _damaged(path, error) from error
    with _listed(stand_ins), warnings.catch_warnings():
        # torch warns of pickle protocols that it rarely sees; what it can't read it refuses anyway.
        warnings.simplefilter("ignore", UserWarning)
        try:
            if is_zip:
                screening.check_zip(path)
            growing = [name for name in screening.growing(path, is_zip) if name not in stand_ins]
            if growing:
                raise _refused(path, growing)
            if is_zip:
                unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
                if unsafe:
                    raise _refused(path, sorted(unsafe))
            # Memory-mapped, so that a tensor costs memory only while it is copied out.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
        except pickle.UnpicklingError as error:
            named = str(error).partition("GLOBAL ")[2].split(" ")[0]
            raise (_refused(path, [named]) if named else _damaged(path, error)) from error
        except BadInput:
            raise
        except Exception as error:  # the reader interprets a stranger's bytes and raises almost anything
            raise _damaged(path, error) from error


def _refused(path: Path, names: list[str]) -> BadInput:
    return BadInput(
        f"{path} is refused: it wants to build {', '.join(names)}, which may run code or fill the memory. If a class "
        "is harmless, add its name to STAND_INS of the family's adapter in latticebench/published/"
    )


def _damaged(path: Path, error: Exception) -> BadInput:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return BadInput(f"{path} cannot be read as a checkpoint ({first}); delete it and fetch it again")


@contextlib.contextmanager
def _listed(names: tuple[str, ...]) -> Iterator[None]:
    allowed = [(_FILLED_ITEM_BY_ITEM.get(name) or type(name, (StandIn,), {}), name) for name in names]
    with torch.serialization.safe_globals(allowed):  # type: ignore[arg-type]
        yield
