"""The identity of a class list: labels of two lists must never be mixed."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Literal

from latticebench.errors import BadInput

_SYNSET = re.compile(r"n\d{8}")
_ENDS = ("n01440764", "n15075141")
"""ILSVRC-2012's first and last synset, tench and toilet tissue."""


def identity(names: Sequence[str], declared: Literal["auto", "local", "ilsvrc"] = "auto") -> dict[str, Any]:
    """{kind, count, sha256 of the ordered names, names}.

    kind `ilsvrc` means ILSVRC-2012's 1000 classes in the order of their sorted synsets, the order that released
    generators use: found by itself for exactly 1000 sorted synset names from n01440764 to n15075141, or declared
    where the names are words.
    Anything else, a subset of ILSVRC included, is `local`. Raises BadInput on a declaration that cannot be true.
    """
    names = list(names)
    synsets = len(names) == 1000 and names == sorted(set(names)) and (names[0], names[-1]) == _ENDS
    synsets = synsets and all(_SYNSET.fullmatch(name) for name in names)
    if declared == "ilsvrc" and len(names) != 1000:
        raise BadInput(f"data.class_list: ilsvrc has 1000 classes, the data has {len(names)}; use local")
    kind = "ilsvrc" if declared == "ilsvrc" or (declared == "auto" and synsets) else "local"
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return {"kind": kind, "count": len(names), "sha256": digest, "names": names}
