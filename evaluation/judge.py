"""Judges the seeds of one subject: reconstruction, codebook, rates and cost records from one pass over the split.

`python -m evaluation.judge --config C --subject ID --seeds 0-1 --data DIR --root ROOT`
"""

import dataclasses
import functools
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from evaluation import codebooks, latents, rates, reconstruction, records, statistics, subjects, weights
from evaluation.images import from_array, from_floats
from evaluation.metrics import METRICS
from evaluation.protocols import protocol_id
from evaluation.records import Dataset, File, Machine, Record, Stopwatch, Value, empty, measured
from latticebench import configuration
from latticebench.configuration import Configuration, Subject
from latticebench.data import prepared
from latticebench.errors import BadInput
from latticebench.files import sha256, whole, write_json
from latticebench.tokenizers.train import parse_seeds

log = logging.getLogger(__name__)

_CODE = {
    "reconstruction": (
        "evaluation/reconstruction.py",
        "evaluation/pixels.py",
        "evaluation/perceptual.py",
        "evaluation/features.py",
        "evaluation/frechet.py",
        "evaluation/statistics.py",
    ),
    "codebook": ("evaluation/codebooks.py", "evaluation/latents.py", "evaluation/statistics.py"),
    "rates": ("evaluation/rates.py", "evaluation/codebooks.py"),
    "cost": ("evaluation/subjects.py", "latticebench/tokenizers"),
}
_NO_COST = {
    "flops_encode": "not counted: codebooks above 2^62 have no indices",
    "flops_decode": "not counted: codebooks above 2^62 have no indices",
    "training_seconds": "the checkpoint does not state it",
}
_JUDGED = ("latticebench/quantizers", "latticebench/tokenizers")


def picture_indices(groups: np.ndarray, count: int) -> np.ndarray:
    """`count` image indices that cover as many scenes as they can, evenly spaced within each; in scene order.

    groups: (N,) scene ids. The same for every subject of a split, so that pictures line up.
    """
    scenes = [np.flatnonzero(groups == scene) for scene in dict.fromkeys(groups.tolist())]
    if len(scenes) > count:
        scenes = [scenes[i] for i in np.linspace(0, len(scenes) - 1, count).round().astype(int)]
    quota = [0] * len(scenes)
    left = min(count, sum(map(len, scenes)))
    while left:
        for number, scene in enumerate(scenes):
            if left and quota[number] < len(scene):
                quota[number] += 1
                left -= 1
    chosen = [
        scene[((np.arange(k) + 0.5) * len(scene) / k).astype(int)] for scene, k in zip(scenes, quota, strict=True)
    ]
    return np.concatenate(chosen)


@dataclasses.dataclass
class Judge:
    """Judges checkpoints of one subject on one prepared evaluation split and writes below `root`."""

    config: Configuration
    subject: Subject
    data: prepared.Prepared
    root: Path

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        return self.config.values["evaluation"]

    @functools.cached_property
    def device(self) -> str:
        import torch

        if self.options["device"] == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if self.options["device"] == "cuda" and not torch.cuda.is_available():
            raise BadInput(f"{self.config.path}: evaluation.device is cuda, but torch sees no GPU; use auto")
        return self.options["device"]

    @functools.cached_property
    def dataset(self) -> Dataset:
        split = self.data.eval
        return Dataset(name=self.data.name, split=split.name, sha256=split.sha256, samples=len(split.images))

    def seed(self, seed: int) -> list[Path]:
        """Judges one seed. Returns the files written: four records and the pictures."""
        from latticebench import tokenizers

        watch = Stopwatch()
        split, folder = self.data.eval, self.root / "tokenizers" / self.subject.id / f"seed{seed}"
        tokenizer = tokenizers.load(folder)
        _reset_device_peak(self.device)
        run = subjects.run(
            tokenizer,
            split.images,
            self.options["batch_size"],
            self.device,
            self.root / "running",
            keep_floats=weights.available("inception", self.options["weights"]),
        )
        peak = _device_peak(self.device)
        settings = reconstruction.Settings(
            weights=self.options["weights"],
            store=self.root / "features",
            device=self.device,
            allow_few=self.options["allow_few"],
        )
        judged = reconstruction.measure(
            from_array(split.images, split.name),
            from_array(run.reconstructions, "reconstructions"),
            split.groups.tolist(),
            settings,
            split.sha256,
            floats=None if run.floats is None else from_floats(run.floats, "reconstructions"),
        )
        pictures = self.root / "pictures" / self.subject.id / f"seed{seed}.npz"
        self._write_pictures(pictures, run.reconstructions)
        codes, rate_values, histogram = self._codes(tokenizer, run)
        machine = watch.machine()
        codes |= latents.values(tokenizer, split.images, self.options["batch_size"], self.device)
        cost = self._cost(tokenizer, run, peak or machine.peak_memory_bytes)
        out = self.root / "records" / self.subject.id / f"seed{seed}"
        relative = os.path.relpath(pictures, out)
        own = {"tokenizer": sha256(folder / "model.safetensors")}
        write = functools.partial(self._write, out, seed, machine)
        return [
            write(
                "reconstruction",
                judged.values,
                samples=judged.samples,
                groups=split.groups.tolist(),
                files={"pictures": File(path=relative, sha256=sha256(pictures))},
                weights={**own, **judged.weights},
                notes=judged.notes,
            ),
            write("codebook", codes, arrays=histogram, weights=own),
            write("rates", rate_values, weights=own),
            write("cost", cost, weights=own),
            pictures,
        ]

    def _codes(
        self, tokenizer: Any, run: subjects.Pass
    ) -> tuple[dict[str, Value], dict[str, Value], dict[str, list[int]]]:
        """Values of the codebook and rates suites, and the histogram."""
        if run.codes is None:
            reason = f"{tokenizer.quantizer.name} quantizes nothing and has no codes"
            return codebooks.no_codes(reason), rates.no_codes(reason), {}
        size, pixels = tokenizer.quantizer.codebook_size, self.data.eval.images[0, ..., 0].size
        cut = statistics.blocks(len(run.codes), self.data.eval.groups)
        used = codebooks.values(run.codes, size, cut)
        bits = used["entropy_bits"]
        return (
            used,
            rates.values(size, run.codes.shape[1], pixels, bits.value or 0.0, bits.interval, run.codes.size),
            codebooks.histogram(codebooks.counts(run.codes)),
        )

    def _cost(self, tokenizer: Any, run: subjects.Pass, peak: int) -> dict[str, Value]:
        from latticebench.tokenizers import cost

        height, width = self.data.eval.images.shape[1:3]
        try:
            flops = cost.flops(tokenizer, height, width)
        except OverflowError:  # no indices above 2^62
            flops = {"encode": None, "decode": None}
        timed = {"machine": True}
        values: dict[str, tuple[float | None, dict[str, Any]]] = {
            "parameters": (cost.parameters(tokenizer)["trained"], {}),
            "flops_encode": (flops["encode"], {}),
            "flops_decode": (flops["decode"], {}),
            "encode_images_per_second": (run.encode_rate, timed),
            "decode_images_per_second": (run.decode_rate, timed),
            "peak_memory_bytes": (peak, timed),
            "training_seconds": (tokenizer.metadata.get("training_seconds"), timed),
        }
        result = {}
        for key, (number, flags) in values.items():
            unit = METRICS[key].unit
            if number is None:
                result[key] = empty(protocol_id(key), _NO_COST[key], unit=unit, **flags)
            else:
                result[key] = measured(float(number), protocol_id(key), unit=unit, **flags)
        return result

    def _write_pictures(self, path: Path, reconstructions: np.ndarray) -> None:
        indices = picture_indices(self.data.eval.groups, self.options["pictures"])
        originals = np.asarray(self.data.eval.images[indices])
        with whole(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, indices=indices, originals=originals, reconstructions=np.asarray(reconstructions[indices]))

    def _write(
        self, out: Path, seed: int, machine: Machine, suite: str, values: Mapping[str, Value], **more: Any
    ) -> Path:
        quantizer = self.subject.spec["quantizer"]
        record = Record(
            subject=self.subject.id,
            name=self.subject.name,
            method=quantizer.get("method") or quantizer["module"],
            seed=seed,
            suite=suite,
            parameters=self.subject.spec,
            dataset=self.dataset,
            values=dict(values),
            code={
                **records.code_hashes((*_CODE[suite], *(p for p in _JUDGED if p not in _CODE[suite]))),
                **self.config.extensions,
            },
            machine=machine,
            **more,
        )
        path = out / f"{suite}.json"
        records.write(record, path)
        return path


def _reset_device_peak(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def _device_peak(device: str) -> int | None:
    """Peak allocated bytes of the GPU, None on a CPU."""
    if device != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_allocated()


def judge(config: Configuration, subject: Subject, seeds: str, data: Path, root: Path) -> Path:
    """Judges seeds of a subject and writes their records and, last, the job's manifest, whose path it returns."""
    worker = Judge(config, subject, prepared.load(data), root)
    files = []
    for seed in parse_seeds(seeds):
        files += worker.seed(seed)
        log.info("judged %s seed %d", subject.id, seed)
    made = root / "records" / subject.id / f"made-{seeds}.json"
    write_json(made, {"files": {os.path.relpath(file, made.parent): sha256(file) for file in files}})
    return made


@click.command()
@click.option("--config", "config_file", required=True, help="The configuration.")
@click.option("--subject", "subject_id", required=True, help="Id or name of a quantizer entry.")
@click.option("--seeds", required=True, help="A seed, or a range such as 0-1.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the prepared data.")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="The results folder.")
def command(config_file: str, subject_id: str, seeds: str, data: Path, root: Path) -> None:
    """Judges trained tokenizers: reconstruction, codebook use, rates and cost."""
    config = configuration.load(config_file)
    judge(config, config.subject(subject_id), seeds, data, root)


if __name__ == "__main__":
    from latticebench.commands import run

    run(command)
