"""`latticebench config FILE`: validates a configuration and says what it will run."""

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Validate the configuration FILE and say what it will run."""
    from latticebench import configuration

    config = configuration.load(file)
    subjects = config.subjects()
    trainings = sum(len(subject.seeds) for subject in subjects)
    source = config.values["data"]["source"]
    click.echo(
        f"{file}: {len(subjects)} quantizers, {trainings} trainings on {source}; results go to results/{config.name}"
    )
