"""Released state dicts onto our modules, strictly: every key is used, known to be needless, or an error."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from latticebench.errors import BadInput

LISTED = 20
"""Keys of each kind that an error shows."""


class Source(NamedTuple):
    """Where an entry of ours comes from.

    keys: released keys, joined along their first dimension. shape: the shape in the file where it differs from ours
    only by dimensions of size one. twins: keys of another version of the same weights, present but not taken.
    """

    keys: tuple[str, ...]
    shape: tuple[int, ...] | None = None
    twins: tuple[str, ...] = ()


class Released:
    """A state dict as it came, its wrappers' prefixes taken off.

    needless: regular expressions of keys that carry nothing our modules need (losses, counters, derived buffers).
    """

    def __init__(self, family: str, state: Mapping[str, Tensor], needless: Iterable[str] = ()) -> None:
        others = sorted(key for key, value in state.items() if not isinstance(value, Tensor))
        if others or not state:
            raise BadInput(
                f"{family}: a state dict of tensors is expected, but {_listed(others) or 'it is empty'}; "
                "pass the part of the file that holds the weights"
            )
        self.family = family
        self.tensors = _without_prefix(dict(state))
        self.needless = re.compile("|".join(f"(?:{pattern})" for pattern in needless) or r"(?!)")
        self.used: set[str] = set()

    def shape(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a key, or `default` where the file lacks it (loading will say so)."""
        return tuple(self.tensors[key].shape) if key in self.tensors else default

    def count(self, pattern: str) -> int:
        """One more than the largest number that the pattern's group captures at the start of a key; 0 for none."""
        expression = re.compile(pattern)
        return 1 + max((int(m[1]) for key in self.tensors if (m := expression.match(key))), default=-1)

    def take(self, key: str) -> Tensor | None:
        """A tensor that the adapter uses itself; None where it is missing."""
        self.used.add(key)
        return self.tensors.get(key)

    def first(self, *keys: str) -> str:
        """The first of several aliases that the file has; they must be equal. The first name where it has none."""
        present = [key for key in keys if key in self.tensors]
        for other in present[1:]:
            if not torch.equal(self.tensors[present[0]], self.tensors[other]):
                raise BadInput(f"{self.family}: {present[0]} and {other} are one tensor by name but differ")
            self.used.add(other)
        return present[0] if present else keys[0]

    def load(self, module: nn.Module, source: Callable[[str], Source | None]) -> None:
        """Fills the module's state dict; it may lie on the meta device and shares memory with the file's tensors.

        source: the name of an entry of ours -> its Source, or None for an entry that the file does not hold.
        Raises BadInput that lists missing, misshaped and left-over keys.
        """
        missing, misshaped, entries = [], [], {}
        for name, own in module.state_dict().items():
            wanted = source(name)
            if wanted is None:
                entries[name] = own
                continue
            self.used.update(wanted.keys, wanted.twins)
            absent = [key for key in (*wanted.keys, *wanted.twins) if key not in self.tensors]
            if absent:
                missing += absent
                continue
            for key, twin in zip(wanted.keys, wanted.twins, strict=bool(wanted.twins)):
                if self.tensors[key].shape != self.tensors[twin].shape:
                    shapes = tuple(self.tensors[twin].shape), tuple(self.tensors[key].shape)
                    misshaped.append(f"{twin} is {shapes[0]}, not {shapes[1]} as {key}")
            parts = [self.tensors[key] for key in wanted.keys]
            value = parts[0] if len(parts) == 1 else torch.cat(parts)
            if tuple(value.shape) != (wanted.shape or tuple(own.shape)):
                found = " + ".join(str(tuple(part.shape)) for part in parts)
                misshaped.append(f"{' + '.join(wanted.keys)} is {found}, not {wanted.shape or tuple(own.shape)}")
                continue
            entries[name] = value.detach().to(own.dtype).reshape(own.shape)
        left = sorted(key for key in self.tensors if key not in self.used and not self.needless.match(key))
        problems = [
            f"{len(keys)} {kind}: {_listed(keys)}"
            for kind, keys in (("missing", missing), ("misshaped", misshaped), ("unmapped", left))
            if keys
        ]
        if problems:
            raise BadInput(f"{self.family}: the state dict does not fit this architecture; " + "; ".join(problems))
        module.load_state_dict(entries, assign=True)


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Takes off what wrappers put before every key: `module.` of data parallelism, once or more often."""
    while all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def _listed(keys: list[str]) -> str:
    more = f", and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return ", ".join(keys[:LISTED]) + more
