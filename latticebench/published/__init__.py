"""Released state dicts read into our modules, one file a family.

`adapt("var-tokenizer", state_dict)` gives a Tokenizer, `adapt("var-transformer", state_dict, tokenizer=…)` a
generator. What an option of a family's `Architecture` leaves open (None) is read from the file's shapes.
"""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from latticebench import extensions
from latticebench.errors import BadInput
from latticebench.published.architecture import fill

_MODULES = {
    "npq-vit": "npq_vit",
    "infinitycc-tokenizer": "infinitycc_tokenizer",
    "infinitycc-transformer": "infinitycc_transformer",
    "infinity-tokenizer": "infinity_tokenizer",
    "var-tokenizer": "var_tokenizer",
    "var-transformer": "var_transformer",
    "open-magvit2": "open_magvit2",
    "simvq": "simvq",
    "llamagen": "llamagen",
}


def families() -> list[str]:
    """Names of all families."""
    return list(_MODULES)


def module(family: str) -> ModuleType:
    """The family's file: its `Architecture`, `NEEDS_TOKENIZER`, `STAND_INS` and `adapt`. Raises BadInput."""
    if family not in _MODULES:
        others = extensions.find("family")
        if family not in others:
            raise BadInput(f"unknown family {family!r}; known: {', '.join([*_MODULES, *others])}")
        return others[family]
    return importlib.import_module(f"{__name__}.{_MODULES[family]}")


def adapt(
    family: str, state_dict: Mapping[str, Tensor], *, tokenizer: nn.Module | None = None, **architecture: Any
) -> nn.Module:
    """A Tokenizer, or for the transformers a generator over `tokenizer`, in eval mode.

    state_dict: the weights inside the file's container, with or without the wrappers' `module.`; the modules share
    its memory. architecture: options of the family's `Architecture`. Raises BadInput that lists every missing,
    misshaped and unmapped key, or names an unknown option.
    """
    adapter = module(family)
    if adapter.NEEDS_TOKENIZER and tokenizer is None:
        raise BadInput(f"{family}: a transformer needs its tokenizer, adapt(…, tokenizer=…)")
    if not adapter.NEEDS_TOKENIZER and tokenizer is not None:
        raise BadInput(f"{family} is a tokenizer itself; leave out tokenizer=…")
    options = fill(family, adapter.Architecture, architecture)
    given = (state_dict, options) if tokenizer is None else (state_dict, options, tokenizer)
    return adapter.adapt(*given).eval()
