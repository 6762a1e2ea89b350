"""parquet: files in the Hugging Face hub's layout, an `image` column {bytes, path} and an optional `label`.

Splits go by file name (train…, valid…, validation…, val…, test…).
"""

import contextlib
import functools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from latticebench.data.sources import EVAL_NAMES, TRAIN_NAMES, Item, Opener, existing, held_out, key_of, open_bytes
from latticebench.errors import BadInput, Missing
from latticebench.files import UNREADABLE

_BATCH = 256
_MOST_CLASSES = 2**20
_LEAST_BYTES, _FEW_ROWS = 64, 2**16
"""What an image takes at least, the smallest PNG 67 bytes; rows that any file may have, were its images all one."""


class Parquet:
    """Rows of parquet files in the order of file name and row; keys are `file:row`."""

    def __init__(self, path: str | None, eval_share: float, seed: int) -> None:
        root = existing(path, "parquet")
        files = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
        if not files:
            raise Missing(f"data.path: no *.parquet below {root}; download the files there or correct the path")
        self.root = root if root.is_dir() else root.parent
        self.labelled = True
        names = {file: _split_of(file) for file in files}
        chosen = next((name for name in EVAL_NAMES if name in names.values()), None)
        by_split = {
            "train": [file for file in files if names[file] in (*TRAIN_NAMES, None)],
            "eval": [file for file in files if chosen and names[file] == chosen],
        }
        if by_split["eval"]:
            self.split = {split: self._items(found) for split, found in by_split.items()}
        elif by_split["train"]:
            self.split = held_out(self._items(by_split["train"]), eval_share, seed, str(root))
        self.classes = self._classes(files[0])

    def _items(self, files: list[Path]) -> list[Item]:
        result: list[Item] = []
        for file in files:
            with _readable(file):
                labels = _labels(file)
            if any(label is None or label < 0 for label in labels):
                self.labelled = False
            key = key_of(file, self.root)
            result += [Item(f"{key}:{row}", (file, row), label) for row, label in enumerate(labels)]
        return result

    def _classes(self, file: Path) -> tuple[str, ...] | None:
        if not self.labelled:
            return None
        count = 1 + max((item.label for items in self.split.values() for item in items), default=0)  # type: ignore[type-var]
        names = _names_from_metadata(file) or _names_from_table(self.root)
        if names is None:
            if count > _MOST_CLASSES:
                raise BadInput(f"{self.root}: label {count - 1} is no class number (at most {_MOST_CLASSES} classes)")
            names = tuple(map(str, range(count)))
        if count > len(names):
            raise BadInput(f"{self.root}: label {count - 1} is outside the list of {len(names)} classes")
        return names

    def items(self, split: str) -> list[Item]:
        """Items in the order of file name and row; without labels where any row lacks one (null or negative)."""
        return self.split[split] if self.labelled else [item._replace(label=None) for item in self.split[split]]

    def read(self, split: str, items: Sequence[Item]) -> Iterator[Opener]:
        """Streams the files in batches and yields the chosen rows."""
        wanted: dict[Path, list[int]] = {}
        for item in items:
            file, row = item.position
            wanted.setdefault(file, []).append(row)
        for file, rows in wanted.items():
            yield from _rows(file, rows)

    def provenance(self) -> dict[str, Any]:
        """What the files say of their origin is not known."""
        return {"description": "parquet files in the Hugging Face layout", "licence": "not stated"}

    def excluded(self) -> dict[str, Any]:
        """Nothing is left out by rule."""
        return {}


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[None]:
    """What pyarrow raises on a damaged file becomes BadInput."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, *UNREADABLE) as error:
        raise BadInput(f"{file} is not a readable parquet file: {error}") from error


def _open(file: Path) -> Any:
    import pyarrow.parquet

    with _readable(file):
        return pyarrow.parquet.ParquetFile(file)


def _labels(file: Path) -> list[int | None]:
    """A label a row, None where the file has none. Raises BadInput where there is no image column."""
    import pyarrow

    parquet = _open(file)
    names = parquet.schema_arrow.names
    if "image" not in names:
        raise BadInput(f"{file}: no column `image`; there are {', '.join(names)}")
    rows, most = parquet.metadata.num_rows, max(_FEW_ROWS, file.stat().st_size // _LEAST_BYTES)
    if rows > most:
        raise BadInput(
            f"{file} says that it has {rows} rows, and its {file.stat().st_size} bytes hold no more than {most} images; "
            "write it again without the rows that have none"
        )
    if "label" not in names:
        return [None] * rows
    # Before it is read: a column of one long text, once for each row, may take any amount of memory.
    kind = parquet.schema_arrow.field("label").type
    if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_null(kind)):
        raise BadInput(f"{file}: the column `label` holds {kind}; whole numbers are needed")
    column = parquet.read(columns=["label"]).column(0)
    return column.to_pylist()


def _rows(file: Path, rows: list[int]) -> Iterator[Opener]:
    pending = iter(rows)
    row = next(pending, None)
    start = 0
    batches = _open(file).iter_batches(batch_size=_BATCH, columns=["image"])
    while True:
        with _readable(file):
            batch = next(batches, None)
        if batch is None:
            return
        column = batch.column(0)
        while row is not None and row < start + len(column):
            cell = column[row - start].as_py()
            yield functools.partial(open_bytes, cell.get("bytes") if isinstance(cell, dict) else cell)
            row = next(pending, None)
        start += len(column)
        if row is None:
            return


def _split_of(file: Path) -> str | None:
    match = re.match(r"[a-z]+", file.stem.lower())
    word = match.group() if match else ""
    return word if word in (*TRAIN_NAMES, *EVAL_NAMES) else None


def _names_from_metadata(file: Path) -> tuple[str, ...] | None:
    """Class names as the `datasets` library stores them in the schema."""
    metadata = (_open(file).schema_arrow.metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    with _readable(file):
        names = json.loads(metadata).get("info", {}).get("features", {}).get("label", {}).get("names")
        return tuple(map(str, names)) if names else None


def _names_from_table(root: Path) -> tuple[str, ...] | None:
    """Class names of a classes.tsv with columns label and wnid (or name) beside or above the files."""
    path = next((p for p in (root / "classes.tsv", root.parent / "classes.tsv") if p.is_file()), None)
    if path is None:
        return None
    try:
        header, *lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line]
        column = "wnid" if "wnid" in header else "name"
        rows = sorted((int(line[header.index("label")]), line[header.index(column)]) for line in lines)
    except (ValueError, IndexError, OSError) as error:
        raise BadInput(
            f"{path}: columns `label` and `wnid` or `name` expected, tab-separated, in UTF-8; correct it or remove it"
        ) from error
    if [label for label, _ in rows] != list(range(len(rows))):
        raise BadInput(f"{path}: labels must be 0, 1, 2, … without gaps")
    return tuple(name for _, name in rows)
