"""What the keys of one quantizer entry demand of each other: said before anything is prepared or sent to a cluster.

The schema looks at each key alone. The modules that are built from the options refuse the same later.
"""

from pathlib import Path
from typing import Any

from latticebench.errors import BadInput

_VITS = ("vit", "paper-vit")
_LAST_SIDE = 4
"""Side at which the StyleGAN2 discriminator stops halving."""


def check(
    where: str, entry: dict[str, Any], tokenizer: dict[str, Any], size: int, jobs: dict[str, Any], folder: Path
) -> None:
    """Raises BadInput naming the entry, the key and its value where a training could not start.

    where: the file and the entry. tokenizer: the entry's options, merged with all others'. size: data.size. jobs: that
    section. folder: the configuration's, where `module:` starts.
    """
    _check_grid(where, tokenizer, size)
    latent = tokenizer["network"]["latent"]
    if tokenizer["architecture"] not in _VITS and tokenizer["projection"] is None and latent is not None:
        dim = _dimension(entry, folder)
        if dim != latent:
            raise BadInput(
                f"{where}.tokenizer.network.latent: {latent} is not the quantizer's dimension {dim}; leave it out, or set"
                " tokenizer.projection"
            )
    losses, training = tokenizer["losses"], tokenizer["training"]
    gan = losses["gan"]
    halved = size / _LAST_SIDE
    if (
        gan["weight"]
        and gan["discriminator"]["architecture"] == "stylegan2"
        and (halved < 2 or not halved.is_integer() or int(halved) & (int(halved) - 1))
    ):
        raise BadInput(
            f"{where}.tokenizer.losses.gan.discriminator: stylegan2 takes sides of 8, 16, 32, … px, data.size is {size};"
            " use patchgan"
        )
    processes = max(jobs["gpus"], 1) * jobs["nodes"]
    if training["batch_size"] % (training["accumulate"] * processes):
        raise BadInput(
            f"{where}.tokenizer.training.batch_size: {training['batch_size']} is no multiple of accumulate"
            f" {training['accumulate']} × {processes} processes (jobs.gpus × jobs.nodes)"
        )


def _check_grid(where: str, tokenizer: dict[str, Any], size: int) -> None:
    kind = tokenizer["architecture"]
    if kind in _VITS:
        if size % tokenizer["patch"]:
            raise BadInput(f"{where}.tokenizer.patch: {tokenizer['patch']} does not divide data.size = {size}")
        if tokenizer["width"] % tokenizer["heads"]:
            raise BadInput(
                f"{where}.tokenizer.width: {tokenizer['width']} is no multiple of heads = {tokenizer['heads']}"
            )
        return
    stride = 2 ** (len(tokenizer["network"]["multipliers"]) - 1)
    if size % stride:
        raise BadInput(
            f"{where}.tokenizer.network.multipliers: {len(tokenizer['network']['multipliers'])} levels make a stride of"
            f" {stride}, which does not divide data.size = {size}"
        )
    sides = tokenizer["scales"]["sides"]
    if kind == "multi-scale" and (sides != sorted(sides) or sides[-1] != size // stride):
        raise BadInput(
            f"{where}.tokenizer.scales.sides: {sides} must grow and end in {size // stride}, which is data.size = {size}"
            f" divided by the stride {stride}"
        )


def _dimension(entry: dict[str, Any], folder: Path) -> int:
    """The quantizer's dimension; only a method whose parameters do not state it is built, which is quick."""
    import torch

    from latticebench.quantizers import registry

    cls = registry.load_module(folder / entry["module"]) if "module" in entry else registry.method(entry["method"])
    parameters = registry.parse_parameters(cls, entry["parameters"])
    dim = getattr(parameters, "dim", None)
    if not isinstance(dim, int):
        with torch.random.fork_rng(devices=[]):
            dim = cls(parameters).dim
    return dim
