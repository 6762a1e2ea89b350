"""`latticebench config`: validates a configuration and says what it will run, or lists every key."""

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--keys", is_flag=True, help="List every key of a configuration as a Markdown table.")
def command(file: Path | None, keys: bool) -> None:
    """Validate the configuration FILE and say what it will run."""
    from latticebench import configuration

    if keys:
        click.echo(table(configuration.schema_keys()))
        return
    if file is None:
        raise click.UsageError("name a configuration FILE, or ask for --keys")
    config = configuration.load(file)
    subjects = config.subjects()
    trainings = sum(len(subject.seeds) for subject in subjects)
    source = config.values["data"]["source"]
    named = [suite.name for suite in config.suites() if suite.name != configuration.MAIN_SUITE]
    suites = f" in the suites {', '.join(named)}" if named else ""
    click.echo(
        f"{file}: {len(subjects)} quantizers{suites}, {trainings} trainings on {source};"
        f" results go to results/{config.name}"
    )


def table(rows: list[tuple[str, str, str, str]]) -> str:
    """The keys as a Markdown table."""
    lines = ["| key | allowed | default | meaning |", "| --- | --- | --- | --- |"]
    for key, allowed, default, meaning in rows:
        cells = [f"`{key}`", allowed, f"`{default}`" if default != "required" else default, meaning]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
