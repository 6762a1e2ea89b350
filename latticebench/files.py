"""Files that are either whole or absent, and their hashes."""

import contextlib
import errno
import hashlib
import json
import os
import re
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

UNREADABLE = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, NotImplementedError),
    *(OSError, EOFError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, RecursionError),
)
"""What numpy, zipfile and json raise on damaged .npy, .npz and .json files.

Not MemoryError: where memory is short a whole file would be called damaged. What a stranger's file asks for is bounded
before it is read.
"""


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` when the block ends without an error.

    A block that fails leaves an older `path` as it was and removes the temporary file. Raises OSError naming `path`
    where the disk is full or only reads, whatever the writing library makes of that.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            try:
                yield temporary
            except OSError as error:
                if error.errno is None and _SHORT.search(str(error)):
                    raise _reason(temporary) from error
                raise
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHORT = re.compile(r"^\d+ requested and \d+ written$")  # numpy's whole word for it
_RUST = re.compile(r"\(os error (\d+)\)$")  # safetensors'


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Gives an error of a full or read-only disk the system's number and the final path, unless it has another's."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if not isinstance(error, OSError) and (found := _RUST.search(str(error))):
            number = int(found[1])
        own = getattr(error, "filename", None)
        if number not in (*DISK_FULL, errno.EROFS) or (own and not Path(own).name.startswith(f".{path.name}.")):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _reason(path: Path) -> OSError:
    """Why not all of a file could be written, where only that is known: the next write says it.

    Where that one succeeds, space has become free meanwhile.
    """
    try:
        with open(path, "ab") as file:
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash8(value: Any) -> str:
    """The eight hex digits that stand for a JSON-like value in a path."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:8]


def write_json(path: str | Path, value: Any) -> None:
    """Writes indented JSON, whole or not at all; raises ValueError on NaN or infinity."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    with whole(path) as temporary:
        temporary.write_text(text)


def read_own_yaml(path: str | Path) -> Any:
    """A YAML file of the package's own, through libyaml where PyYAML has it: ten times as fast.

    Not for a stranger's file: libyaml's loader crashes on deep nesting, where PyYAML's raises RecursionError.
    """
    return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


SEAL = "own_sha256"


def seal(values: dict[str, Any]) -> dict[str, Any]:
    """The same values and, under SEAL, their hash: a file that others rely on can then be told from a damaged one."""
    return {**values, SEAL: hashlib.sha256(canonical_json(values).encode()).hexdigest()}


def sealed(values: dict[str, Any]) -> bool:
    """Whether values fit their own hash; those that never had one do."""
    stated = values.get(SEAL)
    rest = {key: value for key, value in values.items() if key != SEAL}
    return stated is None or stated == hashlib.sha256(canonical_json(rest).encode()).hexdigest()


def unpacked_bytes(path: str | Path) -> int:
    """What a zip file says its members hold when unpacked; to be asked before they are. Raises BadZipFile, OSError."""
    with zipfile.ZipFile(path) as archive:
        return sum(info.file_size for info in archive.infolist())
