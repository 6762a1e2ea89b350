"""StyleGAN2's residual discriminator: Karras et al., arXiv:1912.04958, as BSQ and Λ24 train against it.

Learning rates are equalised (weights drawn from N(0, 1) and scaled at run time), activations are leaky
ReLUs of gain √2, and the image is blurred before each halving.
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latticebench.errors import BadInput

SLOPE, GAIN = 0.2, math.sqrt(2)
LAST = 4
"""Side at which the levels end."""


class StyleGAN2Discriminator(nn.Module):
    """Images (B, 3, side, side) in [-1, 1] -> verdicts (B,).

    side: 4 times a power of two. channel_base: channels times side of a level; channel_max: its channels at most.
    minibatch_std: see `minibatch_deviation`; 0 for none.
    """

    def __init__(self, side: int, channel_base: int = 16384, channel_max: int = 512, minibatch_std: int = 4) -> None:
        super().__init__()
        levels = round(math.log2(side / LAST)) if side > LAST else 0
        if levels < 1 or side != LAST * 2**levels:
            raise BadInput(
                f"tokenizer.losses.gan.discriminator: stylegan2 takes sides of 8, 16, 32, … px, data.size is {side};"
                " use patchgan"
            )
        widths = [min(channel_max, channel_base // (side >> i)) for i in range(levels + 1)]
        if min(widths) < 1:
            raise BadInput(
                f"tokenizer.losses.gan.discriminator.channel_base: {channel_base} is too small for {side} px"
            )
        self.side = side
        self.minibatch_std = minibatch_std
        self.from_rgb = _Convolution(3, widths[0], 1)
        self.levels = nn.Sequential(*(_Level(a, b) for a, b in itertools.pairwise(widths)))
        self.conv_out = _Convolution(widths[-1] + (minibatch_std > 0), widths[-1], 3)
        self.hidden = _Linear(widths[-1] * LAST * LAST, widths[-1])
        self.verdict = _Linear(widths[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.levels(_activated(self.from_rgb(images)))
        if self.minibatch_std:
            x = torch.cat([x, minibatch_deviation(x, self.minibatch_std)], dim=1)
        x = _activated(self.conv_out(x))
        return self.verdict(_activated(self.hidden(x.flatten(1)))).squeeze(1)


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """x (B, C, H, W) -> (B, 1, H, W): the standard deviation over a group of images, averaged over all values.

    With M groups image i is in group i mod M. A group has `group` images, or fewer where that does not divide B.
    """
    b, _, h, w = x.shape
    size = next(n for n in range(min(group, b), 0, -1) if b % n == 0)
    grouped = x.reshape(size, b // size, -1)
    deviation = (grouped.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=1)
    return deviation.repeat(size).reshape(b, 1, 1, 1).expand(b, 1, h, w)


class _Level(nn.Module):
    """Two convolutions, the second halving the resolution, beside a 1 x 1 one; the sum keeps unit variance."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _Convolution(inputs, inputs, 3)
        self.conv2 = _Convolution(inputs, outputs, 3, down=True)
        self.skip = _Convolution(inputs, outputs, 1, down=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (_activated(self.conv2(_activated(self.conv1(x)))) + self.skip(x)) / math.sqrt(2)


class _Convolution(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, down: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = (inputs * kernel**2) ** -0.5
        self.down = down
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("blur", taps.outer(taps)[None, None] / taps.sum() ** 2, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight, kernel = self.weight * self.scale, self.weight.shape[-1]
        if not self.down:
            return F.conv2d(x, weight, self.bias, padding=kernel // 2)
        # Padded so that the blurred image, met with stride 2 and no padding, has half the side.
        total = kernel + 1
        before, after = (total + 1) // 2, total // 2
        channels = x.shape[1]
        blurred = F.conv2d(
            F.pad(x, (before, after, before, after)), self.blur.to(x.dtype).expand(channels, 1, 4, 4), groups=channels
        )
        return F.conv2d(blurred, weight, self.bias, stride=2)


class _Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = inputs**-0.5

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias)


def _activated(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE) * GAIN
