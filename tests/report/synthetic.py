"""A results folder made up from seeds: every suite, log, picture and codebook that a report reads."""

import hashlib
import math
import os
from pathlib import Path

import numpy as np

from evaluation import codebooks, rates
from evaluation.records import Dataset, File, Interval, Machine, Record, empty, measured, write
from evaluation.statistics import mean_interval
from latticebench import generator_entries
from latticebench.configuration import Configuration

QUANTIZERS = {
    "identity": ("identity", {"dim": 24}, math.inf, 26.3),
    "vq": ("vq", {"codebook_size": 4096, "dim": 8}, 4096, 22.4),
    "vq-ema": ("vq", {"codebook_size": 4096, "update": "ema"}, 4096, 22.9),
    "simvq": ("simvq", {"codebook_size": 4096}, 4096, 23.1),
    "lfq": ("lfq", {"dim": 12}, 4096, 22.0),
    "bsq": ("bsq", {"dim": 12}, 4096, 22.7),
    "fsq": ("fsq", {"levels": [8, 8, 8, 8]}, 4096, 23.3),
    "lgq": ("lgq", {"codebook_size": 4096}, 4096, 22.6),
    "random": ("random", {"codebook_size": 4096, "dim": 24}, 4096, 22.5),
    "fibonacci": ("fibonacci", {"codebook_size": 4096, "dim": 24}, 4096, 21.9),
    "leech-4096": ("leech", {"codebook_size": 4096, "subset": "random"}, 4096, 22.8),
    "leech": ("leech", {"codebook_size": 196560}, 196560, 24.1),
    "leech-published": ("leech-published", {}, 196560, 24.0),
    "bsq-18": ("bsq", {"dim": 18}, 262144, 23.6),
    "random-196560": ("random", {"codebook_size": 196560, "dim": 24}, 196560, 23.7),
}
THREE = {
    "table-5": ["identity", "leech-published", "bsq-18", "leech", "random-196560", "vq", "lfq", "simvq", "fsq", "lgq"],
    "table-8": ["identity", "leech-4096", "bsq", "random", "fibonacci", "vq", "vq-ema", "simvq", "fsq", "lgq"],
    "sweep": ["identity", "lgq", "fsq", "simvq", "vq", "vq-ema", "lfq", "bsq", "random", "fibonacci"],
}
SOME = ["identity", "vq", "vq-ema", "bsq", "fsq", "leech-4096", "leech", "bsq-18"]
IMAGES, SCENES, TOKENS, PIXELS = 60, 3, 64, 64 * 64
MACHINE = Machine(
    hardware="a made-up processor, 2 logical cores",
    threads=1,
    wall_seconds=1.5,
    peak_memory_bytes=10**9,
    created="2026-01-01T00:00:00Z",
    python="3.11.0",
    packages={"torch": "2.13.0", "numpy": "2.4.6"},
)


GENERATORS = {
    "direct": ("leech-published", {"head": {"kind": "full"}}, 40.0),
    "factorised": ("leech-published", {"head": {"kind": "digits"}}, 44.0),
    "over-bsq": ("bsq-18", {"head": {"kind": "digits"}}, 47.0),
    "plain": ("bsq-18", {"head": {"kind": "full"}, "training": {"z_weight": 0.0, "optimizer": "adamw"}}, None),
}
"""Entry of the tokenizer, overrides, and distance of the samples: None for a training that diverged."""


def _entries(names: list[str]) -> dict[str, dict]:
    entries = {name: {"method": QUANTIZERS[name][0], "parameters": QUANTIZERS[name][1]} for name in names}
    for name in entries:
        if QUANTIZERS[name][2] not in (4096, math.inf):
            entries[name]["seeds"] = 1
    return entries


def _generators(names: list[str]) -> dict[str, dict]:
    return {
        name: {"tokenizer": tokenizer, "generation": options, "seeds": 1}
        for name, (tokenizer, options, _) in GENERATORS.items()
        if tokenizer in names
    }


def configuration(
    names: list[str] | None = None, suites: dict[str, list[str]] | None = None, generators: bool = False
) -> Configuration:
    """A configuration that needs no method to be installed. suites: names of the rows of each, instead of `names`."""
    data, tokenizer = {"source": "bundled-photographs", "size": 64}, {"width": 96, "training": {"ema": 0}}
    values = {
        "name": "synthetic",
        "seed": 0,
        "seeds": 2,
        "data": data,
        "tokenizer": tokenizer,
        "generation": {
            "classes": "pixels",
            "tokens": {"views": 1},
            "model": {"family": "raster", "width": 64},
            "head": {"kind": "full"},
            "training": {"steps": 120, "z_weight": 1e-4, "optimizer": "dion"},
            "sampling": {"guidance": 1},
            "sweep": {"guidance": [1, 2]},
        },
        "generators": {},
        "geometry": {},
        "evaluation": {},
        "report": {},
        "jobs": {},
    }
    if suites is None:
        names = list(names or QUANTIZERS)
        values["quantizers"] = _entries(names)
        values["generators"] = _generators(names) if generators else {}
    else:
        values["suites"] = {
            suite: {
                "title": suite.replace("-", " ").capitalize(),
                "table": f"the table of {suite}",
                "data": {**data, "size": 64 * (1 + place)},
                "tokenizer": tokenizer,
                "quantizers": _entries(rows),
                "generators": _generators(rows) if generators else {},
            }
            for place, (suite, rows) in enumerate(suites.items())
        }
    return Configuration(Path("config/synthetic.yaml"), values)


def record(subject, seed, suite, values, **fields) -> Record:
    """A record of a subject of `configuration()`."""
    quantizer = subject.spec["quantizer"]
    split = Dataset(name="bundled-photographs", split="eval", sha256="ab" * 32, samples=IMAGES)
    return Record(
        subject=subject.id,
        name=subject.name,
        method=quantizer["method"],
        seed=seed,
        suite=suite,
        parameters=subject.spec,
        dataset=split,
        values=values,
        code={"evaluation": "cd" * 32},
        weights={"model.safetensors": "ef" * 32},
        machine=MACHINE,
        **fields,
    )


def _rng(*parts) -> np.random.Generator:
    return np.random.default_rng(int(hashlib.sha256(repr(parts).encode()).hexdigest()[:8], 16))


def reconstruction(subject, seed, shift: float = 0.0) -> Record:
    """PSNR and SSIM of each image: the images' own difficulty, the quantizer's level and a little noise."""
    level = QUANTIZERS[subject.name][3] + shift
    groups = [i * SCENES // IMAGES for i in range(IMAGES)]
    difficulty = np.random.default_rng(0).normal(0, 2.5, IMAGES)
    psnr = (level + difficulty + _rng(subject.name, seed).normal(0, 0.3, IMAGES)).tolist()
    ssim = (0.5 + 0.02 * (np.asarray(psnr) - 20)).tolist()
    values = {}
    for key, numbers in (("psnr", psnr), ("ssim", ssim)):
        mean, interval = mean_interval(numbers, groups)
        values[key] = measured(mean, f"{key}-v1", interval=interval, n=IMAGES)
    values["lpips_alex"] = values["psnr"].model_copy(
        update={
            "value": None,
            "interval": None,
            "protocol": "lpips-alex-v1",
            "reason": "weights alexnet-owt-7be5be79.pth are missing; fetch them with `latticebench fetch lpips-alex`",
        }
    )
    distance = 40 - level
    values["fd_insuite"] = measured(
        distance,
        "fd-insuite-v1",
        n=IMAGES,
        interval=Interval(low=distance - 0.4, high=distance + 0.4, method="delete-a-group jackknife"),
    )
    return record(subject, seed, "reconstruction", values, samples={"psnr": psnr, "ssim": ssim}, groups=groups)


def codebook_and_rates(subject, seed) -> list[Record]:
    size = QUANTIZERS[subject.name][2]
    if size == math.inf:
        reason = "identity has no codes"
        return [
            record(subject, seed, "codebook", codebooks.no_codes(reason)),
            record(subject, seed, "rates", rates.no_codes(reason)),
        ]
    rng = _rng(subject.name, seed, "codes")
    codes = (size * rng.beta(0.6, 1.4, (IMAGES, TOKENS))).astype(np.int64)
    values = codebooks.values(codes, size, None)
    entropy = values["entropy_bits"].value
    return [
        record(subject, seed, "codebook", values, arrays=codebooks.histogram(codebooks.counts(codes))),
        record(subject, seed, "rates", rates.values(size, TOKENS, PIXELS, entropy, None, IMAGES * TOKENS)),
    ]


def cost(subject, seed) -> Record:
    values = {
        "parameters": measured(1.2e6, "cost-v1"),
        "encode_images_per_second": measured(800.0 + seed, "cost-v1", unit="images/s", machine=True),
        "training_seconds": measured(38.0, "cost-v1", unit="s", machine=True),
    }
    return record(subject, seed, "cost", values)


def geometry(name, method, size, dim, delta) -> Record:
    return Record(
        subject=name,
        name=name,
        method=method,
        seed=None,
        suite="geometry",
        parameters={"quantizer": {"method": method, "parameters": {}}},
        dataset=None,
        code={},
        machine=MACHINE,
        values={
            "codebook_size": measured(size, "geometry-v1"),
            "dim": measured(dim, "geometry-v1"),
            "delta_min": measured(delta, "geometry-v1"),
        },
    )


GEOMETRY = (
    ("leech", "leech", 196560, 24, 1.0),
    ("leech-published", "leech-published", 196560, 24, math.sqrt(24 / 32)),
    ("bsq-18", "bsq", 2**18, 18, 2 / math.sqrt(18)),
    *((f"random-{k}", "random", k, 24, 1.1 - 0.06 * math.log10(k)) for k in (1024, 4096, 16384)),
    *((f"fibonacci-{k}", "fibonacci", k, 3, 3.3 / math.sqrt(k)) for k in (64, 256, 1024)),
    *((f"random-3-{k}", "random", k, 3, 0.9 / k**0.9) for k in (64, 256, 1024)),
)


def compression(subject, seed) -> Record:
    """Coded sizes around the entropy."""
    size = QUANTIZERS[subject.name][2]
    if size == math.inf:
        reason = "identity has no codes"
        values = {key: empty("coded-v1", reason) for key in ("bpp_static", "bpp_uniform")}
        return record(subject, seed, "compression", values)
    level = QUANTIZERS[subject.name][3]
    rate = math.log2(size) * TOKENS / PIXELS
    around = Interval(low=rate - 0.01, high=rate + 0.01, method="made up")
    values = {
        "bpp_static": measured(rate, "coded-v1", unit="bpp", interval=around),
        "bpp_uniform": measured(rate + 0.06, "coded-v1", unit="bpp"),
        "psnr": measured(level, "psnr-v1", unit="dB"),
    }
    return record(subject, seed, "compression", values)


def codec(name: str, start: float) -> Record:
    """A classical codec's curve."""
    rates = [0.2, 0.4, 0.8, 1.6]
    return Record(
        subject=name,
        name=name.upper(),
        method=name,
        seed=None,
        suite="classical",
        parameters={},
        dataset=None,
        values={f"{key}_points": measured(len(rates), f"{key}-v1") for key in ("bpp", "psnr")},
        arrays={"bpp": rates, "psnr": [start + 4 * i for i in range(4)], "settings": [10, 30, 60, 90]},
        code={},
        machine=MACHINE,
    )


_OWN = ("fd_insuite_generation", "precision_insuite", "recall_insuite")
_ADM = ("gfid", "inception_score", "precision", "recall")


def generation(name: str, distance: float | None, **fields) -> Record:
    """What was measured of samples; without a distance, of a training that diverged."""
    reason = "ADM's reference is of ImageNet's 1000 classes; the data is made up"
    values = {key: empty(f"{key}-v1", reason) for key in _ADM}
    notes, arrays = [], {}
    if distance is None:
        notes = ["training diverged at step 120"]
        values |= {key: empty(f"{key}-v1", notes[0]) for key in (*_OWN, "bits_per_token")}
    else:
        numbers = dict(zip(_OWN, (distance, 0.9 - distance / 100, 1.0 - distance / 80), strict=True))
        for key, number in numbers.items():
            around = Interval(low=number * 0.99, high=number * 1.01, method="made up")
            values[key] = measured(number, f"{key}-v1", interval=around, n=50)
        values["bits_per_token"] = measured(10 + distance / 50, "bits_per_token-v1", unit="bits")
        ranks = np.unique(np.geomspace(1, 400, 60).round()).tolist()
        arrays = {
            "token_ranks": ranks,
            "token_frequencies_data": [0.02 / rank**0.7 for rank in ranks],
            "token_frequencies_samples": [0.03 / rank**0.9 for rank in ranks],
            "sweep": [
                {"guidance": g, "temperature": 1.0, _OWN[1]: 0.3 + 0.1 * g, _OWN[2]: 0.7 - 0.12 * g} for g in (1, 2, 3)
            ],
        }
    return Record(
        subject=name,
        name=name,
        suite="generation",
        values=values,
        arrays=arrays,
        notes=notes,
        dataset=Dataset(name="bundled-photographs", split="eval", sha256="ab" * 32, samples=IMAGES),
        code={"evaluation": "cd" * 32},
        machine=MACHINE,
        **fields,
    )


def _fill_generators(root: Path, config: Configuration) -> None:
    for suite in config.suites():
        if suite.generators:
            oracle = generation("validation images", 20.0, method="oracle", seed=None, parameters={})
            name = f"oracle-{suite.subjects[0].data_hash}"
            write(oracle.model_copy(update={"subject": name}), root / "records" / name / "generation.json")
    for subject in config.generators():
        method = subject.spec["tokenizer"]["spec"]["quantizer"]["method"]
        distance = GENERATORS[subject.name][2]
        for seed in subject.seeds:
            out = root / "records" / subject.id / f"seed{seed}"
            files = {}
            if distance is not None:
                grid = root / "samples" / subject.id / f"seed{seed}" / "grid.npz"
                grid.parent.mkdir(parents=True)
                pixels = _rng(subject.name).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
                np.savez(grid, images=pixels)
                files = {"grid": File(path=os.path.relpath(grid, out), sha256="ab" * 32)}
            made = generation(
                subject.name, distance, method=method, seed=seed, parameters=subject.spec, files=files
            ).model_copy(update={"subject": subject.id})
            write(made, out / "generation.json")
            _log(root / "generators" / generator_entries.training_of(subject).id, subject.name, seed, distance is None)


def fill(root: Path, config: Configuration, skip: frozenset[str] = frozenset()) -> Path:
    """Writes a run's results below `root`; `skip` names quantizers that did not get so far."""
    originals = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    for subject in config.subjects():
        folder = root / "data" / subject.data_hash
        if not folder.is_dir():
            folder.mkdir(parents=True)
            np.save(folder / "eval.npy", originals)
        if subject.name in skip:
            continue
        for seed in subject.seeds:
            records = [reconstruction(subject, seed), *codebook_and_rates(subject, seed), cost(subject, seed)]
            for item in [*records, compression(subject, seed)]:
                write(item, root / "records" / subject.id / f"seed{seed}" / f"{item.suite}.json")
            _log(root / "tokenizers" / subject.id, subject.name, seed)
            noise = _rng(subject.name).normal(0, 60 - 2 * QUANTIZERS[subject.name][3], originals.shape)
            path = root / "pictures" / subject.id / f"seed{seed}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, reconstructions=np.clip(originals + noise, 0, 255).astype(np.uint8))
    for row in GEOMETRY:
        write(geometry(*row), root / "records" / "geometry" / f"{row[0]}.json")
    for name, start in (("jpeg-420", 24.0), ("webp", 25.5)):
        write(codec(name, start), root / "records" / "codecs" / f"{name}.json")
    _fill_generators(root, config)
    return root


def _log(folder, name, seed, diverged=False) -> None:
    import pandas as pd

    steps = np.arange(0, 120 if diverged else 400)
    rng = _rng(name, seed, "log")
    l1 = 0.06 + 0.3 * np.exp(-steps / 60) * rng.uniform(0.9, 1.1, len(steps))
    norm = rng.lognormal(0, 0.3, len(steps))
    if diverged:
        # As the trainer leaves it: the log ends before the loss that was not finite, here before its tenths can tell.
        l1 = l1 + np.exp((steps - 117) / 1.5)
        norm = norm * np.exp((steps - 90) / 10)
    frame = pd.DataFrame(
        {
            "step": steps,
            "loss": l1 + 0.1,
            "l1": l1,
            "grad_norm": norm,
            "lr": 1e-3,
            "codes_used": (steps * 3).clip(max=900),
            "seconds": steps * 0.1,
        }
    )
    path = folder / f"seed{seed}" / "log.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path)
