"""LPIPS: lpips' own network and heads, with the trunk's weights from a checked file.

Zhang et al., "The Unreasonable Effectiveness of Deep Features", 2018 (https://arxiv.org/abs/1801.03924), eq. 1.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from evaluation import pixels, weights
from latticebench.errors import BadInput

TRUNKS = {"lpips_alex": "alex", "lpips_vgg": "vgg"}
_SMALLEST = {"alex": 32, "vgg": 16}


def network(trunk: str, path: Path | None) -> nn.Module:
    """The LPIPS network of a trunk ("alex" or "vgg") with torchvision's weights from a file.

    path None leaves the trunk random (lpips' pnet_rand). Raises BadInput where the file does not fit.
    """
    import lpips

    result = lpips.LPIPS(net=trunk, version="0.1", pnet_rand=True, verbose=False)
    if path is not None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            # lpips slices torchvision's `features` and keeps their numbers: slice2.3.weight is features.3.weight.
            own = {key: state["features." + key.split(".", 1)[1]] for key in result.net.state_dict()}
            result.net.load_state_dict(own)
        except Exception as error:
            # What torch raises for a foreign file depends on the file's content.
            raise BadInput(
                f"{path} does not hold torchvision's {trunk} weights: {str(error).splitlines()[0]}"
            ) from error
    return result.eval().requires_grad_(False)


@functools.lru_cache(maxsize=2)
def _built(metric: str, path: Path, device: str) -> nn.Module:
    return network(TRUNKS[metric], path).to(device)


def distances(metric: str, a: np.ndarray, b: np.ndarray, paths: Mapping[str, str | None], device: str) -> np.ndarray:
    """LPIPS of each pair: uint8 (B, H, W, 3) twice -> (B,). Raises Missing without weights, ValueError for tiny images."""
    trunk = TRUNKS[metric]
    if min(a.shape[1:3]) < _SMALLEST[trunk]:
        raise ValueError(f"LPIPS ({trunk}) needs sides of at least {_SMALLEST[trunk]} px, got {a.shape[1:3]}")
    built = _built(metric, weights.find(f"lpips-{trunk}", paths).path, device)
    x, y = (pixels.to_float(side).to(device) * 2 - 1 for side in (a, b))
    with torch.inference_mode():
        return built(x, y).flatten().double().cpu().numpy()
