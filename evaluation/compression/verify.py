"""Decodes coded files in a process of its own, from files, tokenizer and prior only, and says what it found.

`python -m evaluation.compression.verify DIR=CODED …` prints, for each coded folder, the sha256 of each file's tokens.
A uniform or static prior is decoded without torch.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

from evaluation.compression import bundle, layout, priors
from evaluation.compression.codec import TokenCodec
from evaluation.compression.format import MODES
from latticebench import warm
from latticebench.errors import LatticebenchError

FOUND = dict[str, list[str]]
"""Prior's kind -> sha256 of the tokens of each file."""


def token_hash(tokens: np.ndarray, height: int, width: int) -> str:
    """sha256 of an image's tokens (tiles, positions) and size."""
    return hashlib.sha256(f"{height}x{width}:{tokens.shape}:".encode() + tokens.astype("<i8").tobytes()).hexdigest()


def decode_all(tokenizer: Path, coded: Path) -> FOUND:
    """Decodes every zip `<kind>.zip` of a folder with the prior `<kind>.safetensors` beside it."""
    where = layout.of_folder(tokenizer)
    found: FOUND = {}
    for kind in MODES:
        path = coded / f"{kind}.zip"
        if not path.is_file():
            continue
        prior = None if kind == "uniform" else priors.load(coded / f"{kind}.safetensors")
        names, files = zip(*bundle.read(path), strict=True)
        images = TokenCodec(where, prior).read(files, names)
        found[kind] = [token_hash(image.tokens, image.height, image.width) for image in images]
    return found


def in_fresh_process(folders: Mapping[Path, Path]) -> dict[Path, FOUND]:
    """`decode_all` of coded folder -> tokenizer, in one new process. Raises LatticebenchError where it fails."""
    if not folders:
        return {}
    pairs = [f"{tokenizer}={coded}" for coded, tokenizer in folders.items()]
    done = subprocess.run(
        warm.command("evaluation.compression.verify", *pairs),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode} and said nothing"]
        raise LatticebenchError(f"coded files do not decode: {said[-1]}")
    answers = json.loads(done.stdout)
    return {coded: answers[str(coded)] for coded in folders}


@click.command()
@click.argument("pairs", nargs=-1, required=True)
def command(pairs: tuple[str, ...]) -> None:
    """Decode the zips of coded folders; each of PAIRS is TOKENIZER=CODED."""
    answers = {}
    for pair in pairs:
        tokenizer, _, coded = pair.partition("=")
        answers[coded] = decode_all(Path(tokenizer), Path(coded))
    click.echo(json.dumps(answers))


if __name__ == "__main__":
    from latticebench.commands import run

    run(command)
