"""Mutated token files: each must end in a clear error, never in a crash, a hang or a silently wrong picture.

`python -m evaluation.compression.fuzz --count 10000` runs it over all three priors.
"""

import dataclasses
import re
import time
from collections import Counter

import click
import numpy as np

from evaluation.compression import format, network, priors
from evaluation.compression.codec import Coded, TokenCodec
from evaluation.compression.layout import Layout
from latticebench.errors import BadInput
from latticebench.seeding import generator

TOKENIZER = "5a" * 32
SIZES = ((1, 1), (16, 16), (33, 47), (64, 16))
_TILE, _GRID, _CODES = 16, (4, 4), 200


@dataclasses.dataclass
class Outcome:
    """refused: number of refusals by message, their numbers left out. unchanged: mutations that changed nothing.

    silent: mutated files that were read without an error, each a defect. slowest: seconds of the slowest file.
    """

    refused: Counter[str]
    unchanged: int = 0
    silent: int = 0
    slowest: float = 0.0


def subjects(seed: int) -> list[tuple[TokenCodec, list[bytes]]]:
    """A codec for each kind of prior, with files of its own, from drawn tokens with neighbours that agree."""
    import torch

    from latticebench.generators.raster import RasterParameters, RasterTransformer

    rng = np.random.default_rng(seed)
    layout = Layout(TOKENIZER, _CODES, _TILE, (_GRID,))
    torch.manual_seed(seed)
    model = RasterTransformer(RasterParameters((_CODES,), _GRID, width=16, layers=1, heads=2), tokenizer=TOKENIZER)
    train = np.minimum(rng.geometric(0.05, 2000), _CODES) - 1
    result = []
    for prior in (None, priors.fit_static(train, _CODES, TOKENIZER), network.export(model, _CODES)):
        codec = TokenCodec(layout, prior)
        images = []
        for height, width in SIZES:
            rows, columns = layout.tiles(height, width)
            tokens = np.minimum(rng.geometric(0.05, (rows * columns, layout.tokens_per_tile)), _CODES) - 1
            images.append(Coded(tokens.astype(np.int64), height, width))
        result.append((codec, codec.write(images)))
    return result


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One of: bits flipped, cut off, bytes added, bytes replaced, a foreign file, a header changed and signed again."""
    kind = rng.integers(6)
    array = bytearray(data)
    if kind == 0:
        for place in rng.integers(0, 8 * len(data), rng.integers(1, 9)):
            array[place // 8] ^= 1 << (place % 8)
    elif kind == 1:
        array = array[: rng.integers(0, len(data))]
    elif kind == 2:
        array += rng.bytes(int(rng.integers(1, 64))) if rng.random() < 0.5 else bytes(int(rng.integers(1, 64)))
    elif kind == 3:
        start = int(rng.integers(0, len(data)))
        stop = min(start + int(rng.integers(1, 16)), len(data))
        array[start:stop] = rng.bytes(stop - start)
    elif kind == 4:
        array = bytearray(rng.bytes(int(rng.integers(0, 200))))
    else:
        array[int(rng.integers(0, format.HEADER_BYTES - 1))] = int(rng.integers(0, 256))
        array[format.HEADER_BYTES - 1] = format.header_check(bytes(array))
    return bytes(array)


def fuzz(count: int, seed: int = 0) -> Outcome:
    """Reads `count` mutated files. Any exception but BadInput passes through: it is a crash."""
    codecs = subjects(seed)
    rng = np.random.default_rng(generator(seed, "fuzz").initial_seed())
    outcome = Outcome(Counter())
    for number in range(count):
        codec, files = codecs[number % len(codecs)]
        original = files[int(rng.integers(len(files)))]
        data = mutate(original, rng)
        start = time.perf_counter()
        try:
            codec.read([data], ["the file"])
        except BadInput as error:
            outcome.refused[re.sub(r"[0-9a-f]{16}|\d+", "#", str(error))] += 1
        else:
            outcome.unchanged += data in files
            outcome.silent += data not in files
        outcome.slowest = max(outcome.slowest, time.perf_counter() - start)
    return outcome


@click.command()
@click.option("--count", default=10_000, show_default=True, help="Number of mutated files.")
@click.option("--seed", default=0, show_default=True, help="Of tokens and mutations.")
def command(count: int, seed: int) -> None:
    """Read mutated token files; fails where one is read without an error."""
    outcome = fuzz(count, seed)
    for message, times in outcome.refused.most_common():
        click.echo(f"{times:7d}  {message}")
    click.echo(
        f"{count} files: {outcome.refused.total()} refused, {outcome.unchanged} unchanged by their mutation, "
        f"{outcome.silent} read in silence; the slowest took {outcome.slowest:.2f} s"
    )
    if outcome.silent:
        raise BadInput(f"{outcome.silent} damaged files were read without an error")


if __name__ == "__main__":
    from latticebench.commands import run

    run(command)
