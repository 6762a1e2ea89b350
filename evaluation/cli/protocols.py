"""`latticebench protocols`: every protocol with its choices and whom it is comparable with."""

from pathlib import Path

import click


@click.command()
@click.option("--write", "target", type=click.Path(path_type=Path), help="Write the page there instead of printing it.")
def command(target: Path | None) -> None:
    """Prints the protocols that the judge's numbers follow."""
    from evaluation.protocols import document
    from latticebench.files import whole

    if target is None:
        click.echo(document())
        return
    with whole(target) as temporary:
        temporary.write_text(document())
