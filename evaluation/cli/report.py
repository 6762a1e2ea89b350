"""`latticebench report FILE`: tables, figures and the site of what a run has measured so far."""

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("config/embedded.yaml"))
@click.option("--root", type=click.Path(path_type=Path), help="Results folder; by default results/<name>.")
def command(file: Path, root: Path | None) -> None:
    """Build the report of the configuration FILE, finished or not; it lists what is missing."""
    from evaluation.report.build import build
    from latticebench import configuration

    config = configuration.load(file, methods=False)
    made = build(config, root or Path("results") / config.name)
    for gap in made.gaps:
        click.echo(f"missing: {gap.what} ({gap.why})", err=True)
    click.echo(made.page)
