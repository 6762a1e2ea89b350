"""A tokenizer and a data set small enough to judge in a test."""

import numpy as np
import torch
from torch import Tensor, nn

from evaluation import features
from evaluation.pixels import to_float
from latticebench.data.prepared import Prepared, Split
from latticebench.quantizers import create
from latticebench.quantizers.base import MAX_INDEX_SIZE
from latticebench.tokenizers.base import Tokenizer


class PatchMeans(Tokenizer):
    """Patches of 4 x 4 become their mean colour, which the quantizer codes."""

    architecture = "patch-means"

    def __init__(self, quantizer) -> None:
        super().__init__()
        self.quantizer, self.stride, self.image_size = quantizer, 4, 32
        self.gain = nn.Parameter(torch.ones(()))
        self.metadata = {"training_seconds": 1.5}

    def encode_features(self, images: Tensor) -> Tensor:
        self.check_images(images)
        means = nn.functional.avg_pool2d(images, self.stride).permute(0, 2, 3, 1)
        repeats = -(-self.quantizer.dim // 3)
        return (self.gain * (2 * means - 1)).repeat(1, 1, 1, repeats)[..., : self.quantizer.dim]

    def decode_features(self, features: Tensor) -> Tensor:
        colours = (features[..., :3].float().permute(0, 3, 1, 2) + 1) / 2
        return nn.functional.interpolate(colours, scale_factor=self.stride).clamp(0, 1)


def tokenizer(method: str, **parameters) -> PatchMeans:
    """A tokenizer in eval mode around a quantizer."""
    return PatchMeans(create(method, **parameters)).eval()


HUGE = {"levels": [8] * 24}
assert MAX_INDEX_SIZE < 8**24


def data(tmp_path, scenes: int = 4, of_each: int = 20) -> Prepared:
    """Smooth noisy images of a few scenes."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(scenes), of_each)
    base = rng.uniform(60, 200, size=(scenes, 1, 1, 3))[groups]
    ramp = np.linspace(-40, 40, 32)[None, :, None, None] * rng.normal(size=(len(groups), 1, 1, 3))
    images = np.clip(base + ramp + rng.normal(0, 9, (len(groups), 32, 32, 3)), 0, 255).astype(np.uint8)
    split = Split("eval", images, None, groups, "e" * 64, tmp_path / "eval.items.npz")
    return Prepared(tmp_path, split, split, {"name": "fake"})


def pixels_of(images: np.ndarray) -> Tensor:
    """The first four channel values of each image in [0, 1], of uint8 or floats."""
    return to_float(images).flatten(1)[:, :4]


def insuite(paths, device) -> features.Extractor:
    """Eight features that are quick to compute."""

    def run(x: np.ndarray) -> dict[str, Tensor]:
        y = torch.from_numpy(np.array(x)).float() / 255
        return {"features": torch.cat([y.mean((1, 2)), y.std((1, 2)), y[:, 0, 0, :2]], dim=1)}

    return features.Extractor("insuite", "abcdef12" + 56 * "0", run)
