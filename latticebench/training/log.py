"""The log of a training: parquet when it is done, TensorBoard while it runs."""

from pathlib import Path
from typing import Any

from latticebench.files import whole


def write(rows: list[dict[str, float]], path: Path) -> None:
    """One row a logged step; a column a name, in the order of their first rows, empty where a row lacks it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = dict.fromkeys(key for row in rows for key in row)
    table = pa.table({key: _column([row.get(key) for row in rows]) for key in names})
    with whole(path) as temporary:
        pq.write_table(table, temporary)


def _column(values: list[float | None]) -> Any:
    """A column of integers where all values are, else of double precision, from its two buffers.

    pyarrow's own conversion of a list imports pandas, half a second in each of a run's many trainings.
    """
    import numpy as np
    import pyarrow as pa

    known = np.array([value is not None for value in values], bool)
    typed = np.array([0 if value is None else value for value in values])
    bitmap = np.packbits(known, bitorder="little")
    buffers = [None if known.all() else pa.py_buffer(bitmap), pa.py_buffer(typed)]
    return pa.Array.from_buffers(pa.from_numpy_dtype(typed.dtype), len(values), buffers)


class TensorBoard:
    """Event files of the logged rows in `folder`; after a resume those from step `start` on are written anew."""

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=start or None)

    def add(self, row: dict[str, float]) -> None:
        """One logged row, with its `step`."""
        for key, value in row.items():
            if key != "step":
                self._writer.add_scalar(key, value, int(row["step"]))

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()
