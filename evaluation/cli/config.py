"""`latticebench config`: validates a configuration and says what it will run, or lists every key."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from latticebench.configuration import Configuration

_FILES = ("image-folder", "flat-folder", "parquet")


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.argument("then", nargs=-1, type=click.UNPROCESSED)
@click.option("--keys", is_flag=True, help="List every key of a configuration as a Markdown table.")
@click.option("--warm", is_flag=True, help="THEN runs jobs here: start the process that they are forked from.")
def command(file: Path | None, then: tuple[str, ...], keys: bool, warm: bool) -> None:
    """Validate the configuration FILE and say what it will run.

    THEN is a command that goes on in this one's place if the file is good, and does not check it again:
    `latticebench config FILE --warm -- snakemake --configfile FILE`.
    """
    from latticebench import configuration
    from latticebench.warm import start_ahead

    if keys:
        click.echo(table(configuration.schema_keys()))
        return
    if file is None:
        raise click.UsageError("name a configuration FILE, or ask for --keys")
    if warm and not then:
        raise click.UsageError("--warm needs a command that goes on: -- snakemake …")
    if warm:
        # Its imports take as long as those of the check below.
        start_ahead(configuration.load(file, methods=False).values["jobs"]["threads"])
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
    for line in lacking(config):
        click.echo(f"missing: {line}", err=True)
    if then:
        os.environ[configuration.CHECKED] = configuration.fingerprint(file) or ""
        go_on(then)


def go_on(words: tuple[str, ...]) -> NoReturn:
    """Becomes the command of these words. Raises ClickException where there is no such program."""
    sys.stdout.flush()
    try:
        os.execvp(words[0], words)
    except OSError as error:
        raise click.ClickException(f"{words[0]}: {error.strerror}") from error


def lacking(config: "Configuration") -> list[str]:
    """What a run will stop for, if it is not there by then: images, and networks that recipes lower."""
    from latticebench.errors import LatticebenchError
    from latticebench.weights import local

    sections = {subject.data_hash: subject.spec["data"] for subject in config.subjects()}
    paths = [("data.path", data["path"]) for data in sections.values() if data["source"] in _FILES]
    paths.append(("compression.images", config.values["compression"]["images"]))
    found = [
        f"{key}: {config.path.parent / path} does not exist"
        for key, path in dict.fromkeys(paths)
        if path is not None and not (config.path.parent / Path(path).expanduser()).exists()
    ]
    given = config.values["evaluation"]["weights"]
    for name, key in dict.fromkeys(_networks(config)):
        try:
            local.find(name, given[key])
        except LatticebenchError as error:
            found.append(f"a recipe's losses: {error}")
    return found


def _networks(config: "Configuration") -> list[tuple[str, str]]:
    """Registry entries of the networks in the losses of what is trained, and what `evaluation.weights` calls them."""
    names = []
    for subject in config.subjects():
        losses = subject.spec["tokenizer"].get("losses", {})
        if losses.get("perceptual", {}).get("weight"):
            net = losses["perceptual"]["net"]
            names.append((f"lpips-{net}-trunk", f"lpips-{net}"))
        if losses.get("alignment", {}).get("weight"):
            names.append(("dinov2-vitl14", "dinov2"))
    return names


def table(rows: list[tuple[str, str, str, str]]) -> str:
    """The keys as a Markdown table."""
    lines = ["| key | allowed | default | meaning |", "| --- | --- | --- | --- |"]
    for key, allowed, default, meaning in rows:
        cells = [f"`{key}`", allowed, f"`{default}`" if default != "required" else default, meaning]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
