"""Released weights: the registry, fetching, safe reading and conversion.

`fetch(load(), "var-tokenizer")` gives the path of a checked file.
"""

from latticebench.weights.fetch import fetch, present
from latticebench.weights.registry import Entry, Registry, load

__all__ = ["Entry", "Registry", "fetch", "load", "present"]
