"""What DINOv2 is given when it judges: that of Stein et al. 2023 (https://github.com/layer6ai-labs/dgm-eval).

PIL bicubic to 224 x 224, ImageNet statistics. The network is `latticebench.nn.dinov2`.
"""

import numpy as np
import torch
from torch import Tensor

from latticebench.nn.dinov2 import Network, load, normalised

__all__ = ["SIDE", "Network", "load", "prepare"]

SIDE = 224


def prepare(images: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) -> (B, 3, 224, 224) float32, normalised."""
    from PIL import Image

    resized = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in images]
    x = torch.from_numpy(np.stack([np.asarray(image) for image in resized])).permute(0, 3, 1, 2).float() / 255
    return normalised(x)
