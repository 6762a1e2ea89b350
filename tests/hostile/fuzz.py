"""`python -m tests.hostile.fuzz --cases 10000`: every loader of a file from outside, on damaged and invented files.

A loader may succeed or raise the suite's own errors; anything else is a crash. Each loader has a process of its own,
which may not grow by more than a gigabyte; to have asked for more is a crash too, even where the loader took the
refusal for a damaged file and said so. Cases come from hypothesis: a valid file with bytes replaced, cut out or
repeated, or bytes of its own.
"""

import contextlib
import dataclasses
import functools
import io
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import psutil
import safetensors.numpy
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from latticebench.data.pictures import Unusable
from latticebench.errors import LatticebenchError

LIMIT = 2**30
DOCUMENTED = (LatticebenchError, Unusable)
"""What a loader may raise. Preparation lists an unusable image, so that one is no error of the suite's own."""


@dataclasses.dataclass(frozen=True)
class Target:
    """files: valid samples, each mutated in turn. read: loads from a folder that holds them under these names."""

    files: dict[str, bytes]
    read: Callable[[Path], object]
    mutated: tuple[str, ...]


def _configuration() -> Target:
    from latticebench import configuration

    text = (Path(__file__).parents[2] / "config" / "smoke.yaml").read_bytes()
    return Target({"c.yaml": text}, lambda folder: configuration.load(folder / "c.yaml"), ("c.yaml",))


def _registry() -> Target:
    from latticebench.weights import registry

    text = (Path(__file__).parents[2] / "checkpoints" / "registry.yaml").read_bytes()[:6000]
    text = text[: text.rfind(b"\n")]
    return Target({"r.yaml": text}, lambda folder: registry.load(folder, folder / "r.yaml"), ("r.yaml",))


def _pickle(old: bool) -> Target:
    from latticebench.weights import reading

    buffer = io.BytesIO()
    content = {"state_dict": {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(2, dtype=torch.int64)}}
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return Target(
        {"w.pth": buffer.getvalue()},
        lambda folder: reading.state_dict(folder / "w.pth", (("state_dict",), ())),
        ("w.pth",),
    )


def _safetensors() -> Target:
    from latticebench.weights import reading

    data = safetensors.numpy.save({"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(3, np.float16)})
    return Target(
        {"w.safetensors": data}, lambda folder: reading.state_dict(folder / "w.safetensors", ((),)), ("w.safetensors",)
    )


def _tokenizer() -> Target:
    from latticebench import tokenizers
    from latticebench.files import sha256
    from latticebench.tokenizers import build, checkpoint

    options = {"patch": 8, "width": 8, "layers": 1, "heads": 2, "linear_path": True}
    options = {**_tokenizer_defaults(), **options}
    quantizer = {"method": "fsq", "parameters": {"levels": [4, 4]}}
    made = build.build(options, quantizer, 16, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(made, Path(folder), options, quantizer, {})
        files = {name: Path(folder, name).read_bytes() for name in ("tokenizer.json", "model.safetensors")}

    def read(folder: Path) -> object:
        # A stranger's description fits the stranger's weights.
        facts = None
        with contextlib.suppress(ValueError, RecursionError):
            facts = json.loads((folder / "tokenizer.json").read_bytes())
        if isinstance(facts, dict) and "weights_sha256" in facts:
            facts["weights_sha256"] = sha256(folder / "model.safetensors")
            (folder / "tokenizer.json").write_text(json.dumps(facts))
        return tokenizers.load(folder)

    return Target(files, read, tuple(files))


def _tokenizer_defaults() -> dict[str, object]:
    from latticebench import configuration

    return configuration.load(Path(__file__).parents[2] / "config" / "smoke.yaml").values["tokenizer"]


def _prepared() -> Target:
    from latticebench.configuration import load
    from latticebench.data import prepare, prepared

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "images").mkdir()
        for number in range(6):
            Image.new("RGB", (16, 16), (number * 9, 1, 2)).save(Path(folder, "images", f"{number}.png"))
        Path(folder, "c.yaml").write_text(
            "name: f\ndata: {source: flat-folder, path: images, size: 16, eval_share: 0.5}\n"
            "quantizers: {i: {method: identity}}\n"
        )
        prepare.prepare(load(Path(folder, "c.yaml")), Path(folder, "out"))
        files = {path.name: path.read_bytes() for path in Path(folder, "out").iterdir()}

    def read(folder: Path) -> object:
        from latticebench.files import sha256

        # A stranger's manifest fits the stranger's arrays.
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            manifest = json.loads((folder / "manifest.json").read_bytes())
            for split in manifest["splits"].values():
                split["files"] = {name: sha256(folder / name) for name in split["files"]}
            (folder / "manifest.json").write_text(json.dumps(manifest))
        data = prepared.load(folder)
        return data.train.names, data.eval.images[:1]

    return Target(files, read, tuple(files))


def _record() -> Target:
    from evaluation import records

    path = next((Path(__file__).parents[2] / "results" / "reference").rglob("seed0/cost.json"))
    return Target({"cost.json": path.read_bytes()}, lambda folder: records.read(folder / "cost.json"), ("cost.json",))


def _image(extension: str) -> Target:
    from latticebench.data import pictures

    buffer = io.BytesIO()
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(buffer, extension)

    def read(folder: Path) -> object:
        return pictures.prepare(lambda: Image.open(folder / "image"), 8, "lanczos", False)

    return Target({"image": buffer.getvalue()}, read, ("image",))


def _judged(name: str) -> Target:
    from evaluation import images

    array = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    buffer = io.BytesIO()
    if name.endswith(".png"):
        Image.fromarray(array[0]).save(buffer, "PNG")
    elif name.endswith(".npz"):
        np.savez(buffer, array)
    else:
        np.save(buffer, array)

    def read(folder: Path) -> object:
        found = images.load(folder if name.endswith(".png") else folder / name)
        return found.read((0, 1))

    return Target({name: buffer.getvalue()}, read, (name,))


def _parquet() -> Target:
    import pyarrow
    import pyarrow.parquet

    from latticebench.data.parquet import Parquet

    picture = io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "PNG")
    rows = [{"bytes": picture.getvalue(), "path": None}] * 4
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"image": rows, "label": [0, 1, 0, 1]}), buffer)

    def read(folder: Path) -> object:
        source = Parquet(str(folder / "train.parquet"), 0.5, 0)
        return [len(list(source.read(split, source.items(split)))) for split in ("train", "eval")]

    return Target({"train.parquet": buffer.getvalue()}, read, ("train.parquet",))


def _tokens() -> Target:
    from latticebench.generators import tokens

    description = {
        "format": tokens.FORMAT, "codebook_size": 16, "fingerprint": "0" * 64, "scales": [2], "classes": None,
        "tokenizer_sha256": "0" * 64, "splits": {name: {"images": 3} for name in tokens.SPLITS},
    }  # fmt: skip
    files = {tokens.DESCRIPTION: json.dumps(description).encode()}
    for name in tokens.SPLITS:
        for file, array in ((f"{name}.npy", np.zeros((3, 4), np.uint8)), (f"{name}.labels.npy", np.zeros(3, np.int64))):
            buffer = io.BytesIO()
            np.save(buffer, array)
            files[file] = buffer.getvalue()
    return Target(files, lambda folder: tokens.load(folder), tuple(files))


def _prior(kind: str) -> Target:
    from evaluation import strangers
    from evaluation.compression import network, priors
    from evaluation.compression.codec import Coded
    from evaluation.compression.layout import Layout
    from latticebench.generators.raster import RasterParameters, RasterTransformer

    layout, codes = Layout("5a" * 32, 20, 16, ((2, 2),)), np.arange(20).repeat(3)
    made: priors.FilePrior = priors.fit_static(codes, 20, layout.tokenizer)
    if kind == "network":
        parameters = RasterParameters((20,), (2, 2), width=8, layers=1, heads=2)
        made = network.export(RasterTransformer(parameters, tokenizer=layout.tokenizer), 20)
    with tempfile.TemporaryDirectory() as folder:
        priors.save(made, Path(folder, "p"))
        data = Path(folder, "p").read_bytes()

    def read(folder: Path) -> object:
        codec = strangers.codec(layout, folder / "p")
        return codec.read(codec.write([Coded(np.arange(4, dtype=np.int64).reshape(1, 4), 16, 16)]))

    return Target({"p": data}, read, ("p",))


TARGETS: dict[str, Callable[[], Target]] = {
    "configuration": _configuration,
    "registry": _registry,
    "checkpoint, zip": functools.partial(_pickle, False),
    "checkpoint, pickle": functools.partial(_pickle, True),
    "checkpoint, safetensors": _safetensors,
    "tokenizer": _tokenizer,
    "prepared data": _prepared,
    "tokens": _tokens,
    "record": _record,
    "image, PNG": functools.partial(_image, "PNG"),
    "image, JPEG": functools.partial(_image, "JPEG"),
    "image, WebP": functools.partial(_image, "WEBP"),
    "judged PNG": functools.partial(_judged, "a.png"),
    "judged npy": functools.partial(_judged, "a.npy"),
    "judged npz": functools.partial(_judged, "a.npz"),
    "parquet": _parquet,
    "prior, static": functools.partial(_prior, "static"),
    "prior, network": functools.partial(_prior, "network"),
}
"""Bitstreams have a fuzzer of their own: evaluation/compression/fuzz.py."""


def mutations(valid: bytes) -> st.SearchStrategy[bytes]:
    """Files near a valid one, and some that are nothing like it."""
    places = st.integers(0, max(len(valid) - 1, 0))
    # Tags, numbers and markup that loaders of such files give a meaning to.
    words = st.sampled_from([b"!!python/object:os.system", b"&a [*a]", b"99999999999", b"-1", b"\x00", b"{", b"[" * 2000,
                             b"1e999", b"null", b"NaN", b"\xff\xff\xff\xff", b"../", b"'", b'"', b": ", b"2001-99-99"])  # fmt: skip
    edit = st.tuples(places, st.integers(0, 8), st.one_of(st.binary(max_size=8), words))

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = bytearray(valid)
        for start, removed, added in edits:
            data[start : start + removed] = added
        return bytes(data)

    return st.one_of(
        st.lists(edit, min_size=1, max_size=6).map(apply),
        places.map(lambda cut: valid[:cut]),
        st.binary(max_size=200),
        st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")),
    )


class TooMuch(Exception):
    """A loader asked for more memory than the limit leaves."""


def _asked_for_too_much(error: BaseException | None) -> bool:
    """Whether a refused allocation lies anywhere behind an error; torch reports its own as RuntimeError."""
    if error is None:
        return False
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return True
    return _asked_for_too_much(error.__cause__) or _asked_for_too_much(error.__context__)


def fuzz(target: Target, cases: int) -> None:
    """Raises what a loader should not have raised, with the smallest file that hypothesis finds."""
    for file in target.mutated:
        _fuzz_file(target, file, max(1, cases // len(target.mutated)))


def _fuzz_file(target: Target, file: str, cases: int) -> None:
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(data=mutations(target.files[file]))
    def check(data: bytes) -> None:
        with _laid_out({**target.files, file: data}) as folder:
            try:
                target.read(folder)
            except DOCUMENTED as error:
                if _asked_for_too_much(error):
                    raise TooMuch(f"hidden behind {type(error).__name__}: {error}") from error

    check()


@contextlib.contextmanager
def _laid_out(files: dict[str, bytes]) -> Iterator[Path]:
    """A folder, in memory where there is one, that holds the files."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        yield Path(folder)


def limit_memory() -> None:
    """A loader that asks for a gigabyte more than the process has gets a MemoryError, which is a crash here."""
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT, resource.RLIM_INFINITY))


def _run(name: str, cases: int) -> None:
    """Fuzzes one loader in this process, prints its line and exits: 1 on a crash."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    start, verdict, grown = time.monotonic(), "no crash", 0
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        try:
            target = TARGETS[name]()
            with _laid_out(target.files) as folder:
                # What the loader imports, and the pools that libraries keep, are not the file's doing.
                target.read(folder)
            before = psutil.Process().memory_info().rss
            limit_memory()
            fuzz(target, cases)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        except Exception as error:
            verdict = f"CRASH {type(error).__name__}: {str(error)[:200]}"
            traceback.print_exc(file=sys.stdout)
    if grown > LIMIT:
        verdict = f"{verdict}; MEMORY"
    click.echo(f"{name:26s} {cases:6d} cases {time.monotonic() - start:7.1f} s {grown / 2**20:6.0f} MiB  {verdict}")
    sys.exit(verdict != "no crash")


def alone(name: str, cases: int) -> bool:
    """Whether a loader passes, in a process of its own. Forked, so that it need not import torch again."""
    sys.stdout.flush()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(name, cases))
    process.start()
    process.join()
    if process.exitcode not in (0, 1):
        click.echo(f"{name:26s} CRASH: its process ended with {process.exitcode}")
    return process.exitcode == 0


@click.command()
@click.option("--cases", default=10_000, show_default=True, help="Of each loader.")
@click.option("--only", multiple=True, help="Loaders by a part of their name; default: all.")
def main(cases: int, only: tuple[str, ...]) -> None:
    """Fuzz the loaders and print a line for each."""
    chosen = [name for name in TARGETS if not only or any(part in name for part in only)]
    passed = [alone(name, cases) for name in chosen]
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
