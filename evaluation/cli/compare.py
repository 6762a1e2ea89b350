"""`latticebench compare A B`: what changed between two results folders, cell by cell, with significance."""

from pathlib import Path

import click


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Also list the cells that are equal.")
@click.option("--machine", is_flag=True, help="Also speeds, times and memory, which differ between machines.")
@click.option("--csv", "table", type=click.Path(path_type=Path), help="Write every cell to this CSV file.")
def command(a: Path, b: Path, everything: bool, machine: bool, table: Path | None) -> None:
    """Compare the results folders A and B: what changed, and whether the difference is real.

    A difference is real where zero lies outside its 95% interval on the same images, or, without values for each
    image, where the two sampling intervals do not overlap; and where all pairs of seeds agree in its sign.
    """
    from evaluation.report import runs
    from latticebench.files import whole

    changes = runs.compare(runs.check_folder(a), runs.check_folder(b), machine)
    if table is not None:
        with whole(table) as temporary:
            temporary.write_text(runs.to_csv(changes), encoding="utf-8")
    click.echo(runs.to_text(changes, everything))
