"""Builds tables, figures and the report of a results folder, finished or not."""

import logging
from pathlib import Path

import click

from evaluation.report import build
from latticebench import commands, configuration

log = logging.getLogger(__name__)


@click.command()
@click.option("--config", required=True, type=click.Path(path_type=Path), help="The run's configuration.")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="The run's results folder.")
@click.option("--processes", default=1, show_default=True, help="That draw the figures.")
def command(config: Path, root: Path, processes: int) -> None:
    """Builds tables, figures and the site ROOT/report from the records below ROOT; says what is missing."""
    made = build.build(configuration.load(config, methods=False), root, processes)
    for gap in made.gaps:
        log.warning("missing: %s (%s)", gap.what, gap.why)
    log.info("report: %s", made.page)


if __name__ == "__main__":
    commands.run(command, prog_name="python -m evaluation.report")
