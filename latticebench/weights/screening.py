"""Looks through a checkpoint before torch opens it, so that none costs more memory than the file has bytes.

torch's weights-only reader runs no code, but it unpacks what a zip holds packed, and it builds objects of any size
for the few functions that make much of little.
"""

import io
import mmap
import pickletools
import zipfile
from pathlib import Path

import torch

from latticebench.errors import BadInput

GROWING = frozenset(["builtins.bytearray", "_codecs.encode"])
"""bytearray(n) takes n bytes for a number; encoding text as hexadecimal doubles it, again and again."""

_LEGACY_PICKLES = 5
"""What torch wrote before 1.6: magic number, version, machine, the content, the keys of the storages that follow."""


def check_zip(path: Path) -> None:
    """Raises BadInput on members that are packed, overlap or share a name; BadZipFile on what is no zip.

    torch.save packs nothing: a packed member is no tensor that could be mapped, and may unpack to anything.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise BadInput(
            f"{path} is refused: its member {packed[0]!r} is compressed, which torch.save never does. If you trust the "
            "file, load it with torch and save it again"
        )
    if sum(member.file_size for member in members) > path.stat().st_size or len(members) > len(
        {member.filename.lower() for member in members}
    ):
        raise BadInput(f"{path} is refused: its members overlap or hold more than the file; fetch it again")


def growing(path: Path, is_zip: bool) -> list[str]:
    """The functions of GROWING that a checkpoint's pickles name. Raises ValueError and the like on what is no pickle."""
    if is_zip:
        # torch's own reader: another one might find another member under the name.
        return sorted(GROWING & _globals(io.BytesIO(torch._C.PyTorchFileReader(str(path)).get_record("data.pkl"))))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # A map, since a file asked for the four gigabytes of a text that is not there takes them first.
        return sorted(name for _ in range(_LEGACY_PICKLES) for name in GROWING & _globals(content))


def _globals(pickled: io.BytesIO | mmap.mmap) -> set[str]:
    """Names that one pickle imports; Python 2 called the module of built-in functions __builtin__."""
    names = [str(argument) for code, argument, _ in pickletools.genops(pickled) if code.name == "GLOBAL"]
    return {name.replace(" ", ".", 1).replace("__builtin__.", "builtins.", 1) for name in names}
