"""LPIPS as a loss: Zhang et al., "The Unreasonable Effectiveness of Deep Features", arXiv:1801.03924, eq. 1.

The trunk's weights are torchvision's, from a checked file; the heads are those that the lpips package ships
(version 0.1). The judge runs lpips' own network; this one has the same values and a gradient that stays
finite where all features of a place are zero.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from latticebench.errors import BadInput, Missing
from latticebench.weights import local

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of images in [-1, 1], a channel."""
SMALLEST = {"alex": 32, "vgg": 16}
"""Sides of images that the trunks can take, at least."""
EPS = 1e-10

_VGG = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
_TAPS = {"vgg": (3, 8, 15, 22, 29), "alex": (1, 4, 7, 9, 11)}
"""Numbers of the layers of torchvision's `features` whose outputs are compared."""
_WIDTHS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}


class Perceptual(nn.Module):
    """The distance of pairs of images; its weights are fixed.

    net: `vgg` or `alex`. trunk: torchvision's state dict of that network, or its part below `features.`.
    heads: lpips' state dict, `lin<i>.model.1.weight` (1, C, 1, 1).
    """

    def __init__(self, net: str, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.net = net
        self.features = _vgg() if net == "vgg" else _alex()
        own = {key: trunk[f"features.{key}"] for key in self.features.state_dict()}
        self.features.load_state_dict(own)
        self.taps = frozenset(_TAPS[net])
        for i, width in enumerate(_WIDTHS[net]):
            self.register_buffer(f"head{i}", heads[f"lin{i}.model.1.weight"].reshape(1, width, 1, 1).clone())
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).reshape(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], twice -> distances (B,)."""
        total = a.new_zeros(len(a))
        for i, (x, y) in enumerate(zip(self._features(a), self._features(b), strict=True)):
            difference = (_unit(x) - _unit(y)).square()
            total = total + (getattr(self, f"head{i}") * difference).sum(1).mean((1, 2))
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        x = (images * 2 - 1 - self.shift) / self.scale
        result = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                result.append(x)
        return result


def load(net: str, image_size: int, paths: Mapping[str, str | None] | None = None) -> Perceptual:
    """The loss with its weights. paths: files by the names of `evaluation.weights`, where they lie elsewhere.

    Raises Missing where a file is not there, BadInput where it is another one or the images are too small.
    """
    if image_size < SMALLEST[net]:
        raise BadInput(f"tokenizer.losses.perceptual: LPIPS ({net}) needs sides of at least {SMALLEST[net]} px")
    path = local.find(f"lpips-{net}-trunk", (paths or {}).get(f"lpips-{net}")).path
    heads = torch.load(heads_file(net), map_location="cpu", weights_only=True)
    try:
        trunk = torch.load(path, map_location="cpu", weights_only=True)
        return Perceptual(net, trunk, heads)
    except Exception as error:
        # What torch raises for a foreign file depends on the file's content.
        raise BadInput(f"{path} does not hold torchvision's {net} weights: {str(error).splitlines()[0]}") from error


def heads_file(net: str) -> Path:
    """lpips' own file of a network's heads. Raises Missing where the package is not installed."""
    found = importlib.util.find_spec("lpips")
    if found is None or not found.submodule_search_locations:
        raise Missing("tokenizer.losses.perceptual needs the package lpips: pip install lpips")
    return Path(found.submodule_search_locations[0]) / "weights" / "v0.1" / f"{net}.pth"


def _unit(x: Tensor) -> Tensor:
    # vector_norm has a zero gradient at zero, where that of a square root is infinite.
    return x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + EPS)


def _vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = 3
    for width in _VGG:
        if width == "pool":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
    return nn.Sequential(*layers)


def _alex() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )
