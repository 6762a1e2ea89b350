"""Makes priors from the tokens of training images.

`python -m evaluation.compression.fit --tokenizer DIR --images DIR --kind network --out prior.safetensors`
"""

import dataclasses
from pathlib import Path
from typing import Any

import click
import numpy as np

from evaluation.compression import priors
from evaluation.compression.layout import Layout
from latticebench.errors import BadInput
from latticebench.files import hash8

_MOST_FEATURES = 2**22
"""A codebook with more rows than this is not laid out as features of its digits."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A network prior: the transformer's size, and the `training` values of latticebench.training.options."""

    width: int
    layers: int
    heads: int
    training: dict[str, Any]


def fit_network(
    tokens: np.ndarray, layout: Layout, quantizer: Any, recipe: Recipe, running: Path, seed: int, device: str = "cpu"
) -> priors.FilePrior:
    """The network prior of training tokens (N, positions) int64; `running` holds its checkpoints meanwhile.

    Raises BadInput for a multi-scale tokenizer: its maps are not one grid.
    """
    import torch

    from evaluation.compression import digits, network
    from latticebench.generators.raster import RasterParameters, RasterTransformer
    from latticebench.generators.raster_task import RasterTask
    from latticebench.training import loop
    from latticebench.training.options import Options

    if len(layout.grids) != 1:
        raise BadInput("the network prior models one grid of tokens; this tokenizer has several scales")
    sizes = digits.digit_sizes(layout.codebook_size)
    options = Options.of(recipe.training)
    parameters = RasterParameters(sizes, layout.grids[0], recipe.width, recipe.layers, recipe.heads)
    with loop.seeded(seed):
        model = RasterTransformer(parameters, digit_features(quantizer, sizes), layout.tokenizer).to(device)
    split = torch.from_numpy(digits.split(tokens, sizes)).to(device)
    task = RasterTask("prior", model, split, options.batch_size, seed)
    identity = {"tokenizer": layout.tokenizer, "recipe": hash8(dataclasses.asdict(recipe)), "seed": str(seed)}
    loop.train(task, options, loop.Saving(running), identity)
    return network.export(model, layout.codebook_size)


def digit_features(quantizer: Any, sizes: tuple[int, ...]) -> list[Any]:
    """For each digit the mean code vector of each of its values, (size, d), scaled to deviation 1; None if too many.

    For one digit these are the code vectors; for bsq's digits, their bits.
    """
    import torch

    from evaluation.compression import digits

    if quantizer.codebook_size > _MOST_FEATURES:
        return [None] * len(sizes)
    vectors = quantizer.codebook().detach().float().cpu()
    split = torch.from_numpy(digits.split(np.arange(len(vectors)), sizes))
    features = []
    for place, size in enumerate(sizes):
        sums = torch.zeros(size, vectors.shape[1]).index_add_(0, split[:, place], vectors)
        means = sums / torch.bincount(split[:, place], minlength=size).clamp(min=1).unsqueeze(1)
        means = means - means.mean(dim=0)
        features.append(means / means.std().clamp(min=1e-6))
    return features


def some(images: np.ndarray, count: int | None) -> np.ndarray:
    """`count` of the images (N, H, W, 3), evenly spaced; all of them where there are no more, or count is None."""
    if count is None or count >= len(images):
        return images
    return images[np.linspace(0, len(images) - 1, count).round().astype(int)]


def training_tiles(images: np.ndarray, tile: int) -> np.ndarray:
    """uint8 images (N, H, W, 3) -> tiles (M, tile, tile, 3): each centre crop, and each mirrored."""
    top, left = ((side - tile) // 2 for side in images.shape[1:3])
    if min(top, left) < 0:
        raise BadInput(f"training images of {images.shape[1]} x {images.shape[2]} px are smaller than a tile of {tile}")
    crops = np.asarray(images[:, top : top + tile, left : left + tile])
    return np.concatenate([crops, crops[:, :, ::-1]])


@click.command()
@click.option("--tokenizer", required=True, type=Path, help="The tokenizer's folder.")
@click.option("--images", "folder", required=True, type=Path, help="Folder of training images.")
@click.option("--kind", type=click.Choice(["static", "network"]), default="network", show_default=True)
@click.option("--out", required=True, type=Path, help="The prior's file.")
@click.option("--config", "config_file", type=Path, help="Configuration whose compression.prior is the recipe.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
def command(
    tokenizer: Path, folder: Path, kind: str, out: Path, config_file: Path | None, seed: int, device: str
) -> None:
    """Make a prior for the tokens of a tokenizer from a folder of training images, cut into tiles."""
    from evaluation.compression import layout, options
    from evaluation.compression.pictures import PictureCoder

    coder = PictureCoder(tokenizer, device)
    tiles = np.concatenate([layout.cut(image, coder.layout.tile) for _, image in options.read_images(folder)])
    tokens = coder.tokens(np.concatenate([tiles, tiles[:, :, ::-1]]))
    if kind == "static":
        prior: priors.FilePrior = priors.fit_static(tokens, coder.layout.codebook_size, coder.layout.tokenizer)
    else:
        recipe = options.recipe(config_file)
        running = out.with_name(out.name + ".running")
        prior = fit_network(tokens, coder.layout, coder.tokenizer.quantizer, recipe, running, seed, device)
    priors.save(prior, out)
    click.echo(f"{out}: {kind} prior of {tokens.size} tokens, fingerprint {prior.fingerprint[:16]}")


if __name__ == "__main__":
    from latticebench.commands import run

    run(command)
