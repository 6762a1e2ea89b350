"""python -m latticebench.published.make: fetches a released tokenizer and writes it where a trained one would lie.

The workflow calls it for quantizer entries with `released:`, with the options of the training command.
"""

import logging
from pathlib import Path

import click

from latticebench import configuration, published, weights
from latticebench.configuration import Configuration, Subject
from latticebench.data import prepared
from latticebench.errors import BadInput
from latticebench.files import sha256, write_json
from latticebench.published import checkpoint
from latticebench.tokenizers import build
from latticebench.tokenizers.base import Tokenizer

log = logging.getLogger(__name__)

FILES = ("model.safetensors", "tokenizer.json")


@click.command()
@click.option("--config", "config_path", required=True, type=Path, help="Configuration file.")
@click.option("--subject", required=True, help="Id or name of a quantizer entry with `released:`.")
@click.option("--seeds", required=True, help="0: there is one set of weights.")
@click.option("--data", "data_path", required=True, type=Path, help="Folder of the prepared data.")
@click.option("--out", required=True, type=Path, help="Results folder of the configuration.")
def command(config_path: Path, subject: str, seeds: str, data_path: Path, out: Path) -> None:
    """Fetches a released tokenizer, checks that it is what the configuration says, and converts it."""
    config = configuration.load(config_path)
    chosen = config.subject(subject)
    folder = out / "tokenizers" / chosen.id / "seed0"
    make(config, chosen, folder, prepared.load(data_path).eval.sha256)
    manifest = folder.parent / f"made-{seeds}.json"
    write_json(manifest, {"files": {f"{folder.name}/{name}": sha256(folder / name) for name in FILES}})


def make(config: Configuration, subject: Subject, folder: Path, data_sha256: str) -> Tokenizer:
    """Writes the subject's released tokenizer into `folder`. Raises BadInput where it is not as configured."""
    name = subject.spec["released"]
    registry = weights.load()
    entry = registry.entry(name)
    if entry.family is None or entry.tokenizer is not None:
        raise BadInput(f"{config.path}: quantizers.{subject.name}.released: {name} is no tokenizer")
    weights.fetch(registry, name, stand_ins=published.module(entry.family).STAND_INS)
    made = checkpoint.tokenizer(registry, name)
    _check(config, subject, made)
    facts = {"subject": subject.id, "seed": 0, "spec": subject.spec, "data_sha256": data_sha256}
    checkpoint.write(registry, name, made, folder, facts)
    log.info("%s is %s", subject.id, entry.place)
    return made


def _check(config: Configuration, subject: Subject, made: Tokenizer) -> None:
    where, found = f"{config.path}: quantizers.{subject.name}", made.quantizer
    expected = build.quantizer_class(subject.spec["quantizer"])
    if expected is not type(found):
        raise BadInput(f"{where}.method is {expected.name}, but the released tokenizer has {found.name}")
    for key, value in subject.spec["quantizer"]["parameters"].items():
        has = getattr(found.parameters_dataclass, key)
        if has != (tuple(value) if isinstance(value, list) else value):
            raise BadInput(f"{where}.parameters.{key} is {value}, but the released tokenizer has {has}")
    size = subject.spec["data"]["size"]
    if size % made.stride or (len(made.scales) > 1 and size != made.image_size):
        raise BadInput(f"{config.path}: data.size is {size}; {subject.spec['released']} takes {made.image_size} px")


if __name__ == "__main__":
    from latticebench.commands import run

    run(command)
