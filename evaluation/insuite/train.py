"""Trains the network behind `fd-insuite`: `python -m evaluation.insuite.train` (minutes on one thread).

Instance discrimination (SimCLR: Chen et al. 2020, https://arxiv.org/abs/2002.05709, eq. 1) on crops of the
bundled training scenes; the held-out scenes are never seen. Two views of an instance differ in place, flip and
colour. They share their degradation, and the same place under another degradation is another instance, a
negative: a judge of reconstructions must not become invariant to blur, noise or lost resolution.
"""

from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from evaluation.insuite import WEIGHTS
from evaluation.insuite.network import FEATURES, SIDE, Network
from latticebench.commands import run
from latticebench.data.bundled import SCENES, scene_pixels
from latticebench.files import sha256, whole
from latticebench.seeding import derive, generator

HELD_OUT = ("astronaut", "coffee", "flower", "ihc")
_TILE = 96
_TEMPERATURE = 0.2
_PROJECTION = 64
STANDARDISING = 16
"""Batches of 64 training crops whose features give the mean and deviation that the network ends with."""


def training_scenes() -> list[Tensor]:
    """The images (3, H, W) uint8 of the scenes that are not held out, one list entry an image."""
    images = [image for name in SCENES if name not in HELD_OUT for image in scene_pixels(name)]
    return [torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in images]


def tiles(scenes: list[Tensor], count: int, random: torch.Generator) -> Tensor:
    """`count` tiles (count, 3, 96, 96) in [0, 1] that are not near-constant, each image equally likely."""
    result = []
    while len(result) < count:
        image = scenes[int(torch.randint(len(scenes), (), generator=random))]
        y = int(torch.randint(image.shape[1] - _TILE + 1, (), generator=random))
        x = int(torch.randint(image.shape[2] - _TILE + 1, (), generator=random))
        tile = image[:, y : y + _TILE, x : x + _TILE].float() / 255
        if tile.mean(0).std() > 4 / 255:
            result.append(tile)
    return torch.stack(result)


def degrade(images: Tensor, random: torch.Generator) -> Tensor:
    """A quarter each of images (B, 3, H, W), in random order: untouched, blurred, noisy, of lost resolution.

    The strength is drawn once a call and quarter.
    """
    strengths = torch.rand(3, generator=random).tolist()
    order = torch.randperm(len(images), generator=random)
    clean, blurred, noisy, coarse = images[order].chunk(4)
    noise = torch.randn(noisy.shape, generator=random)
    side = round(_TILE / (1.2 + 3 * strengths[2]))
    small = F.interpolate(coarse, (side, side), mode="bilinear", antialias=True)
    parts = [
        clean,
        blur(blurred, 0.4 + 2 * strengths[0]),
        noisy + (0.01 + 0.12 * strengths[1]) * noise,
        F.interpolate(small, (_TILE, _TILE), mode="bilinear"),
    ]
    return torch.cat(parts)[order.argsort()].clamp(0, 1)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of images (B, 3, H, W), edges reflected."""
    radius = max(1, round(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.unsqueeze(2), groups=3), kernel.unsqueeze(3), groups=3)


def view(images: Tensor, random: torch.Generator) -> Tensor:
    """(B, 3, 96, 96) -> (B, 3, 64, 64): place, flip, brightness, contrast and colour of each image at random."""
    count = len(images)
    places = torch.randint(_TILE - SIDE + 1, (count, 2), generator=random)
    crops = torch.stack(
        [image[:, y : y + SIDE, x : x + SIDE] for image, (y, x) in zip(images, places.tolist(), strict=True)]
    )
    flip = torch.rand(count, generator=random) < 0.5
    crops = torch.where(flip[:, None, None, None], crops.flip(-1), crops)
    factor, offset, tint = (torch.rand(count, n, 1, 1, generator=random) * 2 - 1 for n in (1, 1, 3))
    mean = crops.mean(dim=(1, 2, 3), keepdim=True)
    return ((crops - mean) * (1 + 0.3 * factor) + mean + 0.1 * offset + 0.05 * tint).clamp(0, 1)


def contrast(a: Tensor, b: Tensor) -> Tensor:
    """SimCLR's loss (eq. 1) of paired projections (B, d)."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    similarity = (z @ z.T / _TEMPERATURE).fill_diagonal_(-torch.inf)
    return F.cross_entropy(similarity, torch.arange(len(z)).roll(len(a)))


def train(steps: int, places: int, seed: int) -> tuple[Network, list[float]]:
    """The trained network, standardised on training crops, and the loss of each step."""
    torch.manual_seed(derive(seed, "insuite", "initial"))
    random = generator(seed, "insuite", "crops")
    scenes = training_scenes()
    network = Network()
    head = nn.Sequential(nn.Linear(FEATURES, 128), nn.GELU(), nn.Linear(128, _PROJECTION))
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    losses = []
    network.train()
    for _ in (bar := trange(steps, unit="step", mininterval=1)):
        clean = tiles(scenes, places, random)
        instances = torch.cat([degrade(clean, random), degrade(clean, random)])
        pair = torch.cat([view(instances, random), view(instances, random)])
        a, b = head(network.maps(pair).mean(dim=(2, 3))).chunk(2)
        loss = contrast(a, b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{loss.item():.3f}")
    network.eval()
    with torch.no_grad():
        batches = (view(tiles(scenes, 64, random), random) for _ in range(STANDARDISING))
        features = torch.cat([network(batch) for batch in batches])
    network.mean.copy_(features.mean(0))
    network.deviation.copy_(features.std(0).clamp(min=1e-4))
    return network, losses


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=WEIGHTS, help="File that receives the weights.")
@click.option("--steps", type=click.IntRange(min=20), default=300, show_default=True)
@click.option("--places", type=click.IntRange(min=4), default=32, show_default=True, help="Tiles a step.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def command(out: Path, steps: int, places: int, seed: int) -> None:
    """Trains the feature network and prints its hash, which belongs into evaluation/insuite/__init__.py."""
    network, losses = train(steps, places, seed)
    with whole(out) as temporary:
        save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, temporary)
    click.echo(f"loss {np.mean(losses[:10]):.3f} -> {np.mean(losses[-10:]):.3f} in {steps} steps")
    click.echo(f"{out}: {out.stat().st_size} bytes, sha256 {sha256(out)}")


if __name__ == "__main__":
    run(command)
