"""The network behind `fd-insuite`: three convolutions, a projection and a mean, 64 features."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 64
"""Every image is brought to SIDE x SIDE (bilinear, antialiased) first; 64 x 64 images stay as they are."""
FEATURES = 64
_LAYERS = ((24, 5, 2), (48, 3, 2), (64, 3, 2))
"""Output channels, kernel and stride of each convolution."""


class Network(nn.Module):
    """(B, 3, H, W) float in [0, 1] -> (B, 64) float32 features.

    The features are the channel means of the last map, standardised by their mean and deviation over the
    training crops, so that every feature weighs the same in a Fréchet distance.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, kernel, stride in _LAYERS:
            convolution = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.body = nn.Sequential(*layers, nn.Conv2d(channels, FEATURES, 1), nn.GELU())
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))

    def maps(self, images: Tensor) -> Tensor:
        """(B, 3, 64, 64) in [0, 1] -> (B, 64, 8, 8)."""
        return self.body(2 * images - 1)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"images must be floating (B, 3, H, W), got {images.dtype} {tuple(images.shape)}")
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            if images.shape[-2:] != (SIDE, SIDE):
                images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
            return (self.maps(images).mean(dim=(2, 3)) - self.mean) / self.deviation
