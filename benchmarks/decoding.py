"""Training images that stay files, against a bare loop: `python benchmarks/decoding.py FOLDER`.

FOLDER holds one folder of photographs a class. Two questions, each asked several times in turn, because a machine's
speed drifts: how much longer does the loader take for its batches than a bare loop over the same files in as many
threads (open, convert, resize, crop); and what share of a training step waits for images. Fails above 20% and 5%.
"""

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from latticebench import configuration
from latticebench.data import pictures, prepare, prepared
from latticebench.data.decoded import Decoded
from latticebench.tokenizers import build
from latticebench.tokenizers.task import TokenizerTask
from latticebench.training import sampling
from latticebench.training.options import Options

MOST_LONGER = 0.20
MOST_WAITING = 0.05


def bare(images: Decoded, indices: list[int]) -> float:
    """Seconds to open, convert, resize and crop these files, in the loader's number of threads."""
    size = images.preparation["size"]

    def one(index: int) -> np.ndarray:
        with Image.open(images.root / images.names[index]) as image:
            return pictures.square(image.convert("RGB"), size, images.preparation["resize"], True)

    start = time.perf_counter()
    with ThreadPoolExecutor(images.threads) as pool:
        for _ in pool.map(one, indices):
            pass
    return time.perf_counter() - start


def loader(images: Decoded, batch: int, batches: int, side: int) -> float:
    """Seconds of the loader's own batches, from the first request to the last pixel."""
    start = time.perf_counter()
    for number in range(batches):
        sampling.cropped(images, 0, number * batch, batch, side, True)
    return time.perf_counter() - start


def waiting(task: TokenizerTask, steps: int) -> float:
    """The share of training steps that passes before their images are there; the first step is left out."""
    waited, inner = 0.0, sampling.cropped

    def timed(*arguments: object) -> torch.Tensor:
        nonlocal waited
        start = time.perf_counter()
        result = inner(*arguments)
        waited += time.perf_counter() - start
        return result

    sampling.cropped = timed
    try:
        start = 0.0
        for step in range(steps + 1):
            if step == 1:
                waited, start = 0.0, time.perf_counter()
            task.losses(step, step / steps)["loss"].backward()
    finally:
        sampling.cropped = inner
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return waited / (time.perf_counter() - start)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--size", default=256, show_default=True, help="Side of the images.")
@click.option("--margin", default=32, show_default=True, help="Training images are this much larger.")
@click.option("--batch", default=16, show_default=True, help="Images a step.")
@click.option("--steps", default=6, show_default=True, help="Steps whose waiting is measured.")
@click.option("--repeats", default=5, show_default=True, help="Times that loop and loader take turns.")
@click.option("--width", default=192, show_default=True, help="Width of the trained ViT; 768 is the papers'.")
@click.option("--layers", default=4, show_default=True, help="Its layers; 12 in the papers.")
def command(
    folder: Path, size: int, margin: int, batch: int, steps: int, repeats: int, width: int, layers: int
) -> None:
    """Print both shares; exit code 1 where one is too large."""
    values = {
        "name": "decoding",
        "data": {
            "source": "image-folder",
            "path": str(folder.resolve()),
            "size": size,
            "train_margin": margin,
            "resize": "lanczos",
            "upscale": True,
            "eval_share": 0.02,
            "storage": "manifest",
        },
        "tokenizer": {
            "architecture": "paper-vit",
            "width": width,
            "layers": layers,
            "heads": width // 64,
            "head_width": 4 * width,
            "training": {"batch_size": batch},
        },
        "quantizers": {"leech": {"method": "leech"}},
    }
    config = configuration.from_values(values, Path("decoding.yaml"))
    subject = config.subjects()[0]
    with tempfile.TemporaryDirectory() as scratch:
        prepare.prepare(config, scratch)
        images = prepared.load(scratch).train.images
        batches = max(2, len(images) // batch // 2)
        indices = sampling.sample_indices(0, 0, batches * batch, len(images))
        pairs = [(bare(images, indices), loader(images, batch, batches, size)) for _ in range(repeats)]
        longer = statistics.median(b / a for a, b in pairs) - 1
        rate = len(indices) / statistics.median(a for a, _ in pairs)
        click.echo(f"bare loop {rate:.0f} images/s in {images.threads} threads; the loader takes {100 * longer:+.1f}%")

        device = "cuda" if torch.cuda.is_available() else "cpu"
        options = subject.spec["tokenizer"]
        tokenizer = build.build(options, subject.spec["quantizer"], size, 0).to(device)
        recipe = Options.of(options["training"])
        task = TokenizerTask("decoding", tokenizer, images, recipe.batch_size, True, 0)
        share = waiting(task, steps)
        click.echo(f"a step on {device} waits {100 * share:.1f}% of its time for images")
    if longer > MOST_LONGER or share > MOST_WAITING:
        raise click.ClickException(f"more than {MOST_LONGER:.0%} longer, or more than {MOST_WAITING:.0%} waiting")


if __name__ == "__main__":
    command()
