"""What each method offers, read from its own dataclass and docstrings: for the command and for docs/quantizers.md."""

import dataclasses
import inspect
import re
import types
import typing
from typing import Any, NamedTuple

from latticebench.quantizers import registry
from latticebench.quantizers.base import Quantizer


class Parameter(NamedTuple):
    """A row of a method's parameter table; all texts."""

    name: str
    type: str
    default: str
    meaning: str


def parameters(cls: type[Quantizer]) -> list[Parameter]:
    """The method's parameters in order; meanings from lines `name: meaning` in the docstring of `Parameters`."""
    hints = typing.get_type_hints(cls.Parameters)
    meanings = _meanings(
        inspect.getdoc(cls.Parameters) or "", {field.name for field in dataclasses.fields(cls.Parameters)}
    )
    return [
        Parameter(field.name, _type(hints[field.name]), _default(field), meanings.get(field.name, ""))
        for field in dataclasses.fields(cls.Parameters)
    ]


def _meanings(text: str, names: set[str]) -> dict[str, str]:
    meanings: dict[str, str] = {}
    current = None
    for line in text.splitlines():
        start = re.match(r"(\w+): +(.*)", line)
        if start and start[1] in names:
            current = start[1]
            meanings[current] = start[2]
        elif current and line.startswith(" "):
            meanings[current] += " " + line.strip()
    return {name: meaning.rstrip(".") for name, meaning in meanings.items()}


def _type(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("none" if argument is type(None) else _type(argument) for argument in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    return getattr(hint, "__name__", str(hint))


def _default(field: dataclasses.Field) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is dataclasses.MISSING:
        return "required"
    else:
        value = field.default
    if value is None:
        return "none"
    return (
        str(list(value)) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)
    )


def size(quantizer: Quantizer) -> str:
    """K and bits, such as `15,360 (13.907 bits)`; `none` where nothing is quantized."""
    if not quantizer.quantizes:
        return "none"
    k = quantizer.codebook_size
    return f"{f'{k:,}' if k < 10**12 else f'2^{quantizer.bits:.4g}'} ({quantizer.bits:.6g} bits)"


def section(cls: type[Quantizer]) -> str:
    """A method's part of the page, in Markdown."""
    paper, year, url = cls.reference
    cite = f"[{paper}]({url}), {year}" if url else f"{paper}"
    rows = "\n".join(f"| `{p.name}` | {p.type} | {p.default} | {p.meaning} |" for p in parameters(cls))
    return (
        f"## `{cls.name}`\n\n**{cls.title}.** {cite}.\n\n{inspect.getdoc(cls)}\n\n"
        f"K with the defaults: {size(registry.build(cls, {}))}.\n\n"
        f"| parameter | type | default | meaning |\n|---|---|---|---|\n{rows}\n"
    )


def page() -> str:
    """The text of docs/quantizers.md: every method of this package."""
    methods = [registry.method(name) for name in registry.available()]
    own = [cls for cls in methods if cls.__module__.startswith("latticebench.")]
    return INTRODUCTION + "\n" + "\n".join(section(cls) for cls in own)


INTRODUCTION = """# Quantizers

Every method is one file in `latticebench/quantizers/` behind one contract (`latticebench/quantizers/base.py`):

```python
import torch
from latticebench.quantizers import create

quantizer = create("fsq", levels=[8, 5, 5, 5])
z = torch.randn(2, 16, quantizer.dim, requires_grad=True)
out = quantizer(z)  # out.vectors, out.indices, out.loss, out.terms
assert torch.equal(quantizer.decode(quantizer.encode(z)), out.vectors)
```

In a configuration: `quantizers: {mine: {method: fsq, parameters: {levels: [8, 5, 5, 5]}}}`. Unknown parameters are
errors. `latticebench quantizers` lists this in a terminal, and `latticebench quantizers --markdown` writes this page.

Conventions that hold for all of them:

- The forward value is the code vector bit for bit, written q + (z − z.detach()); `decode(encode(z))` equals it.
- Searches run in float32 (float64 for float64 input) with autocast off; of equal scores the lowest index wins.
  No (tokens x K) matrix exceeds `tile_mb` MiB.
- Errors are means over all elements, β is on the commitment side, and entropies are in nats.
- Batch statistics (the mean assignment of lgq, the entropies of lfq and bsq, moving averages, restarts and
  first-batch codebooks of vq) are those of the joined batch of all processes.
- Indices are int64 up to K = 2^62, beyond that there are digits only. fsq counts its first coordinate as the least
  significant digit, lfq and bsq as the most significant bit; other implementations differ, so compare code vectors.
- `loss` is already weighted; `terms` holds its parts unweighted.
"""
