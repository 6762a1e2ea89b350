"""How much of a run is neither training nor evaluation: `python benchmarks/workflow_overhead.py results/embedded LOG`.

LOG is Snakemake's log of an uninterrupted run from nothing (named at its end), or what `make run` printed. Snakemake's
elapsed time in it begins some seconds after `make run` does; with --seconds the share is of the whole command.
Training and evaluation are the seconds that tokenizers, tokens, generators, samples and records carry: they start after
the imports and end before the process does. A tokenizer's training counts with the start values fitted to the data.
Everything else is overhead: start-up and imports of every job, preparation of the images, the report, the scheduler,
and a core that waits.
"""

import json
import re
from pathlib import Path

import click


def working_seconds(root: Path) -> dict[str, float]:
    """Seconds of training, extraction, sampling, judging, geometry and coding that a results folder records."""
    trained = [json.loads(path.read_text()) for path in root.glob("tokenizers/*/seed*/tokenizer.json")]
    generators = [json.loads(path.read_text()) for path in root.glob("generators/*/seed*/generator.json")]
    seconds = {
        "training": sum(facts.get("fitting_seconds", facts.get("training_seconds", 0.0)) for facts in trained),
        "generators": sum(facts["training_seconds"] for facts in generators),
    }
    for stage in ("tokens", "samples"):
        manifests = [json.loads(path.read_text()) for path in root.glob(f"{stage}/*/made-*.json")]
        seconds[stage] = sum(facts["seconds"] for facts in manifests)
    for suite in ("reconstruction", "compression", "generation"):
        paths = root.glob(f"records/*/seed*/{suite}.json")
        seconds[suite] = sum(json.loads(path.read_text())["machine"]["wall_seconds"] for path in paths)
    for stage in ("geometry", "codecs"):
        paths = [path for path in root.glob(f"records/{stage}/*.json") if path.name != "made.json"]
        seconds[stage] = sum(json.loads(path.read_text())["machine"]["wall_seconds"] for path in paths)
    return seconds


@click.command()
@click.argument("root", type=click.Path(path_type=Path, exists=True))
@click.argument("log", type=click.Path(path_type=Path, exists=True))
@click.option("--cores", default=2, show_default=True, help="Cores that the run had.")
@click.option("--seconds", "whole", type=float, help="Wall-clock seconds of the whole command, set-up done before.")
def command(root: Path, log: Path, cores: int, whole: float | None) -> None:
    """Print the share of a run that is overhead."""
    elapsed = re.search(r"Elapsed time: (\d+):(\d+):([\d.]+)", log.read_text())
    if elapsed is None:
        raise click.ClickException(f"{log} has no line `Elapsed time`; give the log of a finished run")
    hours, minutes, rest = elapsed.groups()
    available = cores * (whole or int(hours) * 3600 + int(minutes) * 60 + float(rest))
    parts = working_seconds(root)
    for name, seconds in parts.items():
        click.echo(f"{name:16s} {seconds:8.1f} core-seconds")
    share = 1 - sum(parts.values()) / available
    click.echo(f"{'available':16s} {available:8.1f} core-seconds\noverhead         {share:8.1%}")


if __name__ == "__main__":
    command()
