"""Vector quantizers behind one contract. `create(name, **parameters)` makes one; `available()` lists them."""

from latticebench.quantizers.base import Quantized, Quantizer, Reference, straight_through
from latticebench.quantizers.registry import available, build, create, load_module, method, register

__all__ = [
    "Quantized",
    "Quantizer",
    "Reference",
    "available",
    "build",
    "create",
    "load_module",
    "method",
    "register",
    "straight_through",
]
