"""One colour and one marker a quantizer, everywhere.

The colour follows the method, in hues that stay apart under the common colour-vision deficiencies (after Okabe and Ito,
and Tol); entries that share a method differ in marker and line style, so no difference rests on colour alone.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Mapping

COLOURS: Mapping[str, str] = {
    "identity": "#6B7280",
    "leech": "#D55E00",
    "leech-published": "#E6A100",
    "vq": "#0072B2",
    "simvq": "#56B4E9",
    "lfq": "#009E73",
    "bsq": "#CC79A7",
    "fsq": "#6C42AD",
    "lgq": "#A50F3C",
    "random": "#8C8C8C",
    "fibonacci": "#A29A35",
}
_OTHERS = ("#7A4B1E", "#3E8E8A", "#B35AD6", "#5C7F2B", "#C4546B")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
_FIRST_MARKER: Mapping[str, str] = {
    "vq": "o",
    "simvq": "s",
    "lfq": "^",
    "bsq": "v",
    "fsq": "D",
    "lgq": "P",
    "random": "X",
    "fibonacci": "p",
    "leech": "*",
    "leech-published": "h",
    "identity": "_",
}
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


@dataclasses.dataclass(frozen=True)
class Look:
    """How a quantizer is drawn."""

    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]


def looks(entries: Iterable[tuple[str, str]]) -> dict[str, Look]:
    """name -> Look for (name, method) pairs, in their order.

    The entry that is called like its method takes the method's own marker, or else the method's first entry does.
    """
    seen: dict[str, int] = {}
    result: dict[str, Look] = {}
    given = list(entries)
    for name, method in sorted(given, key=lambda entry: entry[0] != entry[1]):
        position = seen.setdefault(method, 0)
        seen[method] += 1
        first = _FIRST_MARKER.get(method) or _MARKERS[zlib.crc32(method.encode()) % len(_MARKERS)]
        start = _MARKERS.index(first) if first in _MARKERS else 0
        result[name] = Look(
            colour=colour(method),
            marker=first if position == 0 else _MARKERS[(start + position) % len(_MARKERS)],
            line=_LINES[position % len(_LINES)],
        )
    return {name: result[name] for name, _ in given}


def colour(method: str) -> str:
    """The method's colour; one that the table lacks takes a spare colour chosen by its name."""
    return COLOURS.get(method) or _OTHERS[zlib.crc32(method.encode()) % len(_OTHERS)]
