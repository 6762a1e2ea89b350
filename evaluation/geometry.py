"""The geometry stage: fixed codebooks as sets of points, one record each.

python -m evaluation.geometry --config C --out DIR writes DIR/<name>.json and, last, DIR/made.json.
"""

import logging
import math
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from evaluation import records
from evaluation.records import Interval, Record, Value, empty, measured
from latticebench import commands, configuration, quantizers
from latticebench.errors import BadInput
from latticebench.files import write_json
from latticebench.lattices import geometry
from latticebench.quantizers import Quantizer

PROTOCOL = "geometry-v1"
CODE = ("evaluation/geometry.py", "latticebench/lattices", "latticebench/quantizers")

FAST = ("bsq", "lfq", "fsq", "e8", "leech", "leech-published")
"""Methods whose search does not visit every code: they take FAST_FACTOR times as many directions."""
FAST_FACTOR = 64
_BATCH = 16_384
_WORST = 256
"""Directions that the covering estimate starts from."""

NOTES = {
    "leech": "delta_min: inner products of the Leech shell are 32, ±16, ±8, 0 and -32 over 32 (Conway and Sloane, "
    "chapter 4). Use: the symmetry group is transitive on the shell, so a uniform source uses all codes equally.",
    "leech-published": "delta_min: √(24/32) = 0.866, the number in Table 4 of arXiv:2512.14697. Class 2 and class 3 "
    "of the released file come from two different Golay codes, so a class 2 and a class 3 vector reach the inner "
    "product 20 of 32 (no more: 2·(8 + 2) with a ±3 inside the octad); within a class it is 16. The true shell: 1.0.",
}


def subject(method: str, parameters: dict[str, Any], name: str, settings: dict[str, Any], seed: int) -> Record:
    """Measures one fixed codebook in full."""
    watch = records.Stopwatch()
    quantizer = _fixed(method, parameters, name)
    values = _points(quantizer) | _use(quantizer, settings, seed)
    return _record(quantizer, method, parameters, name, values, settings, watch)


def point(method: str, parameters: dict[str, Any], name: str, settings: dict[str, Any]) -> Record:
    """One point of a sweep: distances and bounds only."""
    watch = records.Stopwatch()
    quantizer = _fixed(method, parameters, name)
    return _record(quantizer, method, parameters, name, _points(quantizer), settings, watch)


def _fixed(method: str, parameters: dict[str, Any], name: str) -> Quantizer:
    quantizer = quantizers.create(method, **parameters)
    if quantizer.learnable or not quantizer.quantizes:
        raise BadInput(f"geometry: {name}: {method} has no fixed codebook; learned ones are measured by the judge")
    return quantizer.eval()


def _record(
    quantizer: Quantizer,
    method: str,
    parameters: dict[str, Any],
    name: str,
    values: dict[str, Value],
    settings: dict[str, Any],
    watch: records.Stopwatch,
) -> Record:
    exact = "delta_min is exact: " + ("closed form." if _known_distance(quantizer) else "all pairs were compared.")
    notes = [exact]
    if method in NOTES and quantizer.codebook_size == 196_560:
        notes.append(NOTES[method])
    if "mse_unit" in values:
        notes.append("mse_*, covering_angle and use_entropy_bits are estimates from uniform directions of the sphere.")
    return Record(
        subject=name,
        name=name,
        method=method,
        seed=None,
        suite="geometry",
        parameters={"quantizer": {"method": method, "parameters": parameters}, "samples": settings["samples"]},
        dataset=None,
        values=values,
        code=records.code_hashes(CODE),
        notes=notes,
        machine=watch.machine(),
    )


def _known_distance(quantizer: Quantizer) -> float | None:
    return getattr(quantizer, "delta_min", None)


def _points(quantizer: Quantizer) -> dict[str, Value]:
    """Distances of the codebook, brought to unit length where all its vectors have one length."""
    K, d = quantizer.codebook_size, quantizer.dim
    length = _length(quantizer)
    distance = _known_distance(quantizer) or geometry.smallest_distance(quantizer.codebook().detach())
    values = {
        "codebook_size": measured(K, PROTOCOL),
        "dim": measured(d, PROTOCOL),
        "bits": measured(quantizer.bits, PROTOCOL, unit="bits"),
    }
    if length is None:
        reason = "the code vectors don't have one length"
        values["delta_min"] = measured(distance, PROTOCOL)
        return values | {key: empty(PROTOCOL, reason) for key in ("delta_angle", "delta_bound", "mse_bound")}
    distance /= length
    return values | {
        "delta_min": measured(distance, PROTOCOL),
        "delta_angle": measured(geometry.angle(distance), PROTOCOL, unit="degrees"),
        "delta_bound": measured(geometry.largest_distance_bound(K, d), PROTOCOL),
        "mse_bound": measured(geometry.smallest_error_bound(K, d), PROTOCOL),
    }


def _length(quantizer: Quantizer) -> float | None:
    rows = torch.linspace(0, quantizer.codebook_size - 1, min(quantizer.codebook_size, 4096), dtype=torch.float64)
    squares = quantizer.decode(rows.long()).double().square().sum(1)
    same = bool((squares - squares[0]).abs().max() < 1e-5 * squares[0])
    return math.sqrt(round(float(squares[0]), 5)) if same else None  # float32 rounding must not reach exact distances


def _use(quantizer: Quantizer, settings: dict[str, Any], seed: int) -> dict[str, Value]:
    """Error, covering and use under uniform directions."""
    K, d = quantizer.codebook_size, quantizer.dim
    n = settings["samples"] * (FAST_FACTOR if quantizer.name in FAST else 1)
    length = _length(quantizer)
    scale = math.sqrt(d) if length is None or not quantizer.normalize else 1.0
    enough = n >= 4 * K  # for an entropy; without it nothing of size K is needed
    counts = np.zeros(K if enough else 0, dtype=np.int64)
    products, squares, worst = [], [], []
    for start in range(0, n, _BATCH):
        z = geometry.uniform_directions(min(_BATCH, n - start), d, seed, "geometry", start)
        indices = quantizer.encode(z * scale)
        if enough:
            counts += np.bincount(indices.numpy(), minlength=K)
        q = quantizer.decode(indices)
        products.append((z * q).sum(1).double())
        squares.append(q.square().sum(1).double())
        cosine = products[-1] / squares[-1].sqrt()
        worst.append(z[cosine.topk(min(16, len(z)), largest=False).indices])
    product, square = torch.cat(products), torch.cat(squares)
    values = {}
    if length is None:
        values["mse_unit"] = empty(PROTOCOL, "the code vectors don't have one length")
    else:
        values["mse_unit"] = _mean(2 - 2 * product / length, n)
    a, b = product.mean(), square.mean()
    # 1 - a²/b is not a mean, but to first order its error is that of the mean of this:
    values["mse_best_radius"] = _mean(1 - a**2 / b - 2 * a / b * (product - a) + (a / b) ** 2 * (square - b), n)
    if length is None:
        values["mse_gap_db"] = empty(PROTOCOL, "the bound is for code vectors of one length")
    else:
        gap = 10 * math.log10(values["mse_unit"].value / geometry.smallest_error_bound(K, d))
        values["mse_gap_db"] = measured(gap, PROTOCOL, unit="dB", n=n)

    def nearest(z: torch.Tensor) -> torch.Tensor:
        q = quantizer.decode(quantizer.encode(z * scale))
        return q / q.norm(dim=1, keepdim=True)

    if length is None:
        values["covering_angle"] = empty(PROTOCOL, "the nearest code vector is not the one of the smallest angle")
    else:
        found = geometry.worst_angle(torch.cat(worst)[-_WORST:], nearest, settings["covering_steps"])
        values["covering_angle"] = measured(found, PROTOCOL, unit="degrees", n=_WORST)
    if not enough:
        values["use_entropy_bits"] = empty(PROTOCOL, f"{n} directions are too few for {K} codes")
    else:
        values["use_entropy_bits"] = measured(geometry.entropy_bits(counts), PROTOCOL, unit="bits", n=n)
    return values


def _mean(samples: torch.Tensor, n: int) -> Value:
    mean, error = float(samples.mean()), float(samples.std()) / math.sqrt(n)
    interval = Interval(
        low=mean - 1.96 * error, high=mean + 1.96 * error, method=f"normal, standard error {error:.2g} over directions"
    )
    return measured(mean, PROTOCOL, n=n, interval=interval)


def jobs(settings: dict[str, Any]) -> list[tuple[str, str, dict[str, Any], bool]]:
    """What a configuration asks for: (name, method, parameters, measured in full), names unique."""
    found: dict[str, tuple[str, str, dict[str, Any], bool]] = {}
    for name, entry in settings["codebooks"].items():
        found[name] = (name, entry["method"], entry["parameters"], True)
    whole = {str((job[1], sorted(job[2].items()))) for job in found.values()}
    for d, sizes in ((3, settings["sweep_3"]), (24, settings["sweep_24"])):
        for K in sizes:
            for method in ("fibonacci", "random", *(["leech"] if d == 24 else [])):
                parameters = {"codebook_size": K, **({} if method == "leech" else {"dim": d})}
                name = f"{method}-d{d}-{K}"
                if name not in found and str((method, sorted(parameters.items()))) not in whole:
                    found[name] = (name, method, parameters, False)
    return list(found.values())


def measure(config: configuration.Configuration, out: Path) -> list[Path]:
    """Measures every codebook of the configuration's `geometry` section; returns the records' paths."""
    settings, seed = config.values["geometry"], config.values["seed"]
    paths = []
    for name, method, parameters, full in tqdm(jobs(settings), desc="geometry", unit="codebook"):
        measured_record = (
            subject(method, parameters, name, settings, seed) if full else point(method, parameters, name, settings)
        )
        paths.append(out / f"{name}.json")
        records.write(measured_record, paths[-1])
    return paths


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the records.")
def main(config_path: Path, out: Path) -> None:
    """Measures the fixed codebooks of a configuration as sets of points."""
    paths = measure(configuration.load(config_path), out)
    write_json(out / "made.json", {"files": records.manifest(paths, out)})
    logging.getLogger(__name__).info("%d codebooks measured in %s", len(paths), out)


if __name__ == "__main__":
    commands.run(main)
