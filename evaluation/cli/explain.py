"""`latticebench explain TABLE.csv --row leech --column rfid`: where a number came from."""

from pathlib import Path

import click


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option("--row", required=True, help="The row's first cell.")
@click.option("--column", required=True, help="The column's name in the CSV file.")
def command(table: Path, row: str, column: str) -> None:
    """Prints where a number of TABLE came from, down to records, files and commands."""
    from evaluation.explain import explain

    click.echo(explain(table, row, column))
