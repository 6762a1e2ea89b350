"""The roles of a generator's parameters: which optimizer may move them, and how fast."""

from torch import nn

from latticebench.training.optimizers.groups import Role

_EMBEDDINGS = {"class_embedding", "level_embedding", "start", "place", "word", "before", "above"}
_ADAPTIVE = {"steer", "head_steer", "offset"}


def roles(model: nn.Module) -> dict[str, Role]:
    """Name -> role, of every parameter of a generator or its transformer.

    Raises KeyError where a name is not known, so that a new part of a model must be given a role.
    """
    return {name: _role(name, parameter.ndim) for name, parameter in model.named_parameters()}


def _role(name: str, dimensions: int) -> Role:
    parts = name.removeprefix("transformer.").split(".")
    if _ADAPTIVE & set(parts):
        return "adaptive"
    if parts[0] == "head":
        return "head" if dimensions == 2 else "scales"
    if parts[0] in _EMBEDDINGS:
        return "embeddings" if dimensions > 1 else "scales"
    if parts[0] in ("blocks", "norm"):
        return "matrices" if dimensions == 2 else "scales"
    raise KeyError(f"parameter {name} has no role")
