"""Several quantizers of one kind whose codes are written one after the other: what residual and product share."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from latticebench.errors import BadInput
from latticebench.quantizers import digits, registry
from latticebench.quantizers.base import MAX_INDEX_SIZE, Quantizer
from latticebench.quantizers.checks import require


def check_base(method: str, base: dict[str, Any]) -> None:
    """Raises BadInput unless base is {method, parameters} of a method that has codes."""
    unknown = sorted(set(base) - {"method", "parameters"})
    require("method" in base and not unknown, method, "base", base, "{method: a name, parameters: {...}}")
    try:
        cls = registry.method(base["method"])
        registry.parse_parameters(cls, base.get("parameters") or {})
    except BadInput as error:
        raise BadInput(f"{method}: base: {error}") from error
    require(cls.quantizes, method, "base", base["method"], "a method that has codes")


class Composite(Quantizer):
    """Parts made from one entry; a part's `seed`, where it has one, is the entry's plus ours plus the part's number.

    Digits are those of the parts in turn. The index counts the first part as the most significant.
    """

    parts: nn.ModuleList

    def _set_up(self, base: dict[str, Any], count: int, seed: int) -> None:
        cls, values = registry.method(base["method"]), base.get("parameters") or {}
        first = registry.parse_parameters(cls, values)
        drawn = any(field.name == "seed" for field in dataclasses.fields(first))
        self.parts = nn.ModuleList(
            cls(dataclasses.replace(first, seed=first.seed + seed + i) if drawn else first) for i in range(count)
        )
        self._sizes = tuple(part.codebook_size for part in self.parts)
        self.codebook_size = math.prod(self._sizes)
        self._places = digits.place_values(self._sizes, first_least=False)

    def encode(self, z: Tensor) -> Tensor:
        self.check_indexable()
        return self.from_digits(self.encode_digits(z))

    def decode(self, indices: Tensor) -> Tensor:
        return self.decode_digits(self.to_digits(indices))

    @property
    def digit_sizes(self) -> tuple[int, ...]:
        """The digits of the first part, then those of the second, and so on."""
        return tuple(size for part in self.parts for size in part.digit_sizes)

    def to_digits(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        own = digits.split(indices, self._sizes, self._places).unbind(-1)
        return torch.cat([part.to_digits(i) for part, i in zip(self.parts, own, strict=True)], dim=-1)

    def from_digits(self, digits_: Tensor) -> Tensor:
        self.check_indexable()
        own = self._split_digits(digits_)
        return self._join([part.from_digits(d) for part, d in zip(self.parts, own, strict=True)])

    def _split_digits(self, digits_: Tensor) -> Sequence[Tensor]:
        """digits (..., n) -> those of each part. Raises ValueError on invalid ones."""
        self.check_digits(digits_)
        return digits_.split([len(part.digit_sizes) for part in self.parts], dim=-1)

    def _join(self, indices: Sequence[Tensor | None]) -> Tensor | None:
        """The parts' indices (...) -> the index (...), None where K exceeds 2^62."""
        if self.codebook_size > MAX_INDEX_SIZE:
            return None
        return digits.join(torch.stack([i for i in indices if i is not None], dim=-1), self._places)

    @property
    def learnable(self) -> frozenset[str]:
        return frozenset(f"parts.{i}.{name}" for i, part in enumerate(self.parts) for name in part.learnable)

    def set_progress(self, fraction: float) -> None:
        super().set_progress(fraction)
        for part in self.parts:
            part.set_progress(fraction)

    def definition(self) -> dict[str, Any]:
        return {"base": self.parts[0].name, "parts": [part.definition() for part in self.parts]}

    def definition_tensors(self) -> dict[str, Tensor]:
        return {
            f"parts.{i}.{name}": tensor
            for i, part in enumerate(self.parts)
            for name, tensor in part.definition_tensors().items()
        }


def summed(terms: Iterable[dict[str, Tensor]], share: float = 1.0) -> dict[str, Tensor]:
    """Each named term summed over the parts, times `share`."""
    total: dict[str, Tensor] = {}
    for part in terms:
        for name, value in part.items():
            total[name] = total[name] + value * share if name in total else value * share
    return total
