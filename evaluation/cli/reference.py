"""`latticebench reference`: keeps the records and tables of a finished run below results/reference/, or checks them."""

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--geometry", is_flag=True, help="Keep the geometry stage alone, of a run that need have no other.")
@click.option("--check", is_flag=True, help="Check that every committed table follows from its records.")
def command(file: Path | None, geometry: bool, check: bool) -> None:
    """Keep the results of the configuration FILE below results/reference/, or --check what is kept there."""
    from evaluation import reference
    from latticebench import configuration
    from latticebench.errors import Missing

    kept = Path("results") / "reference"
    if not check:
        if file is None:
            raise click.UsageError("name a configuration FILE, or ask for --check")
        config = configuration.load(file)
        keep = reference.keep_geometry if geometry else reference.keep
        keep(config, Path("results") / config.name, kept / config.name)
        click.echo(kept / config.name)
        return
    folders = sorted(path.parent for path in kept.glob("*/configuration.yaml"))
    if not folders:
        raise Missing(f"there is nothing below {kept}; run this in the project's folder")
    for folder in folders:
        checked = reference.check(folder)
        age = f"{len(checked.older)} records by code that has changed since" if checked.older else "all by this code"
        beside = f" (not hashed: {', '.join(checked.unhashed)})" if checked.unhashed else ""
        click.echo(f"{folder}: {checked.tables} tables follow from their records; {age}{beside}")
