"""`python -m evaluation.compression --config C --subject ID --seeds 0-1 --data DIR --root ROOT`: one subject's stage."""

import os
from pathlib import Path

import click

from latticebench import configuration
from latticebench.files import sha256, write_json


@click.command()
@click.option("--config", "config_file", required=True, type=Path, help="The configuration.")
@click.option("--subject", required=True, help="Id or name of a quantizer entry.")
@click.option("--seeds", required=True, help="Training seeds: one (0) or a range (0-1).")
@click.option("--data", required=True, type=Path, help="Folder of the prepared data.")
@click.option("--root", required=True, type=Path, help="Results folder of the configuration.")
def command(config_file: Path, subject: str, seeds: str, data: Path, root: Path) -> None:
    """Code the evaluation images of one subject, decode them in a fresh process and write the records."""
    from evaluation.compression.stage import Stage
    from latticebench.data import prepared
    from latticebench.tokenizers.train import parse_seeds

    config = configuration.load(config_file)
    chosen = config.subject(subject)
    files = Stage(config, chosen, prepared.load(data), root).run(parse_seeds(seeds))
    made = root / "records" / chosen.id / f"made-compression-{seeds}.json"
    write_json(made, {"files": {os.path.relpath(file, made.parent): sha256(file) for file in files}})


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from latticebench.commands import run

    run(command)
