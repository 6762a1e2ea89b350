"""The convolutional encoder and decoder of the VQGAN line: one module, the families differ by options.

Esser et al., arXiv:2012.09841, as used by VAR (arXiv:2404.02905), Infinity (arXiv:2412.04431), LlamaGen
(arXiv:2406.06525), Open-MAGVIT2 (arXiv:2409.04410) and SimVQ (arXiv:2411.02038). Levels halve the
resolution; a level is a row of residual blocks, at the lowest resolution optionally with attention.
"""

import dataclasses
import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from latticebench.errors import BadInput
from latticebench.nn.checkpointing import Checkpointed

EPS = 1e-6
"""Of every group norm."""


@dataclasses.dataclass(frozen=True)
class Convolutional:
    """What a pair of encoder and decoder looks like.

    latent: channels between encoder and decoder
    base: channels at full resolution
    multipliers: channels of each level in units of `base`, from full to lowest resolution
    blocks: residual blocks a level in the encoder
    decoder_blocks: residual blocks a level in the decoder; default: one more than in the encoder
    middle: residual blocks after the last level of the encoder and before the first of the decoder
    attention: single-head attention after each block of the lowest level and after the first middle block
    bias: whether the convolutions of residual blocks and the encoder's first one have biases
    down: `padded` pads right and bottom by one before a stride of 2, `centred` pads by one on all sides
    up: nearest neighbour before the convolution, or depth-to-space after it (order: row, column, channel)
    latent_kernel: size of the encoder's last convolution
    adaptive: whether each level of the decoder starts with a group norm steered by the latent's statistics
    """

    latent: int
    base: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    decoder_blocks: int | None = None
    middle: int = 2
    attention: bool = False
    bias: bool = True
    down: Literal["padded", "centred"] = "padded"
    up: Literal["nearest", "depth-to-space"] = "nearest"
    latent_kernel: int = 3
    adaptive: bool = False

    def __post_init__(self) -> None:
        for name in ("latent", "base", "blocks", "middle"):
            if getattr(self, name) < 1:
                raise BadInput(f"convolutional tokenizer: {name} must be at least 1, got {getattr(self, name)}")
        if not self.multipliers or min(self.multipliers) < 1:
            raise BadInput(f"convolutional tokenizer: multipliers must be positive, got {self.multipliers}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, from full to lowest resolution."""
        return tuple(self.base * multiplier for multiplier in self.multipliers)

    @property
    def stride(self) -> int:
        """Pixels a latent cell."""
        return 2 ** (len(self.multipliers) - 1)


def group_norm(width: int, affine: bool = True) -> nn.GroupNorm:
    """32 groups; 24 where only they divide the width, as Infinity does; below that the largest power of two."""
    groups = next((g for g in (32, 24) if width % g == 0), math.gcd(width, 16))
    return nn.GroupNorm(groups, width, eps=EPS, affine=affine)


class ResidualBlock(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), x through a 1 x 1 convolution where the width changes."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
        self.norm2 = group_norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.shortcut(x) + h


class SpatialAttention(nn.Module):
    """x + attention over all positions, one head of the whole width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = group_norm(width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).unsqueeze(1).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.squeeze(1).transpose(1, 2).reshape(x.shape))


class Down(nn.Module):
    """Halves the resolution: (B, C, H, W) -> (B, C, H/2, W/2)."""

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        self.padded = kind == "padded"
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=0 if self.padded else 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.padded else x)


class Up(nn.Module):
    """Doubles the resolution: (B, C, H, W) -> (B, C, 2H, 2W)."""

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        self.nearest = kind == "nearest"
        self.conv = nn.Conv2d(width, width if self.nearest else 4 * width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.nearest:
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return depth_to_space(self.conv(x))


def depth_to_space(x: Tensor) -> Tensor:
    """(B, 4C, H, W) -> (B, C, 2H, 2W); channels are ordered row, column, channel (ONNX's DCR, not PixelShuffle's)."""
    b, c, h, w = x.shape
    return x.reshape(b, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2).reshape(b, c // 4, 2 * h, 2 * w)


class AdaptiveNorm(nn.Module):
    """A group norm whose scale and shift are linear in the latent's standard deviation and mean over space."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.norm = group_norm(width, affine=False)
        self.gamma = nn.Linear(latent, width)
        self.beta = nn.Linear(latent, width)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        values = latent.flatten(2)
        deviation = (values.var(dim=-1) + EPS).sqrt()  # unbiased: divided by N − 1
        return self.gamma(deviation)[..., None, None] * self.norm(x) + self.beta(values.mean(dim=-1))[..., None, None]


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where asked, and a change of resolution or none."""

    def __init__(self, inputs: int, outputs: int, blocks: int, attention: bool, bias: bool, resize: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(inputs if i == 0 else outputs, outputs, bias) for i in range(blocks))
        self.attentions = nn.ModuleList(SpatialAttention(outputs) if attention else nn.Identity() for _ in self.blocks)
        self.resize = resize

    def forward(self, x: Tensor) -> Tensor:
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            x = attention(block(x))
        return self.resize(x)


def _middle(options: Convolutional) -> nn.Sequential:
    width = options.widths[-1]
    layers: list[nn.Module] = [ResidualBlock(width, width, options.bias) for _ in range(options.middle)]
    if options.attention:
        layers.insert(1, SpatialAttention(width))
    return nn.Sequential(*layers)


class ConvolutionalEncoder(Checkpointed):
    """Images (B, 3, H, W) -> features (B, latent, H/stride, W/stride)."""

    def __init__(self, options: Convolutional) -> None:
        super().__init__()
        widths, last = options.widths, len(options.widths) - 1
        self.conv_in = nn.Conv2d(3, options.base, 3, padding=1, bias=options.bias)
        self.levels = nn.ModuleList(
            Level(
                inputs,
                width,
                options.blocks,
                options.attention and i == last,
                options.bias,
                Down(width, options.down) if i < last else nn.Identity(),
            )
            for i, (inputs, width) in enumerate(zip((options.base, *widths), widths, strict=False))
        )
        self.middle = _middle(options)
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], options.latent, options.latent_kernel, padding=options.latent_kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.levels:
            x = self._stage(level, x)
        x = self._stage(self.middle, x)
        return self.conv_out(F.silu(self.norm_out(x)))


class ConvolutionalDecoder(Checkpointed):
    """Features (B, latent, h, w) -> images (B, 3, h·stride, w·stride), not clamped. Its first level is the lowest."""

    def __init__(self, options: Convolutional) -> None:
        super().__init__()
        widths = options.widths[::-1]
        last = len(widths) - 1
        blocks = options.blocks + 1 if options.decoder_blocks is None else options.decoder_blocks
        inputs = (widths[0], *widths)
        self.conv_in = nn.Conv2d(options.latent, widths[0], 3, padding=1)
        self.middle = _middle(options)
        self.adaptive = nn.ModuleList(
            AdaptiveNorm(options.latent, width) for width in (inputs[:-1] if options.adaptive else ())
        )
        self.levels = nn.ModuleList(
            Level(
                inputs[i],
                width,
                blocks,
                options.attention and i == 0,
                options.bias,
                Up(width, options.up) if i < last else nn.Identity(),
            )
            for i, width in enumerate(widths)
        )
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self._stage(self.middle, self.conv_in(z))
        for i, level in enumerate(self.levels):
            if self.adaptive:
                x = self.adaptive[i](x, z)
            x = self._stage(level, x)
        return self.conv_out(F.silu(self.norm_out(x)))
