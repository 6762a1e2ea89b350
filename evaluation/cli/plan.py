"""`latticebench plan CONFIG`: jobs, hours, disk and memory before anything runs, and the target of every table row."""

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--suite", help="One suite; by default all.")
@click.option(
    "--measure",
    is_flag=True,
    help="Run a few training steps of one entry for each distinct recipe, and of every generator.",
)
@click.option("--measure-each", is_flag=True, help="Run a few training steps of every entry.")
@click.option("--rates", "rates_file", type=click.Path(path_type=Path), help="Step rates that --save wrote.")
@click.option("--save", "save_file", type=click.Path(path_type=Path), help="Write the measured rates to this file.")
@click.option("--root", type=click.Path(path_type=Path), help="Results folder; by default results/<name>.")
def command(
    file: Path,
    suite: str | None,
    measure: bool,
    measure_each: bool,
    rates_file: Path | None,
    save_file: Path | None,
    root: Path | None,
) -> None:
    """Say what the configuration FILE will take. A target can be given to snakemake to make that row alone.

    Trainings that are finished below the results folder give their rates by themselves.
    """
    from evaluation import plan, step_rates
    from latticebench import configuration

    config = configuration.load(file)
    suites = config.suites() if suite is None else [config.suite(suite)]
    subjects = [subject for chosen in suites for subject in (*chosen.subjects, *chosen.generators)]
    root = root or Path("results") / config.name
    rates: dict[str, step_rates.Rate] = {} if rates_file is None else step_rates.load(rates_file)
    reasons: dict[str, str] = {}
    if measure or measure_each:
        found, reasons = step_rates.measured(config, subjects, measure_each)
        rates |= found
        if save_file is not None:
            step_rates.save(found, save_file)
    elif save_file is not None:
        raise click.UsageError("--save needs --measure or --measure-each")
    rates |= step_rates.recorded(config, subjects, root)
    for line in plan.lines(plan.plan(config, suites, rates, reasons, root)):
        click.echo(line)
