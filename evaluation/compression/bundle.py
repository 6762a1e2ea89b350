"""The token files of one subject under one prior: an uncompressed zip, its members the files byte for byte."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from latticebench.errors import BadInput
from latticebench.files import whole

_EPOCH = (1980, 1, 1, 0, 0, 0)


def write(path: Path, files: Sequence[bytes]) -> None:
    """Writes files as 00000.tok, 00001.tok, …; the same bytes give the same zip."""
    with whole(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for number, data in enumerate(files):
            archive.writestr(zipfile.ZipInfo(f"{number:05d}.tok", _EPOCH), data)


def read(path: Path) -> list[tuple[str, bytes]]:
    """Names and bytes, in order. Raises BadInput on anything but a whole zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [(name, archive.read(name)) for name in sorted(archive.namelist())]
    except (zipfile.BadZipFile, OSError) as error:
        raise BadInput(f"{path} is not a whole zip of token files: {error}") from error
