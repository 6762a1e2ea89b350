"""Lightning files of Open-MAGVIT2 and SimVQ: raw weights, and their moving average under names without dots."""

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor

from latticebench.errors import BadInput
from latticebench.published.keys import Released, Source

AVERAGE = "model_ema."
NEEDLESS = [r"loss\.", r"model_ema\.(decay|num_updates)$", r"model_ema\.loss"]
"""Discriminator and perceptual network, counters, and their averages."""

Weights = Literal["ema", "raw"]


def opened(family: str, state_dict: Mapping[str, Tensor], weights: Weights | None) -> tuple[Released, bool]:
    """The state dict, and whether its moving average is taken (the authors' choice where the file has one)."""
    plain = Released(family, state_dict)
    averaged = any(key.startswith(AVERAGE) and key.count(".") == 1 and _is_weight(key) for key in plain.tensors)
    if weights == "ema" and not averaged:
        raise BadInput(f"{family}: weights: ema was asked for, but the file has no {AVERAGE}* entries; use raw")
    average = averaged if weights is None else weights == "ema"
    return Released(family, state_dict, [*NEEDLESS, *([] if average else [r"model_ema\."])]), average


def from_average(source: Callable[[str], Source | None], frozen: tuple[str, ...]) -> Callable[[str], Source | None]:
    """Takes entries from the moving average, all but the released keys in `frozen`, which it does not cover."""

    def averaged(name: str) -> Source | None:
        found = source(name)
        if found is None or found.keys[0] in frozen:
            return found
        averages = tuple(AVERAGE + key.replace(".", "") for key in found.keys)
        return Source(averages, found.shape, twins=found.keys)

    return averaged


def _is_weight(key: str) -> bool:
    return key not in (AVERAGE + "decay", AVERAGE + "num_updates")
