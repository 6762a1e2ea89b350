"""The feature stage: images -> features, computed once, stored under their content, shared by every set metric.

An extractor is a network with all of its preprocessing, named in EXTRACTORS. Its features of a set of images
are stored as <store>/<extractor>-<weights hash>-<kind of device>-<hash of code and torch>/<images' hash>/<head>.npy, so
a changed image, order, transform, weights file, or arithmetic never meets old features.
"""

import contextlib
import dataclasses
import functools
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from evaluation import chunks, pixels, records, weights
from evaluation.images import Images
from latticebench.errors import BadInput
from latticebench.files import hash8, whole

CHUNK = 32
"""Images a forward pass. It is part of what is stored: float32 convolutions round by the size of the batch."""


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A network with its preprocessing. sha256: of its weights. run: uint8 (B, H, W, 3) -> head -> float32 (B, d).

    inception-pytorch-fid also takes floats in [0, 1], for the one protocol that does.
    """

    name: str
    sha256: str
    run: Callable[[np.ndarray], dict[str, Tensor]]


Build = Callable[[Mapping[str, str | None], torch.device], Extractor]
EXTRACTORS: dict[str, Build] = {}


def extractor(name: str) -> Callable[[Build], Build]:
    """Registers a function that builds an extractor from paths of weights and a device."""

    def add(build: Build) -> Build:
        EXTRACTORS[name] = build
        return build

    return add


@extractor("insuite")
def _insuite(paths: Mapping[str, str | None], device: torch.device) -> Extractor:
    from evaluation import insuite

    network = insuite.load().eval().to(device)
    return Extractor("insuite", insuite.SHA256, lambda x: {"features": network(pixels.to_float(x).to(device))})


@extractor("inception-pytorch-fid")
def _inception_pytorch_fid(paths: Mapping[str, str | None], device: torch.device) -> Extractor:
    return _inception("inception-pytorch-fid", resize_pytorch_fid, paths, device)


@extractor("inception-tf1")
def _inception_tf1(paths: Mapping[str, str | None], device: torch.device) -> Extractor:
    return _inception("inception-tf1", resize_tf1, paths, device)


@extractor("dinov2")
def _dinov2(paths: Mapping[str, str | None], device: torch.device) -> Extractor:
    from evaluation import dinov2

    file = weights.find("dinov2", paths)
    network = dinov2.load(file.path).to(device)
    return Extractor("dinov2", file.sha256, lambda x: {"features": network(dinov2.prepare(x).to(device))})


def resize_pytorch_fid(images: Tensor) -> Tensor:
    """float32 (B, 3, H, W) in [0, 1] -> (B, 3, 299, 299) in [−1, 1]: half-pixel bilinear without antialiasing."""
    resized = nn.functional.interpolate(images, size=(299, 299), mode="bilinear", align_corners=False)
    return 2 * resized - 1


def resize_tf1(images: Tensor) -> Tensor:
    """float32 (B, 3, H, W) in [0, 1], multiples of 1/255 -> (B, 3, 299, 299): TF1 bilinear, (x − 128)/128."""
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    levels = (images * 255).round()
    return (interpolate_bilinear_2d_like_tensorflow1x(levels, size=(299, 299), align_corners=False) - 128) / 128


_TRUNK = (
    "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2",
    "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e",
    "Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool",
)  # fmt: skip


def inception_heads(network: nn.Module, prepared: Tensor) -> dict[str, Tensor]:
    """torch-fidelity's Inception network behind another door: prepared (B, 3, 299, 299) -> three heads.

    pool: (B, 2048). logits: (B, 1008) without the bias. spatial: (B, 2023), the first 7 channels of mixed_6/conv,
    as ADM's evaluator takes them (guided-diffusion, evaluations/evaluator.py).
    """
    x, heads = prepared, {}
    for name in _TRUNK:
        if name == "Mixed_6d":
            heads["spatial"] = network.Mixed_6d.branch1x1(x)[:, :7].flatten(1)
        x = getattr(network, name)(x)
    heads["pool"] = x.flatten(1)
    heads["logits"] = heads["pool"] @ network.fc.weight.T
    return heads


def inception_network(path: Path) -> nn.Module:
    """torch-fidelity's Inception network with weights from a file. Raises BadInput where they do not fit."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # torch-fidelity unpickles freely; a file that was read as plain tensors is handed on as such.
    buffer = io.BytesIO()
    try:
        torch.save(torch.load(path, map_location="cpu", weights_only=True), buffer)
        buffer.seek(0)
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=buffer)
    except Exception as error:
        # What torch raises for a foreign file is a RuntimeError, an UnpicklingError or a KeyError by its content.
        raise BadInput(f"{path} does not hold the FID Inception weights: {str(error).splitlines()[0]}") from error


def _inception(
    name: str, prepare: Callable[[Tensor], Tensor], paths: Mapping[str, str | None], device: torch.device
) -> Extractor:
    file = weights.find("inception", paths)
    network = inception_network(file.path).to(device)
    return Extractor(name, file.sha256, lambda x: inception_heads(network, prepare(pixels.to_float(x).to(device))))


@functools.lru_cache(maxsize=4)
def _built(name: str, paths: tuple[tuple[str, str | None], ...], device: str) -> Extractor:
    return EXTRACTORS[name](dict(paths), torch.device(device))


def build(name: str, paths: Mapping[str, str | None] | None = None, device: str = "cpu") -> Extractor:
    """An extractor of EXTRACTORS, built once a process. Raises Missing or BadInput about its weights."""
    return _built(name, tuple(sorted((paths or {}).items())), device)


@dataclasses.dataclass(frozen=True)
class _Job:
    """Features of a chunk; picklable, so that other processes can build the extractor for themselves."""

    images: Images
    name: str
    paths: Mapping[str, str | None]
    device: str
    heads: tuple[str, ...]

    def __call__(self, chunk: chunks.Chunk) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            found = build(self.name, self.paths, self.device).run(self.images.read(chunk))
        result = {head: found[head].float().cpu().numpy() for head in self.heads}
        for values in result.values():
            if not np.isfinite(values).all():
                bad = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
                raise BadInput(f"{self.images.names[chunk[0] + bad]}: {self.name} gives features that are not finite")
        return result


def of(
    images: Images,
    name: str,
    heads: tuple[str, ...] = ("features",),
    *,
    paths: Mapping[str, str | None] | None = None,
    store: str | Path | None = None,
    content: str | None = None,
    device: str = "cpu",
    processes: int = 1,
) -> dict[str, np.ndarray]:
    """Features (N, d) float32 of each head, read from the store where they lie there, else computed and stored.

    content: the images' hash where it is known already. Stored features are memory-mapped, written in a stream.
    """
    paths = dict(paths or {})
    sha256 = build(name, paths, device).sha256
    job = _Job(images, name, paths, device, heads)
    pieces = chunks.cut(images.shapes, CHUNK)
    parts = chunks.run(job, pieces, processes, f"{name} features")
    if store is None:
        arrays: dict[str, np.ndarray] = {}
        _fill(parts, len(images), arrays, lambda head, shape: np.empty(shape, np.float32))
        return arrays
    folder = Path(store) / "-".join((name, sha256[:8], torch.device(device).type, _made_by()))
    folder /= (content or images.sha256)[:32]
    files = {head: folder / f"{head}.npy" for head in heads}
    if not all(file.exists() for file in files.values()):
        _stream(parts, files, len(images))
    return {head: np.load(file, mmap_mode="r") for head, file in files.items()}


CODE = ("evaluation/dinov2.py", "evaluation/features.py", "evaluation/insuite", "evaluation/pixels.py")


def _made_by() -> str:
    """Hash of the code that turns pixels into features, and of torch's version, whose kernels round differently."""
    return hash8({**records.code_hashes(CODE), "torch": torch.__version__})


def _fill(
    parts: Iterable[dict[str, np.ndarray]],
    n: int,
    arrays: dict[str, np.ndarray],
    make: Callable[[str, tuple[int, int]], np.ndarray],
) -> None:
    """Puts the chunks' features one after another into arrays of n rows, made when their width is known."""
    start = 0
    for part in parts:
        for head, values in part.items():
            if head not in arrays:
                arrays[head] = make(head, (n, values.shape[1]))
            arrays[head][start : start + len(values)] = values
        start += len(next(iter(part.values())))


def _stream(parts: Iterable[dict[str, np.ndarray]], files: Mapping[str, Path], n: int) -> None:
    """Writes the heads' features chunk by chunk, each file whole or not at all."""
    with contextlib.ExitStack() as stack:
        temporary = {head: stack.enter_context(whole(file)) for head, file in files.items()}
        arrays: dict[str, np.ndarray] = {}
        _fill(parts, n, arrays, lambda head, shape: open_memmap(temporary[head], "w+", np.float32, shape))
        for array in arrays.values():
            array.flush()
