"""The log of a training as parquet."""

from pathlib import Path

from latticebench.files import whole


def write(rows: list[dict[str, float]], path: Path) -> None:
    """One row a logged step; the columns in the order of the first row, integers where all values are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({key: pa.array([row.get(key) for row in rows]) for key in rows[0]})
    with whole(path) as temporary:
        pq.write_table(table, temporary)
