"""Makes the prepared arrays of a configuration: `python -m latticebench.data.prepare --config C --out DIR`.

Writes DIR/{train,eval}.npy (uint8, N x H x W x 3), DIR/{train,eval}.items.npz (labels, groups, names) and, last,
DIR/manifest.json. Images stream through; nothing is held in memory but one batch. With `data.storage: manifest`
there is no train.npy: DIR/train.items.npz has the files' sha256, and training decodes them itself.
"""

import functools
import hashlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np
from tqdm import tqdm

from latticebench import configuration as configurations
from latticebench import extensions
from latticebench.commands import run
from latticebench.configuration import Configuration
from latticebench.data import classes, decoded, pictures
from latticebench.data.flat_folder import FlatFolder
from latticebench.data.sources import Item, Source, at_most
from latticebench.errors import BadInput
from latticebench.files import canonical_json, seal, sha256, whole, write_json

log = logging.getLogger(__name__)

FORMAT = 1
SPLITS = ("train", "eval")
_NAMED_BAD = 20
_BATCH = 64
_THREADS = 4


def prepare(config: Configuration, out: str | Path) -> dict[str, Any]:
    """Prepares a configuration's data into `out` and returns the manifest.

    Raises Missing or BadInput where the source is absent, empty or has more bad images than `data.max_bad_share`.
    """
    out = Path(out)
    options, seed = config.values["data"], config.values["seed"]
    source = make_source(config)
    chosen = {split: at_most(source.items(split), options[f"{split}_images"], seed, split) for split in SPLITS}
    if not chosen["eval"]:
        raise BadInput(f"{config.path}: data gives no evaluation images; enlarge data.eval_share or correct data.path")
    allowed = int(options["max_bad_share"] * sum(map(len, chosen.values())))
    bad: list[dict[str, str]] = []
    filed = options.get("storage") == "manifest"
    if filed and not isinstance(source, FlatFolder):
        raise BadInput(f"{config.path}: data.storage: manifest needs image files: image-folder or flat-folder")
    identity = classes.identity(source.classes, options["class_list"]) if source.classes else None
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "name": options["source"],
        "seed": seed,
        "options": {key: value for key, value in options.items() if key != "path"},
        "splits": {},
        "classes": identity,
        "provenance": source.provenance(),
    }
    seen: dict[str, set[bytes]] = {}
    for split in SPLITS:
        size = options["size"] + (options["train_margin"] if split == "train" else 0)
        rules = {"size": size, "resize": options["resize"], "upscale": options["upscale"]}
        preparation = pictures.description(**rules)
        writer = _Writer(out, split, size)
        items = chosen[split]
        if filed and split == "train":
            digests = _usable(split, items, _paths(items), functools.partial(_digest, rules=rules), bad, allowed)
            manifest["splits"][split] = writer.write_files(digests, preparation, identity, source.root.resolve())
        else:
            openers = source.read(split, items)
            pixels = _usable(split, items, openers, functools.partial(pictures.prepare, **rules), bad, allowed)
            manifest["splits"][split] = writer.write(pixels, preparation, identity, len(items))
            if filed:  # training images have hashes of their files alone to be compared with
                writer.seen = {_digest(path) for path in _paths(writer.kept)}
        seen[split] = writer.seen
    if len(bad) > allowed:
        raise _too_many(bad, allowed)
    if not manifest["splits"]["eval"]["images"]:
        raise BadInput(f"{config.path}: no evaluation image could be used")
    manifest["bad"] = bad
    manifest["excluded"] = source.excluded()
    manifest["eval_images_also_in_train"] = len(seen["train"] & seen["eval"])
    if manifest["eval_images_also_in_train"]:
        log.warning("%d evaluation images are also training images", manifest["eval_images_also_in_train"])
    write_json(out / "manifest.json", seal(manifest))
    return manifest


def make_source(config: Configuration) -> Source:
    """The configuration's source; a relative `data.path` is taken from the configuration's folder."""
    options, seed = config.values["data"], config.values["seed"]
    kind, path = options["source"], options["path"]
    if kind == "bundled-photographs":
        from latticebench.data.bundled import Bundled

        if path is not None:
            raise BadInput(f"{config.path}: data.path has no meaning for bundled-photographs; remove it")
        return Bundled(options["bundled"], options["size"], options["size"] + options["train_margin"], seed)
    if path is not None:
        path = str(config.path.parent / Path(path).expanduser())
    own = extensions.find("source")
    if kind in own:
        return own[kind](path, options["eval_share"], seed)
    if kind == "parquet":
        from latticebench.data.parquet import Parquet

        return Parquet(path, options["eval_share"], seed)
    if kind == "image-folder":
        from latticebench.data.image_folder import ImageFolder

        return ImageFolder(path, options["eval_share"], seed)
    return FlatFolder(path, options["eval_share"], seed)


def _paths(items: Iterable[Item]) -> Iterator[Path]:
    return (item.position for item in items)


def _digest(path: Path, rules: dict[str, Any] | None = None) -> bytes:
    """A file's sha256. Raises pictures.Unusable where its header is no image's, or `rules` want a larger one."""
    data = decoded.read(path)
    if rules is not None:
        decoded.check_header(data, **rules)
    return hashlib.sha256(data).digest()


def _usable(
    split: str,
    items: list[Item],
    handles: Iterator[Any],
    make: Callable[[Any], Any],
    bad: list[dict[str, str]],
    allowed: int,
) -> Iterator[tuple[Item, Any]]:
    """Items with what `make` makes of their handles, in order; those for which it raises Unusable go to `bad`.

    Raises BadInput once too many are known by name.
    """

    def attempt(handle: Any) -> Any:
        try:
            return make(handle)
        except pictures.Unusable as error:
            return error

    work = zip(items, handles, strict=True)
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        tqdm(total=len(items), desc=f"{split} images", unit="image", mininterval=1) as progress,
    ):
        while batch := list(itertools.islice(work, _BATCH)):
            results = pool.map(attempt, [handle for _, handle in batch])
            for (item, _), result in zip(batch, results, strict=True):
                if isinstance(result, pictures.Unusable):
                    bad.append({"split": split, "image": item.key, "reason": str(result)})
                    log.warning("%s: %s: left out: %s", split, item.key, result)
                    if len(bad) > allowed and len(bad) >= _NAMED_BAD:
                        raise _too_many(bad, allowed)
                else:
                    yield item, result
            progress.update(len(batch))


def _too_many(bad: list[dict[str, str]], allowed: int) -> BadInput:
    named = "; ".join(f"{entry['image']} ({entry['reason']})" for entry in bad[:_NAMED_BAD])
    more = " (and perhaps more)" if len(bad) >= _NAMED_BAD else ""
    return BadInput(
        f"data: {len(bad)} images{more} cannot be used and data.max_bad_share allows {allowed}: {named}. "
        "Repair or remove them, raise data.max_bad_share, or for images that are too small lower data.size "
        "or data.train_margin, or set data.resize with data.upscale: true"
    )


class _Writer:
    """Streams one split into its files and hashes it."""

    def __init__(self, out: Path, split: str, size: int) -> None:
        self.out, self.split, self.size = out, split, size
        self.seen: set[bytes] = set()
        self.kept: list[Item] = []

    def write(
        self,
        pairs: Iterator[tuple[Item, np.ndarray]],
        preparation: dict[str, Any],
        identity: dict[str, Any] | None,
        candidates: int,
    ) -> dict[str, Any]:
        """Writes the arrays and returns the split's part of the manifest."""
        digest = hashlib.sha256()
        path = self.out / f"{self.split}.npy"
        with whole(path) as temporary, open(temporary, "r+b") as file:
            start = self._header(file, candidates)
            for item, pixels in pairs:
                data = pixels.tobytes()
                file.write(data)
                digest.update(data)
                self.seen.add(hashlib.blake2b(data, digest_size=8).digest())
                self.kept.append(item)
            if self._header(file, len(self.kept)) != start:
                raise RuntimeError("the header of a shorter array has another length")
        return self._part({"pixels": digest.hexdigest()}, preparation, identity, [path], {})

    def write_files(
        self,
        pairs: Iterator[tuple[Item, bytes]],
        preparation: dict[str, Any],
        identity: dict[str, Any] | None,
        root: Path,
    ) -> dict[str, Any]:
        """Writes the files' names and sha256, and returns the split's part of the manifest."""
        digests = bytearray()
        for item, digest in pairs:
            digests += digest
            self.seen.add(digest)
            self.kept.append(item)
        table = np.frombuffer(bytes(digests), np.uint8).reshape(-1, decoded.DIGEST)
        content = {"files": hashlib.sha256(digests).hexdigest()}
        part = self._part(content, preparation, identity, [], {"digests": table})
        return {**part, "storage": "manifest", "root": str(root)}

    def _part(
        self,
        content: dict[str, Any],
        preparation: dict[str, Any],
        identity: dict[str, Any] | None,
        files: list[Path],
        arrays: dict[str, np.ndarray],
    ) -> dict[str, Any]:
        kept = self.kept
        labels = np.array([-1 if item.label is None else item.label for item in kept], dtype=np.int64)
        groups = np.array([i if item.group is None else item.group for i, item in enumerate(kept)], dtype=np.int64)
        names = np.array([item.key for item in kept], dtype=np.str_)
        items_path = self.out / f"{self.split}.items.npz"
        with whole(items_path) as temporary:
            np.savez_compressed(temporary, labels=labels, groups=groups, names=names, **arrays)
        content = {
            **content,
            "shape": [len(kept), self.size, self.size, 3],
            "labels": hashlib.sha256(labels.tobytes()).hexdigest(),
            "groups": hashlib.sha256(groups.tobytes()).hexdigest(),
            "names": hashlib.sha256("\n".join(names).encode()).hexdigest(),
            "classes": identity and identity["sha256"],
            "preparation": preparation,
        }
        return {
            "images": len(kept),
            "side": self.size,
            "sha256": hashlib.sha256(canonical_json(content).encode()).hexdigest(),
            "content": content,
            "files": {path.name: sha256(path) for path in [*files, items_path]},
        }

    def _header(self, file: BinaryIO, count: int) -> int:
        """Writes the header for `count` images at the start; numpy pads it so that its length is the same for all."""
        file.seek(0)
        shape = (count, self.size, self.size, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return file.tell()


@click.command()
@click.option("--config", required=True, type=click.Path(path_type=Path), help="Configuration file.")
@click.option("--data", "data_hash", help="Hash of one suite's data; default: the top level's.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder that receives the arrays.")
def command(config: Path, data_hash: str | None, out: Path) -> None:
    """Prepares a configuration's images."""
    loaded = configurations.load(config)
    manifest = prepare(loaded if data_hash is None else loaded.with_data(data_hash), out)
    counts = ", ".join(f"{part['images']} {split}" for split, part in manifest["splits"].items())
    log.info("%s: %s images prepared, %d left out as unusable", manifest["name"], counts, len(manifest["bad"]))


if __name__ == "__main__":
    run(command)
