"""Codes the evaluation split of one subject, seed by seed, decodes it in a fresh process and writes the records."""

import dataclasses
import functools
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import records
from evaluation.compression import bundle, fit, options, priors, verify
from evaluation.compression.codec import Coded, TokenCodec
from evaluation.compression.format import CHECKSUM_BYTES, HEADER_BYTES, MODES
from evaluation.compression.layout import NoCodes, of_folder
from evaluation.protocols import protocol_id
from evaluation.records import Dataset, File, Machine, Record, Stopwatch, Value, empty, measured
from latticebench.configuration import Configuration, Subject
from latticebench.data.prepared import Prepared
from latticebench.errors import BadInput
from latticebench.files import sha256
from latticebench.seeding import derive

log = logging.getLogger(__name__)

SUITE = "compression"
CODE = ("evaluation/compression", "evaluation/pixels.py", "latticebench/generators/raster.py")
KEYS = tuple(f"{name}_{kind}" for kind in MODES for name in ("bpp", "prior_bpp", "verified"))


@dataclasses.dataclass(frozen=True)
class Images:
    """What is coded. images: uint8 (H, W, 3) each. groups: scene of each."""

    dataset: Dataset
    images: Sequence[np.ndarray]
    groups: list[int]

    @property
    def pixels(self) -> np.ndarray:
        """Height x width of each image."""
        return np.array([image.shape[0] * image.shape[1] for image in self.images])


def images_of(data: Prepared | None, folder: Path | None) -> Images:
    """The images to code: those of a folder, or without one the evaluation split."""
    if folder is not None:
        named = options.read_images(folder)
        dataset = Dataset(name=folder.name, split="all", sha256=options.content_hash(named), samples=len(named))
        return Images(dataset, [image for _, image in named], list(range(len(named))))
    if data is None:
        raise BadInput("either prepared data or a folder of images is needed")
    split = data.eval
    dataset = Dataset(name=data.name, split=split.name, sha256=split.sha256, samples=len(split.images))
    return Images(dataset, split.images, split.groups.tolist())


@dataclasses.dataclass
class Pending:
    """A seed that is coded and waits for the fresh process's answer. seconds: its own work so far."""

    seed: int
    watch: Stopwatch
    seconds: float
    coded: Path
    tokenizer: Path
    hashes: list[str]
    values: dict[str, Value]
    samples: dict[str, list[float | None]]
    reasons: dict[str, str]
    weights: dict[str, str]


@dataclasses.dataclass
class Stage:
    """Codes seeds of one subject and writes below `root`: coded/<id>/seed<k> and records/<id>/seed<k>."""

    config: Configuration
    subject: Subject
    data: Prepared
    root: Path

    @functools.cached_property
    def options(self) -> options.Options:
        return options.of(self.config)

    @functools.cached_property
    def images(self) -> Images:
        return images_of(self.data, self.options.images)

    @property
    def device(self) -> str:
        """As the judge's: evaluation.device."""
        wanted = self.config.values["evaluation"].get("device", "cpu")
        if wanted != "auto":
            return wanted
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def run(self, seeds: Sequence[int]) -> list[Path]:
        """Codes and verifies seeds. Returns the files written, records and bitstreams."""
        folders = {seed: self.root / "tokenizers" / self.subject.id / f"seed{seed}" for seed in seeds}
        try:
            for folder in folders.values():
                of_folder(folder)
        except NoCodes as error:
            return [self._record_of_nothing(seed, str(error)) for seed in seeds]
        pending = [self._code(seed, folder) for seed, folder in folders.items()]
        watch = Stopwatch()
        answers = verify.in_fresh_process({item.coded: item.tokenizer for item in pending})
        for item in pending:
            item.seconds += watch.seconds() / len(pending)
        return [path for item in pending for path in self._finish(item, answers[item.coded])]

    def _code(self, seed: int, folder: Path) -> Pending:
        from evaluation.compression import distortion
        from evaluation.compression.pictures import PictureCoder

        watch = Stopwatch()
        coder = PictureCoder(folder, self.device, self.config.values["evaluation"].get("batch_size", 64))
        coded = self.root / "coded" / self.subject.id / f"seed{seed}"
        shutil.rmtree(coded, ignore_errors=True)
        images = coder.encode(self.images.images)
        lost = distortion.measure(
            self.images.images, coder.decode(images), self.config.values["evaluation"].get("weights", {}), self.device
        )
        item = Pending(
            seed,
            watch,
            0.0,
            coded,
            folder,
            [verify.token_hash(image.tokens, image.height, image.width) for image in images],
            distortion.values(lost, self.images.groups),
            {key: list(numbers) for key, numbers in lost.samples.items()},
            {},
            {"tokenizer": sha256(folder / "model.safetensors")},
        )
        for kind, prior in self._priors(coder, seed, item).items():
            self._code_with(TokenCodec(coder.layout, prior), kind, images, item)
        item.seconds = watch.seconds()
        return item

    def _priors(self, coder: Any, seed: int, item: Pending) -> dict[str, priors.Prior]:
        layout = coder.layout
        train = coder.tokens(
            fit.training_tiles(fit.some(self.data.train.images, self.options.prior_images), layout.tile)
        )
        static = priors.fit_static(train, layout.codebook_size, layout.tokenizer)
        found: dict[str, priors.Prior] = {"uniform": priors.UniformPrior(layout.codebook_size), "static": static}
        if self.subject.name in self.options.network:
            try:
                found["network"] = fit.fit_network(
                    train,
                    layout,
                    coder.tokenizer.quantizer,
                    self.options.recipe,
                    self.root / "running" / "priors" / self.subject.id / f"seed{seed}",
                    derive(self.subject.spec["seed"], "prior", seed),
                    self.device,
                )
            except BadInput as error:
                item.reasons["network"] = str(error)
        else:
            item.reasons["network"] = f"compression.network does not name {self.subject.name}"
        for kind, prior in found.items():
            if isinstance(prior, priors.FilePrior):
                priors.save(prior, item.coded / f"{kind}.safetensors")
                item.weights[f"prior_{kind}"] = prior.fingerprint
        return found

    def _code_with(self, codec: TokenCodec, kind: str, images: list[Coded], item: Pending) -> None:
        files, ideal = codec.write_priced(images)
        bundle.write(item.coded / f"{kind}.zip", files)
        self._check_price(kind, files, ideal)
        for name, bits in (("bpp", np.array([8 * len(data) for data in files])), ("prior_bpp", ideal)):
            numbers = (bits / self.images.pixels).tolist()
            item.samples[f"{name}_{kind}"] = numbers
            item.values[f"{name}_{kind}"] = _mean(f"{name}_{kind}", numbers, self.images.groups)

    def _check_price(self, kind: str, files: list[bytes], ideal: np.ndarray) -> None:
        for number, (data, bits) in enumerate(zip(files, ideal, strict=True)):
            if len(data) > 1.005 * bits / 8 + 8 + HEADER_BYTES:
                raise AssertionError(
                    f"image {number} under the {kind} prior: {len(data)} bytes for {bits / 8:.1f} bytes of information"
                )

    def _finish(self, item: Pending, found: verify.FOUND) -> list[Path]:
        zips = sorted(item.coded.glob("*"))
        for kind in MODES:
            if kind not in found:
                for name in ("bpp", "prior_bpp", "verified"):
                    item.values[f"{name}_{kind}"] = empty(protocol_id(f"{name}_{kind}"), item.reasons[kind])
                continue
            right = sum(a == b for a, b in zip(item.hashes, found[kind], strict=True))
            if right != len(item.hashes):
                raise AssertionError(
                    f"{self.subject.id} seed {item.seed}, {kind} prior: {len(item.hashes) - right} of "
                    f"{len(item.hashes)} files decode to other tokens in a fresh process"
                )
            item.values[f"verified_{kind}"] = measured(right, protocol_id(f"verified_{kind}"), n=len(item.hashes))
        out = self.root / "records" / self.subject.id / f"seed{item.seed}"
        files = {path.name: File(path=os.path.relpath(path, out), sha256=sha256(path)) for path in zips}
        shutil.rmtree(self.root / "running" / "priors" / self.subject.id / f"seed{item.seed}", ignore_errors=True)
        header = HEADER_BYTES + CHECKSUM_BYTES
        path = self._write(
            item.seed,
            item.watch.machine(item.seconds),
            item.values,
            samples=item.samples,
            files=files,
            weights=item.weights,
            notes=[
                f"every file has a header of {HEADER_BYTES} bytes and a checksum of {CHECKSUM_BYTES}, "
                f"{8 * header / float(np.mean(self.images.pixels)):.4f} bpp here",
                "tokens were decoded and compared in a fresh process from file, tokenizer and prior alone",
                *(f"{key}: {value}" for key, value in sorted(item.reasons.items())),
            ],
        )
        log.info("coded %s seed %d", self.subject.id, item.seed)
        return [path, *zips]

    def _record_of_nothing(self, seed: int, reason: str) -> Path:
        values = {key: empty(protocol_id(key), reason) for key in KEYS}
        return self._write(seed, Stopwatch().machine(), values, notes=[reason])

    def _write(self, seed: int, machine: Machine, values: dict[str, Value], **more: Any) -> Path:
        quantizer = self.subject.spec["quantizer"]
        record = Record(
            subject=self.subject.id,
            name=self.subject.name,
            method=quantizer.get("method") or quantizer["module"],
            seed=seed,
            suite=SUITE,
            parameters={"spec": self.subject.spec, "prior": dataclasses.asdict(self.options.recipe)},
            dataset=self.images.dataset,
            groups=self.images.groups,
            values=values,
            code=records.code_hashes(CODE),
            machine=machine,
            **more,
        )
        path = self.root / "records" / self.subject.id / f"seed{seed}" / f"{SUITE}.json"
        records.write(record, path)
        return path


def _mean(metric: str, numbers: Sequence[float], groups: Sequence[int]) -> Value:
    from evaluation import statistics

    mean, interval = statistics.mean_interval(numbers, groups)
    return measured(mean, protocol_id(metric), unit="bpp", interval=interval, n=len(numbers))
