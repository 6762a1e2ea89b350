"""python -m latticebench.generators.sample: images of a trained generator, in the layout of ADM's sample files.

A folder holds samples.npz (`arr_0` images (N, H, W, 3) uint8 and `arr_1` classes (N,), in a seeded shuffled order),
tokens.npy of the same samples, sweep-<n>.npz for each further setting and snapshot, grid.npz and grid.png, and, last,
samples.json.
"""

import dataclasses
import itertools
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from latticebench import commands, configuration, generator_entries, seeding
from latticebench.configuration import Subject
from latticebench.files import sha256, whole, write_json

log = logging.getLogger(__name__)

DESCRIPTION = "samples.json"
_SWEPT = ("guidance", "temperature", "top_p")
GRID = 8
"""Pictures a side of the grid."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """How samples are drawn. step: of the snapshot that they are drawn from, None for the finished model."""

    images: int
    batch_size: int
    guidance: float | tuple[float, float]
    temperature: float
    top_k: int | tuple[int, int]
    top_p: float
    step: int | None = None


@click.command()
@click.option("--config", "config_path", required=True, type=Path, help="Configuration file.")
@click.option("--generator", required=True, help="Id or name of a generator entry.")
@click.option("--seed", required=True, type=int, help="Seed of the generator.")
@click.option("--out", required=True, type=Path, help="Results folder of the configuration.")
@click.option("--device", help="cpu or cuda; default: cuda where there is one.")
def command(config_path: Path, generator: str, seed: int, out: Path, device: str | None) -> None:
    """Draws a generator's samples, those of its sweep, and a picture of some."""
    chosen = configuration.load(config_path).generator(generator)
    start = time.perf_counter()
    folder = sample(chosen, seed, out, device)
    seconds = round(time.perf_counter() - start, 3)
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    files = {f"{folder.name}/{name}": sha256(folder / name) for name in names}
    write_json(folder.parent / f"made-{seed}.json", {"files": files, "seconds": seconds})


def settings(options: dict[str, Any]) -> tuple[Setting, list[Setting]]:
    """The setting of the samples, and those of the sweep: every combination of its lists, then every snapshot."""
    own, sweep = options["sampling"], options["sweep"]
    pairs = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items() if key != "labels"}
    main = Setting(**pairs)
    few = dataclasses.replace(main, images=sweep["images"])
    lists = [sweep[key] or [getattr(main, key)] for key in _SWEPT]
    found = []
    if any(sweep[key] for key in _SWEPT):
        changes = (dict(zip(_SWEPT, values, strict=True)) for values in itertools.product(*lists))
        found = [dataclasses.replace(few, **change) for change in changes]
    snapshots = sorted(options["training"]["snapshots"])
    return main, found + [dataclasses.replace(few, step=step) for step in snapshots]


def sample(chosen: Subject, seed: int, out: Path, device: str | None = None) -> Path:
    """Draws all samples of one seed; returns their folder `samples/<id>/seed<k>` below `out`."""
    import torch

    from latticebench import tokenizers
    from latticebench.generators import checkpoint
    from latticebench.generators import tokens as token_files
    from latticebench.generators.train import snapshot

    options = chosen.spec["generation"]
    folder = out / "samples" / chosen.id / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    trained = out / "generators" / generator_entries.training_of(chosen).id / f"seed{seed}"
    facts = checkpoint.describe(trained)
    description: dict[str, Any] = {
        "generator_sha256": facts["weights_sha256"],
        "diverged": facts["diverged"],
        "sweep": [],
    }
    if facts["diverged"] is None:
        own = generator_entries.tokenizer_seed(chosen, seed)
        tokens = token_files.load(out / "tokens" / generator_entries.tokens_of(chosen).id / f"seed{own}")
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        tokenizer = tokenizers.load(out / "tokenizers" / generator_entries.tokenizer_of(chosen).id / f"seed{own}")
        tokenizer.to(where)
        root = seeding.derive(chosen.spec["seed"], "samples", seed)
        draw = Draw(tokenizer, tokens, root, options["sampling"]["labels"], where)
        main, sweep = settings(options)
        model = checkpoint.load(trained, tokenizer, tokens.classes).to(where)
        draw.write(model, main, folder / "samples.npz", folder / "tokens.npy")
        _grid(folder)
        for number, setting in enumerate(sweep):
            if setting.step is not None:
                model = checkpoint.load(trained, tokenizer, tokens.classes, snapshot(setting.step)).to(where)
            name = f"sweep-{number:03d}.npz"
            draw.write(model, setting, folder / name)
            description["sweep"].append({"file": name, **dataclasses.asdict(setting)})
    write_json(folder / DESCRIPTION, description)
    return folder


@dataclasses.dataclass
class Draw:
    """Draws samples of one tokenizer's generators. labels: `even` or `train`, see generation.sampling.labels."""

    tokenizer: Any
    tokens: Any
    root: int
    labels: str
    device: str

    def classes(self, count: int) -> np.ndarray | None:
        """The classes (count,) of samples 0, 1, …; None for a model that is told nothing."""
        classes = self.tokens.classes
        if classes is None:
            return None
        if self.labels == "even":
            return np.arange(count) % classes["count"]
        sorted_labels = np.sort(self.tokens.train.labels)
        return sorted_labels[((np.arange(count) + 0.5) * len(sorted_labels) / count).astype(np.int64)]

    def seeds(self, classes: np.ndarray) -> list[int]:
        """A seed a sample, from its class and its number within the class alone."""
        numbers: dict[int, int] = {}
        result = []
        for label in classes.tolist():
            numbers[label] = numbers.get(label, -1) + 1
            result.append(seeding.derive(self.root, "sample", label, numbers[label]))
        return result

    def write(self, model: Any, setting: Setting, path: Path, tokens_path: Path | None = None) -> None:
        """Writes the samples of a setting in ADM's layout, and their tokens where asked for."""
        import torch

        from latticebench.generators.tokens import smallest_type

        count = setting.images
        classes = self.classes(count)
        seeds = self.seeds(np.zeros(count, np.int64) if classes is None else classes)
        places = torch.randperm(count, generator=seeding.generator(self.root, "order")).numpy()
        side = self.tokenizer.image_size
        positions = sum(s * s for s in self.tokenizer.scales)
        flat = np.zeros((count, positions), smallest_type(self.tokenizer.quantizer.codebook_size - 1))
        with tempfile.TemporaryFile(dir=path.parent) as file:
            # At a paper's scale the images are 10 GB, more than memory need hold.
            images = np.memmap(file, np.uint8, "w+", shape=(count, side, side, 3))
            for start in tqdm(range(0, count, setting.batch_size), desc=path.stem, unit="batch", delay=3):
                rows = slice(start, start + setting.batch_size)
                maps = model.sample(
                    None if classes is None else torch.from_numpy(classes[rows]).to(self.device),
                    torch.tensor(seeds[rows]),
                    guidance=setting.guidance,
                    temperature=setting.temperature,
                    top_k=setting.top_k,
                    top_p=setting.top_p,
                    at_once=setting.batch_size,
                )
                with torch.inference_mode():
                    pictures = self.tokenizer.decode(maps).float()
                images[places[rows]] = pictures.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
                flat[places[rows]] = torch.cat([m.flatten(1) for m in maps], dim=1).cpu().numpy()
            shuffled = np.full(count, -1, np.int64)
            if classes is not None:
                shuffled[places] = classes
            with whole(path) as temporary, open(temporary, "wb") as target:
                np.savez(target, images, shuffled)
        if tokens_path is not None:
            with whole(tokens_path) as temporary:
                np.save(temporary, flat)


def _grid(folder: Path) -> None:
    """Some samples beside each other, sorted by class: grid.npz (images, labels) and grid.png."""
    from PIL import Image

    with np.load(folder / "samples.npz") as file:
        images, labels = file["arr_0"], file["arr_1"]
    chosen = np.sort(np.linspace(0, len(images) - 1, min(len(images), GRID * GRID)).round().astype(int))
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    pictures, names = images[chosen], labels[chosen]
    with whole(folder / "grid.npz") as temporary, open(temporary, "wb") as target:
        np.savez(target, images=pictures, labels=names)
    columns = min(GRID, len(pictures))
    filled = -len(pictures) % columns
    padded = np.concatenate([pictures, np.full((filled, *pictures.shape[1:]), 255, np.uint8)])
    side = pictures.shape[1]
    sheet = padded.reshape(-1, columns, side, side, 3).swapaxes(1, 2).reshape(-1, columns * side, 3)
    with whole(folder / "grid.png") as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    commands.run(command)
