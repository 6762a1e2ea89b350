"""One optimizer for matrices, another for the rest: which parameter gets which, by its role."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from latticebench.errors import BadInput
from latticebench.training.adamw import AdamW
from latticebench.training.loop import Optimizer
from latticebench.training.optimizers.dion import Dion
from latticebench.training.optimizers.lion import Lion
from latticebench.training.optimizers.muon import Muon

Role = Literal["matrices", "embeddings", "scales", "adaptive", "head"]
ROLES: tuple[Role, ...] = ("matrices", "embeddings", "scales", "adaptive", "head")
"""matrices: inside blocks. embeddings: of classes, positions and levels, and what reads code vectors. scales: vectors,
biases and norms. adaptive: what steers norms by the class. head: the matrix before the softmax."""
DECAYED = ("matrices", "head")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """
    matrices: optimizer of the matrices
    rest: optimizer of everything else
    betas: of AdamW and Lion
    weight_decay: decoupled, of the matrices and the head alone
    momentum: of Muon and Dion
    rank_fraction: of Dion
    scaled_head: the head's learning rate is multiplied by 1/√width
    """

    matrices: Literal["adamw", "lion", "muon", "dion"] = "adamw"
    rest: Literal["adamw", "lion"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    momentum: float = 0.95
    rank_fraction: float = 1.0
    scaled_head: bool = True

    def __post_init__(self) -> None:
        if self.matrices not in ("adamw", "lion", "muon", "dion") or self.rest not in ("adamw", "lion"):
            raise BadInput(
                "optimizer: adamw, lion, muon or dion for the matrices and adamw or lion for the rest, "
                f"got {self.matrices} and {self.rest}"
            )
        if not 0 < self.rank_fraction <= 1:
            raise BadInput(f"optimizer: rank_fraction must lie in (0, 1], got {self.rank_fraction}")


class Grouped:
    """Several optimizers as one; each follows `rate` times its factor."""

    def __init__(self, parts: Mapping[str, tuple[Optimizer, float]]) -> None:
        self.parts = dict(parts)
        self.rate = 0.0

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for optimizer, _ in self.parts.values():
            optimizer.zero_grad()

    def step(self) -> None:
        """One update of every parameter that has a gradient."""
        for optimizer, factor in self.parts.values():
            optimizer.rate = self.rate * factor
            optimizer.step()

    def state_dict(self) -> dict[str, Tensor]:
        """The parts' states, below their names."""
        return {
            f"{name}/{key}": tensor
            for name, (optimizer, _) in self.parts.items()
            for key, tensor in optimizer.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Raises KeyError or ValueError where the state is of other parameters."""
        foreign = [key for key in state if key.partition("/")[0] not in self.parts]
        if foreign:
            raise KeyError(f"optimizer state of other groups: {foreign[0]}")
        for name, (optimizer, _) in self.parts.items():
            optimizer.load_state_dict(
                {key.partition("/")[2]: tensor for key, tensor in state.items() if key.partition("/")[0] == name}
            )


def make(parameters: Mapping[str, Tensor], roles: Mapping[str, Role], recipe: Recipe) -> Grouped:
    """The optimizers of a recipe over named parameters, all that need a gradient in exactly one of them.

    roles: of each name. Raises KeyError where a parameter has none, ValueError where one comes under two names.
    """
    moving = {name: p for name, p in parameters.items() if p.requires_grad}
    if len({id(p) for p in moving.values()}) != len(moving):
        raise ValueError("a parameter has two names, so it would be moved twice")
    by_role: dict[str, list[Tensor]] = {role: [] for role in ROLES}
    for name, parameter in moving.items():
        by_role[roles[name]].append(parameter)
    parts: dict[str, tuple[Optimizer, float]] = {}
    for role, members in by_role.items():
        if members:
            build = _builder(recipe.matrices if role == "matrices" else recipe.rest, recipe)
            decay = recipe.weight_decay if role in DECAYED else 0.0
            factor = 1 / math.sqrt(members[0].shape[1]) if role == "head" and recipe.scaled_head else 1.0
            parts[role] = (build(members, decay), factor)
    return Grouped(parts)


def _builder(kind: str, recipe: Recipe) -> Callable[[list[torch.Tensor], float], Optimizer]:
    if kind == "adamw":
        return lambda members, decay: AdamW(members, recipe.betas, decay)
    if kind == "lion":
        return lambda members, decay: Lion(members, recipe.betas, decay)
    if kind == "muon":
        return lambda members, decay: Muon(members, recipe.momentum, decay)
    return lambda members, decay: Dion(members, recipe.momentum, recipe.rank_fraction, decay)
