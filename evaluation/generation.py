"""Judges generators: samples against the training split, held-out likelihood, use of the codebook, sweeps.

`python -m evaluation.generation --config C --generator ID --seed K --data DIR --root ROOT` judges one seed;
`--oracle` instead of a generator judges the evaluation split as if it were samples, the best that can be hoped for.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from evaluation import adm, chunks, features, frechet, images, likelihood, records, sets, statistics, weights
from evaluation.images import Images
from evaluation.protocols import protocol_id
from evaluation.reconstruction import Judgement, Settings
from evaluation.records import Dataset, File, Record, Stopwatch, empty, measured
from latticebench import configuration, generator_entries
from latticebench.configuration import Configuration, Subject
from latticebench.data import prepared
from latticebench.data.prepared import Prepared, Split
from latticebench.errors import Missing
from latticebench.files import hash8, sha256, write_json

SUITE = "generation"
ORACLE = "oracle"
CODE = (
    "evaluation/generation.py",
    "evaluation/likelihood.py",
    "evaluation/adm.py",
    "evaluation/features.py",
    "evaluation/frechet.py",
    "evaluation/sets.py",
    "evaluation/statistics.py",
    "latticebench/generators",
)
ADM_KEYS = {
    "gfid": "gfid",
    "sfid": "sfid",
    "inception_score": "is_adm",
    "precision": "precision_adm",
    "recall": "recall_adm",
}
"""Values of a record -> the metrics whose protocols they are measured under."""
REFERENCE = 50_000
"""Training images that the suite's own metrics compare with, at most."""
_RANKS = 200
"""Ranks at which the curve of token frequencies is kept."""


@dataclasses.dataclass(frozen=True)
class CentreCrops(Images):
    """Centre crops of some images of a split, cut when they are read: the split may lie in its own files."""

    split: Split = None  # type: ignore[assignment]
    rows: np.ndarray = None  # type: ignore[assignment]

    def read(self, chunk: chunks.Chunk) -> np.ndarray:
        """uint8 (B, side, side, 3)."""
        side = self.shapes[0][0]
        top, left = ((extent - side) // 2 for extent in self.split.images.shape[1:3])
        chosen = self.rows[chunk[0] : chunk[1]]
        return np.asarray(self.split.images[chosen, top : top + side, left : left + side])


@dataclasses.dataclass
class Judge:
    """Judges one configuration's samples on one prepared data set; writes below `root`."""

    config: Configuration
    data: Prepared
    root: Path

    @functools.cached_property
    def settings(self) -> Settings:
        import torch

        options = self.config.values["evaluation"]
        device = options["device"]
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        store = self.root / "features"
        return Settings(options["weights"], store, device, allow_few=options["allow_few"])

    @functools.cached_property
    def dataset(self) -> Dataset:
        split = self.data.eval
        return Dataset(name=self.data.name, split=split.name, sha256=split.sha256, samples=len(split.images))

    @functools.cached_property
    def reference_features(self) -> np.ndarray:
        """In-suite features of at most REFERENCE training images, spread evenly over the split."""
        side, count = self.data.eval.images.shape[1], len(self.data.train)
        rows = np.linspace(0, count - 1, min(count, REFERENCE)).round().astype(int)
        crops = CentreCrops(
            [f"training image {row}" for row in rows], [(side, side)] * len(rows), self.data.train, rows
        )
        identity = hash8([self.data.train.sha256, side, len(rows)]).ljust(32, "0")
        return self._features(crops, content=identity)

    def oracle(self) -> Path:
        """The record of the evaluation split judged as samples. Returns its path."""
        watch = Stopwatch()
        judged = Judgement()
        given = images.from_array(self.data.eval.images, "evaluation images")
        self._own_metrics(judged, given)
        self._adm(judged, given)
        judged.notes.append("the evaluation split's own images, judged as if they were samples")
        record = Record(
            subject=f"{ORACLE}-{self.data.path.name}",
            name="validation images",
            method=ORACLE,
            seed=None,
            suite=SUITE,
            parameters={"data": self.data.manifest["options"], "seed": self.data.manifest["seed"]},
            dataset=self.dataset,
            values=judged.values,
            weights=judged.weights,
            code=records.code_hashes(CODE),
            notes=judged.notes,
            machine=watch.machine(),
        )
        path = self.root / "records" / record.subject / f"{SUITE}.json"
        records.write(record, path)
        return path

    def seed(self, generator: Subject, seed: int) -> Path:
        """The record of one seed of a generator. Returns its path."""
        watch = Stopwatch()
        folder = self.root / "samples" / generator.id / f"seed{seed}"
        trained = self.root / "generators" / generator_entries.training_of(generator).id / f"seed{seed}"
        made = json.loads((folder / "samples.json").read_text())
        judged = Judgement()
        judged.weights["generator"] = sha256(trained / "model.safetensors")
        out = self.root / "records" / generator.id / f"seed{seed}"
        files = {"log": _file(trained / "log.parquet", out, machine=True)}
        arrays: dict[str, list[Any]] = {}
        if made["diverged"] is not None:
            reason = f"training diverged at step {made['diverged']}"
            judged.values.update({key: empty(protocol, reason) for key, protocol in _protocols().items()})
            judged.notes.append(reason)
        else:
            samples = images.load(folder / "samples.npz")
            self._own_metrics(judged, samples)
            self._adm(judged, samples)
            model = likelihood.load(self.root, generator, seed, self.settings.device)
            found = likelihood.measure(model, self.data, self.config.values["evaluation"]["batch_size"])
            judged.values.update(found.values)
            judged.samples.update(found.samples)
            arrays |= self._frequencies(judged, model.tokens, folder)
            arrays["sweep"] = [self._setting(entry, folder) for entry in made["sweep"]]
            files |= {name: _file(folder / f"{name}.npz", out) for name in ("grid", "samples")}
            files["picture"] = _file(folder / "grid.png", out)
        record = Record(
            subject=generator.id,
            name=generator.name,
            method=_method(generator),
            seed=seed,
            suite=SUITE,
            parameters=generator.spec,
            dataset=self.dataset,
            values=judged.values,
            samples=judged.samples,
            groups=self.data.eval.groups.tolist() if judged.samples else [],
            arrays=arrays,
            files=files,
            weights=judged.weights,
            code={**records.code_hashes(CODE), **self.config.extensions},
            notes=judged.notes,
            machine=watch.machine(),
        )
        path = out / f"{SUITE}.json"
        records.write(record, path)
        return path

    def _features(self, of: Images, content: str | None = None) -> np.ndarray:
        """In-suite features. Only those of the reference are stored: samples are judged once."""
        return features.of(
            of,
            "insuite",
            paths=self.settings.weights,
            store=self.settings.store if content else None,
            content=content,
            device=self.settings.device,
        )["features"]

    def _own_metrics(self, judged: Judgement, samples: Images, intervals: bool = True) -> None:
        """Distance, precision and recall of the suite's own features."""
        network = features.build("insuite", self.settings.weights, self.settings.device).sha256
        judged.weights["insuite"] = network
        own, reference = self._features(samples), self.reference_features
        cut = statistics.blocks(len(own)) if intervals else None
        key = "fd_insuite_generation"
        distance = adm.distance(key, own, frechet.moments(reference), cut, self.settings, judged)
        found = {key: distance}
        found |= {f"{name}_insuite": value for name, value in sets.precision_recall(own, reference, None).items()}
        for name, value in found.items():
            judged.values[name] = value.model_copy(update={"protocol": protocol_id(name, network), "n": len(own)})

    def _adm(self, judged: Judgement, samples: Images) -> None:
        """ADM's metrics where its reference is of this data and all files are there, else empty cells with the reason."""
        reason = self._not_adm
        if reason is None:
            try:
                found = adm.measure(samples, adm.load(adm.default_reference(self.settings)), self.settings)
            except Missing as error:
                reason = str(error)
            else:
                judged.values.update({key: found.values[theirs] for key, theirs in ADM_KEYS.items()})
                judged.weights.update(found.weights)
                judged.notes += found.notes
        if reason is not None:
            judged.values.update({key: empty(protocol_id(theirs), reason) for key, theirs in ADM_KEYS.items()})

    @functools.cached_property
    def _not_adm(self) -> str | None:
        classes, side = self.data.manifest["classes"], self.data.eval.images.shape[1]
        if classes is None or classes["kind"] != "ilsvrc":
            return f"ADM's reference is of ImageNet's 1000 classes; the data is {self.data.name}"
        if side != 256:
            return f"ADM's reference has 256 px; the data has {side} px"
        return None

    def _setting(self, entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """One row of the sweep: the settings of sampling and what is measured of its samples."""
        judged = Judgement()
        samples = images.load(folder / entry["file"])
        self._own_metrics(judged, samples, intervals=False)
        if self._not_adm is None and weights.available("adm-reference", self.settings.weights):
            self._adm(judged, samples)
        numbers = {key: value.value for key, value in judged.values.items()}
        return {**{key: value for key, value in entry.items() if key != "file"}, **numbers}

    def _frequencies(self, judged: Judgement, tokens: Any, folder: Path) -> dict[str, list[Any]]:
        """Sorted frequencies of codes, of the samples and of as many training tokens; sets the two ratios."""
        sampled = np.load(folder / "tokens.npy")
        keys = ("frequency_ratio_samples", "frequency_ratio_data")
        if sampled.ndim != 2:
            reason = "codebooks above 2^62 have no indices to count"
            judged.values.update({key: empty(protocol_id(key), reason) for key in keys})
            return {}
        per_image = len(tokens.train) // len(self.data.train)
        pictures = np.linspace(0, len(self.data.train) - 1, min(len(sampled), len(self.data.train))).round().astype(int)
        given = np.asarray(tokens.train.tokens[pictures * per_image])
        sides = {"samples": sampled[: len(given)], "data": given}
        curves = {}
        for (name, side), key in zip(sides.items(), keys, strict=True):
            counts = np.sort(np.unique(side, return_counts=True)[1])[::-1]
            judged.values[key] = measured(float(counts[0] / counts[-1]), protocol_id(key), n=int(side.size))
            curves[name] = counts / side.size
        longest = max(map(len, curves.values()))
        ranks = np.unique(np.geomspace(1, longest, _RANKS).round().astype(int))
        arrays: dict[str, list[Any]] = {"token_ranks": ranks.tolist()}
        for name, curve in curves.items():
            padded = np.append(curve, np.zeros(longest - len(curve)))
            arrays[f"token_frequencies_{name}"] = padded[ranks - 1].tolist()
        return arrays


def _protocols() -> dict[str, str]:
    """Every value of a record and its protocol, for records that have nothing to measure."""
    network = features.build("insuite").sha256
    keys = ("fd_insuite_generation", "precision_insuite", "recall_insuite")
    own = {key: protocol_id(key, network) for key in keys}
    rest = (*likelihood.KEYS, "frequency_ratio_samples", "frequency_ratio_data")
    return (
        own | {key: protocol_id(theirs) for key, theirs in ADM_KEYS.items()} | {key: protocol_id(key) for key in rest}
    )


def _method(generator: Subject) -> str:
    """The quantizer behind a generator."""
    quantizer = generator.spec["tokenizer"]["spec"]["quantizer"]
    return quantizer.get("method") or quantizer["module"]


def _file(path: Path, out: Path, machine: bool = False) -> File:
    return File(path=os.path.relpath(path, out), sha256=sha256(path), machine=machine)


@click.command()
@click.option("--config", "config_file", required=True, help="The configuration.")
@click.option("--generator", "generator_id", help="Id or name of a generator entry.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the generator.")
@click.option("--oracle", is_flag=True, help="Judge the evaluation split instead.")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of the prepared data.")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="The results folder.")
def command(config_file: str, generator_id: str | None, seed: int, oracle: bool, data: Path, root: Path) -> None:
    """Judges a generator's samples and likelihood."""
    config = configuration.load(config_file)
    if oracle == (generator_id is not None):
        raise click.UsageError("give either --generator or --oracle")
    loaded = prepared.load(data)
    if oracle:
        record = Judge(config, loaded, root).oracle()
        write_json(record.parent / "made.json", {"files": {record.name: sha256(record)}})
        return
    generator = config.generator(str(generator_id))
    record = Judge(config, loaded, root).seed(generator, seed)
    made = root / "records" / generator.id / f"made-generation-{seed}.json"
    write_json(made, {"files": {os.path.relpath(record, made.parent): sha256(record)}})


if __name__ == "__main__":
    from latticebench.commands import run

    run(command)
