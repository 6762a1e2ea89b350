"""Pre-norm transformer blocks over a grid of patches, and the two ways between images and patches."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latticebench.errors import BadInput
from latticebench.nn.checkpointing import Checkpointed


def to_patches(images: Tensor, patch: int) -> Tensor:
    """images (B, C, H, W) -> (B, h·w, C·patch·patch), each patch in channel, row, column order."""
    b, c, height, width = images.shape
    h, w = height // patch, width // patch
    grid = images.reshape(b, c, h, patch, w, patch).permute(0, 2, 4, 1, 3, 5)
    return grid.reshape(b, h * w, c * patch * patch)


def from_patches(patches: Tensor, patch: int, h: int, w: int) -> Tensor:
    """The inverse of `to_patches` for a grid of h x w patches: (B, h·w, C·patch·patch) -> (B, C, H, W)."""
    b, _, size = patches.shape
    c = size // (patch * patch)
    grid = patches.reshape(b, h, w, c, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(b, c, h * patch, w * patch)


class Attention(nn.Module):
    """Multi-head self-attention over (B, N, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(b, n, width))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) with exact GELU."""

    def __init__(self, width: int, heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GridTransformer(Checkpointed):
    """Token vectors (B, h·w, inputs) -> (B, h·w, outputs) through blocks with learned positions.

    Positions are learned on a `grid` x `grid` square and resampled bicubically for other sizes.
    """

    def __init__(self, inputs: int, outputs: int, grid: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise BadInput(f"tokenizer.width: {width} is not divisible by tokenizer.heads = {heads}")
        self.grid = grid
        self.embed = nn.Linear(inputs, width)
        self.positions = nn.Parameter(torch.randn(1, grid * grid, width) * 0.02)
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm_out = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        x = self.norm_in(self.embed(x) + self._positions(h, w))
        for block in self.blocks:
            x = self._stage(block, x)
        return self.head(self.norm_out(x))

    def _positions(self, h: int, w: int) -> Tensor:
        if (h, w) == (self.grid, self.grid):
            return self.positions
        square = self.positions.reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        resized = F.interpolate(square, size=(h, w), mode="bicubic", align_corners=False)
        return resized.permute(0, 2, 3, 1).reshape(1, h * w, -1)
