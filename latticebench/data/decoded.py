"""Images that stay files and are decoded when they are asked for: the training split of `data.storage: manifest`.

`Decoded` reads as the array of the prepared pixels would, so training and token extraction need not know the
difference. A file's bytes are compared with the manifest's hash each time: a changed data set stops a run.
"""

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from latticebench.errors import BadInput, Missing

DIGEST = 32
"""Bytes of a sha256."""
_MOST_THREADS = 16


class Decoded:
    """Square pictures by index, like an array (N, side, side, 3) of uint8.

    root: the data folder. names: the files below it. digests: (N, 32) uint8, the files' sha256. preparation: what
    `pictures.description` says. threads: decoders; default: the cores that this process may use, 16 at most.
    """

    ndim = 4
    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        digests: np.ndarray,
        preparation: dict[str, Any],
        threads: int | None = None,
    ) -> None:
        self.root, self.names, self.digests = root, names, digests
        self.preparation = preparation
        self.threads = threads or min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._coming: dict[int, Future[np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        side = self.preparation["size"]
        return len(self), side, side, 3

    def __getitem__(self, key: Any) -> np.ndarray:
        """`images[i]`, `images[i:j]`, `images[array]`, each with further slices of rows and columns.

        Raises Missing for a file that is gone, BadInput for one that changed or cannot be decoded.
        """
        first, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(first, int | np.integer):
            return self._take(range(len(self))[first])[tuple(rest)]
        chosen = np.arange(len(self))[first].tolist()
        result = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for start in range(0, len(chosen), 4 * self.threads):
            self.prefetch(chosen[start : start + 4 * self.threads])
            for row in range(start, min(start + 4 * self.threads, len(chosen))):
                result[row] = self._take(chosen[row])
        return result[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def prefetch(self, indices: Sequence[int]) -> None:
        """Starts decoding these images in the background; what earlier calls asked for and these don't is dropped."""
        wanted = set(indices)
        for index in self._coming.keys() - wanted:
            self._coming.pop(index).cancel()
        for index in indices:
            if index not in self._coming:
                self._coming[index] = self._pool.submit(self.decode, index)

    def decode(self, index: int) -> np.ndarray:
        """Reads, checks and prepares one image; what the background threads run."""
        from PIL import Image

        from latticebench.data import pictures

        path = self.root / self.names[index]
        data = read(path)
        if hashlib.sha256(data).digest() != self.digests[index].tobytes():
            raise BadInput(
                f"{path} is not the file that the data was prepared from; put the old one back, or delete the"
                " prepared data's folder, and the trainings on it, to start with the new one"
            )
        options = self.preparation
        try:
            return pictures.prepare(
                lambda: Image.open(io.BytesIO(data)), options["size"], options["resize"], options["upscale"]
            )
        except pictures.Unusable as error:
            raise BadInput(
                f"training image {path}: {error}; repair it, or remove it and delete the prepared data's folder"
            ) from error

    def _take(self, index: int) -> np.ndarray:
        coming = self._coming.pop(index, None)
        return self.decode(index) if coming is None else coming.result()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        # Made at the first use, so that a process that forks before it has no threads to lose.
        return ThreadPoolExecutor(self.threads, thread_name_prefix="decode")


def read(path: Path) -> bytes:
    """A file's bytes. Raises Missing where it is gone, BadInput where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Missing(f"{path} is gone since the data was prepared; put it back, or prepare again") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def check_header(data: bytes, size: int, resize: str, upscale: bool) -> None:
    """Raises pictures.Unusable where the bytes are no image, or one too small; the pixels are not decoded."""
    from PIL import Image

    from latticebench.data import pictures

    try:
        with Image.open(io.BytesIO(data)) as image:
            short = min(image.size)
            extent = f"{image.width}x{image.height}"
    except Exception as error:  # Pillow's readers raise almost anything on damaged files
        raise pictures.Unusable(f"unreadable: {type(error).__name__}: {error}") from error
    if short < size and (resize == "none" or not upscale):
        raise pictures.Unusable(f"too small: {extent}, {size} needed")
