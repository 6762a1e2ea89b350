"""Imports Python files of the user's own by their path."""

import hashlib
import importlib.util
import sys
import types
from pathlib import Path

from latticebench.errors import BadInput


def import_file(path: str | Path, key: str) -> types.ModuleType:
    """Imports a file, once in a process, under a name of its own. Importing runs the file's code.

    key: the configuration key that takes such paths, for the message. Raises BadInput where the file is missing,
    no Python file, or imports what is not there.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise BadInput(f"{path} does not exist; `{key}:` takes paths to Python files")
    name = f"_latticebench_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise BadInput(f"{path} is no Python file: its name does not end in .py; `{key}:` takes such files")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[name])
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, SyntaxError | ImportError):
                raise BadInput(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
            raise
    return sys.modules[name]
