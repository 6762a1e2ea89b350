"""python -m latticebench.generators.extract: the tokens of both splits under one seed of a tokenizer."""

import contextlib
import json
import logging
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from latticebench import commands, configuration, generator_entries, seeding
from latticebench.configuration import Configuration, Subject
from latticebench.data import prepared
from latticebench.data.prepared import Prepared, Split
from latticebench.errors import BadInput
from latticebench.files import sha256, whole, write_json

log = logging.getLogger(__name__)

BATCH = 64
FILES = ("train.npy", "train.labels.npy", "eval.npy", "eval.labels.npy", "tokens.json")


@click.command()
@click.option("--config", "config_path", required=True, type=Path, help="Configuration file.")
@click.option("--tokens", "tokens_id", required=True, help="Id of the tokens that a generator entry needs.")
@click.option("--seed", required=True, type=int, help="Seed of the tokenizer.")
@click.option("--data", "data_path", required=True, type=Path, help="Folder of the prepared data.")
@click.option("--out", required=True, type=Path, help="Results folder of the configuration.")
@click.option("--device", help="cpu or cuda; default: cuda where there is one.")
def command(config_path: Path, tokens_id: str, seed: int, data_path: Path, out: Path, device: str | None) -> None:
    """Extracts the tokens of the training and the evaluation split."""
    chosen = find(configuration.load(config_path), tokens_id)
    data = prepared.load(data_path)
    start = time.perf_counter()
    folder = extract(chosen, seed, data, out, device)
    seconds = round(time.perf_counter() - start, 3)
    files = {f"{folder.name}/{name}": sha256(folder / name) for name in FILES}
    # Not in tokens.json, whose hash identifies the tokens.
    write_json(folder.parent / f"made-{seed}.json", {"files": files, "seconds": seconds})


def find(config: Configuration, tokens_id: str) -> Subject:
    """The tokens of that id. Raises BadInput that lists the known ones."""
    known = {tokens.id: tokens for tokens in map(generator_entries.tokens_of, config.generators())}
    if tokens_id not in known:
        raise BadInput(
            f"{config.path}: no generator needs tokens {tokens_id!r}; there are {', '.join(known) or 'none'}"
        )
    return known[tokens_id]


def extract(chosen: Subject, seed: int, data: Prepared, out: Path, device: str | None = None) -> Path:
    """Extracts one seed unless it is done, and returns its folder `tokens/<id>/seed<k>` below `out`.

    Raises BadInput where the model is to be told classes that the data has not.
    """
    import torch

    from latticebench import tokenizers

    folder = out / "tokens" / chosen.id / f"seed{seed}"
    spec = chosen.spec
    source = out / "tokenizers" / Subject(chosen.name, spec["tokenizer"], ()).id / f"seed{seed}"
    tokenizer = tokenizers.load(source)
    if not tokenizer.quantizer.quantizes:
        raise BadInput(f"{source}: {tokenizer.quantizer.name} quantizes nothing, so there are no tokens")
    description = {
        "format": 1,
        "tokens": chosen.id,
        "tokenizer": source.parent.name,
        "seed": seed,
        "fingerprint": tokenizer.quantizer.fingerprint,
        "tokenizer_sha256": tokenizer.metadata["weights_sha256"],
        "codebook_size": tokenizer.quantizer.codebook_size,
        "digit_sizes": list(tokenizer.quantizer.digit_sizes),
        "scales": list(tokenizer.scales),
        "image_size": tokenizer.image_size,
        "options": spec["tokens"],
        "classes": _classes(spec["classes"], data),
    }
    if _done(folder, description, data):
        log.info("%s seed %d is extracted", chosen.id, seed)
        return folder
    tokenizer.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    root = seeding.derive(spec["seed"], "tokens", seed)
    parts = {
        "train": (data.train, views(spec["tokens"], root, data.train, tokenizer.image_size)),
        "eval": (data.eval, [(0, 0, False)]),
    }
    description["splits"] = {}
    for name, (split, cuts) in parts.items():
        rows = _write(folder, split, cuts, tokenizer, spec["classes"])
        description["splits"][name] = {"images": rows, "sha256": split.sha256}
    write_json(folder / "tokens.json", description)
    return folder


def views(options: dict[str, Any], root: int, split: Split, side: int) -> list[Any]:
    """What is cut out of every image: (top, left, mirrored) of the centre, then random places, each then mirrored.

    All images share the places: they are drawn once, so that a batch is one slice.
    """
    if not len(split):
        return [(0, 0, False)]
    height, width = split.images.shape[1:3]
    if min(height, width) < side:
        raise BadInput(f"the training images of {height} x {width} px are smaller than the tokenizer's {side}")
    places = [((height - side) // 2, (width - side) // 2)]
    for number in range(1, options["views"]):
        draw = seeding.derive(root, "view", number)
        draw, top = divmod(draw, height - side + 1)
        places.append((top, draw % (width - side + 1)))
    mirrored = (False, True) if options["flips"] else (False,)
    return [(top, left, flip) for top, left in places for flip in mirrored]


def _classes(kind: str, data: Prepared) -> dict[str, Any] | None:
    from latticebench.data import pixel_classes

    if kind == "none":
        return None
    if kind == "pixels":
        return pixel_classes.identity()
    if data.manifest["classes"] is None:
        raise BadInput(f"{data.path} has no labels; set generation.classes to pixels or none")
    return data.manifest["classes"]


def _done(folder: Path, description: dict[str, Any], data: Prepared) -> bool:
    if not all((folder / name).is_file() for name in FILES):
        return False
    found = json.loads((folder / "tokens.json").read_text())
    splits = found.pop("splits", {})
    shas = [splits.get(name, {}).get("sha256") for name in ("train", "eval")]
    return found == description and shas == [data.train.sha256, data.eval.sha256]


def _write(folder: Path, split: Split, cuts: list[Any], tokenizer: Any, classes: str) -> int:
    """Writes the tokens of all views of a split, image by image, and its labels; returns the number of rows."""
    import torch
    from numpy.lib.format import open_memmap

    from latticebench.data import pixel_classes
    from latticebench.generators.tokens import smallest_type
    from latticebench.quantizers.base import MAX_INDEX_SIZE
    from latticebench.tokenizers.base import device_of

    quantizer, side = tokenizer.quantizer, tokenizer.image_size
    positions = sum(s * s for s in tokenizer.scales)
    indexed = quantizer.codebook_size <= MAX_INDEX_SIZE
    encode = tokenizer.encode if indexed else tokenizer.encode_digits
    shape = (len(split) * len(cuts), positions) + (() if indexed else (len(quantizer.digit_sizes),))
    largest = (quantizer.codebook_size if indexed else max(quantizer.digit_sizes)) - 1
    labels = np.full(shape[0], -1, dtype=np.int64)
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(whole(folder / f"{split.name}.npy"))
        tokens = open_memmap(temporary, "w+", smallest_type(largest), shape)
        batches = range(0, len(split), BATCH)
        for start in tqdm(batches, desc=f"{split.name} tokens", unit="batch", delay=3):
            images = np.asarray(split.images[start : start + BATCH])
            for view, (top, left, mirrored) in enumerate(cuts):
                crop = images[:, top : top + side, left : left + side]
                crop = np.array(crop[:, :, ::-1] if mirrored else crop)
                floats = torch.from_numpy(crop).permute(0, 3, 1, 2).float().div_(255).to(device_of(tokenizer))
                with torch.inference_mode():
                    maps = encode(floats)
                rows = (start + np.arange(len(images))) * len(cuts) + view
                tokens[rows] = torch.cat([m.flatten(1, 2) for m in maps], dim=1).cpu().numpy()
                if classes == "pixels":
                    labels[rows] = pixel_classes.labels(crop)
                elif classes == "data":
                    labels[rows] = split.labels[start : start + BATCH]
        tokens.flush()
    with whole(folder / f"{split.name}.labels.npy") as temporary:
        np.save(temporary, labels)
    return shape[0]


if __name__ == "__main__":
    commands.run(command)
