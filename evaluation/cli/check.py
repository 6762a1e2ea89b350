"""`latticebench check TARGET`: does a quantizer keep the contract, and how does it compare with vq and fsq?"""

import dataclasses
import itertools
import logging
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from latticebench.errors import BadInput, LatticebenchError

if TYPE_CHECKING:
    from latticebench.quantizers import Quantizer

log = logging.getLogger(__name__)

LARGEST_TRAINED = 2**14
"""vq beside a larger codebook would take longer than a check may."""
_METRICS = ("psnr", "ssim", "fd_insuite", "codes_used", "relative_usage", "entropy_bits", "training_seconds")


@click.command()
@click.argument("target")
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="KEY=VALUE", help="A parameter, as YAML.")
@click.option("--steps", type=click.IntRange(min=1), default=150, show_default=True, help="Training steps.")
@click.option("--no-training", is_flag=True, help="Conformance and geometry only (seconds).")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep data, tokenizers and records in this folder.")
def command(target: str, parameters: tuple[str, ...], steps: int, no_training: bool, keep: Path | None) -> None:
    """Check the quantizer TARGET: a method's name or a Python file.

    Runs the conformance suite, looks at the codebook's geometry, trains it for a short while on the bundled
    photographs beside vq and fsq at equal K, and gives a verdict. Exit code 2 where the contract is broken.
    """
    entry = resolve(target, parameters)
    faults = conformance_faults(entry)
    faults += [] if faults else _comparison(entry, steps, keep, no_training)
    if faults:
        raise BadInput(f"{target}: {len(faults)} {'faults' if len(faults) > 1 else 'fault'}: " + "; ".join(faults))
    click.echo("verdict     nothing wrong was found")


def resolve(target: str, parameters: tuple[str, ...] = ()) -> dict[str, Any]:
    """A quantizer entry as a configuration holds it, from a file or a method's name and KEY=VALUE texts.

    Raises BadInput on an unknown target or an ill-formed parameter.
    """
    from latticebench.quantizers import registry

    values: dict[str, Any] = {}
    for text in parameters:
        key, sign, value = text.partition("=")
        if not sign:
            raise BadInput(f"--parameter {text!r}: write KEY=VALUE, such as dim=8")
        values[key] = yaml.safe_load(value)
    file = next((path for path in (Path(target), Path(target).with_suffix(".py")) if path.is_file()), None)
    if file is None and target not in registry.available():
        raise BadInput(f"{target!r} is neither a Python file nor a known method ({', '.join(registry.available())})")
    known = {"method": target} if file is None else {"module": str(file.resolve())}
    registry.parse_parameters(_class(known), values)
    return {**known, "parameters": values}


def _class(entry: dict[str, Any]) -> type["Quantizer"]:
    from latticebench.quantizers import registry

    return registry.load_module(entry["module"]) if "module" in entry else registry.method(entry["method"])


def make(entry: dict[str, Any]) -> "Quantizer":
    """A fresh instance of an entry."""
    from latticebench.quantizers import build

    return build(_class(entry), entry["parameters"])


def conformance_faults(entry: dict[str, Any]) -> list[str]:
    """Runs the conformance suite, prints a line a check, and returns the faults in words."""
    from latticebench.quantizers import conformance

    try:
        quantizer = make(entry)
    except LatticebenchError:
        raise
    except Exception as error:
        return [f"it cannot be made from its parameters: {type(error).__name__}: {error}"]
    click.echo(
        f"method      {quantizer.name}: K = {quantizer.codebook_size}, d = {quantizer.dim}, {quantizer.bits:g} bits"
    )
    faults = []
    for name in conformance.CHECKS:
        found = [finding.message for finding in conformance.check(lambda: make(entry), [name])]
        click.echo(f"{'FAIL' if found else 'ok':<12}{name.replace('_', ' ')}")
        faults += found
    return faults


def _comparison(entry: dict[str, Any], steps: int, keep: Path | None, no_training: bool) -> list[str]:
    quantizer = make(entry)
    for line in geometry_lines(quantizer):
        click.echo(line)
    if no_training:
        return []
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        rows, faults = train_and_judge(entries(entry, quantizer), steps, folder)
    for line in [*table(rows), *versus(rows, quantizer.name)]:
        click.echo(line)
    return faults + (shortfalls(rows[quantizer.name]) if quantizer.name in rows else [])


def geometry_lines(quantizer: "Quantizer") -> list[str]:
    """What the codebook looks like, from a sample of its rows where it is large."""
    import torch

    from latticebench import seeding

    if not quantizer.quantizes or quantizer.codebook_size > 2**24:
        return [f"geometry    K = 2^{quantizer.bits:g}: no table to look at"]
    table = quantizer.codebook().detach().double()
    order = torch.randperm(len(table), generator=seeding.generator(0, "check", "rows"))
    chosen = order[: min(len(table), 512)]
    sample = table[chosen]
    distances = torch.cdist(sample, table)
    distances[torch.arange(len(chosen)), chosen] = math.inf
    nearest = distances.min(dim=1).values
    norms = table.norm(dim=1)
    return [
        f"geometry    norms {norms.min():.3g} to {norms.max():.3g}; distance to the nearest neighbour "
        f"{nearest.min():.3g} to {nearest.max():.3g} ({len(sample)} of {len(table)} code vectors)"
    ]


def entries(entry: dict[str, Any], quantizer: "Quantizer") -> dict[str, dict[str, Any]]:
    """The method beside vq and fsq at equal K, or as near to it as levels allow."""
    result = {quantizer.name: entry}
    size = quantizer.codebook_size
    if not quantizer.quantizes or size > LARGEST_TRAINED:
        return result
    if "vq" not in result:
        result["vq"] = {"method": "vq", "parameters": {"dim": quantizer.dim, "codebook_size": size, "init": "data"}}
    if "fsq" not in result and size >= 9:
        result["fsq"] = {"method": "fsq", "parameters": {"levels": list(fsq_levels(size))}}
    return result


def fsq_levels(codebook_size: int) -> tuple[int, ...]:
    """Levels (3 to 16 each) whose product is nearest to K; of equals the most even, then the nearest to 8."""
    candidates = (
        levels
        for dim in range(1, 7)
        for levels in itertools.combinations_with_replacement(range(16, 2, -1), dim)
        if abs(math.log(math.prod(levels) / codebook_size)) < 0.5
    )
    return min(
        candidates,
        key=lambda levels: (
            abs(math.prod(levels) - codebook_size),
            levels[0] - levels[-1],
            abs(levels[0] - 8),
        ),
    )


@dataclasses.dataclass(frozen=True)
class Row:
    """One trained quantizer: its K and the values that the judge measured, None where a cell is empty."""

    codebook_size: int
    values: dict[str, float | None]


def train_and_judge(
    chosen: dict[str, dict[str, Any]], steps: int, folder: Path, data_options: dict[str, Any] | None = None
) -> tuple[dict[str, Row], list[str]]:
    """Trains each entry on the bundled photographs and judges it. Returns rows, and faults where training failed.

    data_options: further keys of the configuration's data section.
    """
    from evaluation import judge, records
    from latticebench import configuration
    from latticebench.data import prepare, prepared
    from latticebench.tokenizers.train import train_seed

    values = {
        "name": "check",
        "seeds": 1,
        "data": {"source": "bundled-photographs", "train_margin": 16, **(data_options or {})},
        "tokenizer": {"training": {"steps": steps}},
        "quantizers": {name.replace("_", "-"): entry for name, entry in chosen.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    config = configuration.from_values(values, folder / "check.yaml")
    data = folder / "data" / config.data_hash
    if not (data / "manifest.json").is_file():
        prepare.prepare(config, data)
    rows: dict[str, Row] = {}
    faults: list[str] = []
    for (name, entry), subject in zip(chosen.items(), config.subjects(), strict=True):
        try:
            train_seed(config, subject, 0, prepared.load(data), folder)
            judge.judge(config, subject, "0", data, folder)
        except LatticebenchError as error:
            faults.append(f"training {name}: {error}")
            continue
        found = {}
        for path in sorted((folder / "records" / subject.id / "seed0").glob("[!.]*.json")):
            found |= {key: value.value for key, value in records.read(path).values.items()}
        rows[name] = Row(make(entry).codebook_size, found)
    return rows, faults


def table(rows: dict[str, Row]) -> list[str]:
    """Aligned text, a line a quantizer."""
    from evaluation.metrics import METRICS

    titles = ["", "K", *(METRICS[key].title for key in _METRICS)]
    lines = [titles]
    for name, row in rows.items():
        cells = [
            "-" if (value := row.values.get(key)) is None else f"{value:.{METRICS[key].decimals}f}" for key in _METRICS
        ]
        lines.append([name, str(row.codebook_size), *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]


def versus(rows: dict[str, Row], name: str) -> list[str]:
    """The method's PSNR against each other row's, one seed each."""
    own = rows[name].values.get("psnr") if name in rows else None
    return [
        f"against     {other}: {own - theirs:+.2f} dB, {row.codebook_size} codes; one seed and a short training"
        for other, row in rows.items()
        if other != name and own is not None and (theirs := row.values.get("psnr")) is not None
    ]


def shortfalls(row: Row) -> list[str]:
    """What a trained quantizer falls short of: 1 dB over each image's mean colour, 2% of a uniform source's use."""
    faults = []
    gain, usage = row.values.get("psnr_gain"), row.values.get("relative_usage")
    if gain is not None and gain < 1:
        faults.append(f"it reconstructs only {gain:.2f} dB better than each image's mean colour (1 dB is the least)")
    if usage is not None and usage < 0.02:
        faults.append(f"it uses {usage:.1%} of the codes that a uniform source would (2% is the least)")
    return faults
