"""DINOv2's ViT-L/14 in plain torch, with the released state dict's keys.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023 (https://arxiv.org/abs/2304.07193);
layers as in https://github.com/facebookresearch/dinov2 (dinov2/models/vision_transformer.py).
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latticebench.errors import BadInput

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = _Attention(width, heads), _Mlp(width)
        self.ls1, self.ls2 = _Scale(width), _Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class _Patches(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Network(nn.Module):
    """(B, 3, H, W) normalised, sides multiples of the patch -> (B, width) class tokens after the last norm.

    grid: patches a side of the learnt position embedding (37: DINOv2 ends its training at 518 px).
    """

    def __init__(self, width: int = 1024, depth: int = 24, heads: int = 16, patch: int = 14, grid: int = 37) -> None:
        super().__init__()
        self.grid = grid
        self.width = width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.patch_embed = _Patches(width, patch)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        return self._tokens(x)[:, 0]

    def patches(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) normalised -> (B, rows x columns, width) patch tokens after the last norm, row by row."""
        return self._tokens(x)[:, 1:]

    def _tokens(self, x: Tensor) -> Tensor:
        rows, columns = (side // self.patch for side in x.shape[2:])
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch_embed(x)], dim=1)
        tokens = tokens + self._positions(rows, columns)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows x columns, width): bicubic, by scale factors with DINOv2's offset of 0.1."""
        if rows == columns == self.grid:
            return self.pos_embed
        places = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        factors = ((rows + 0.1) / self.grid, (columns + 0.1) / self.grid)
        places = F.interpolate(places, scale_factor=factors, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], places.flatten(2).transpose(1, 2)], dim=1)


def normalised(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> less ImageNet's mean, over its deviation."""
    mean, deviation = (torch.tensor(v, dtype=images.dtype, device=images.device) for v in (_MEAN, _DEVIATION))
    return (images - mean[:, None, None]) / deviation[:, None, None]


def load(path: Path) -> Network:
    """ViT-L/14 with the released weights in eval mode. Raises BadInput where they do not fit."""
    with torch.device("meta"):
        network = Network()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state, assign=True)
    except Exception as error:
        # What torch raises for a foreign file depends on the file's content.
        raise BadInput(f"{path} does not hold DINOv2's ViT-L/14 weights: {str(error).splitlines()[0]}") from error
    return network.eval().requires_grad_(False)
