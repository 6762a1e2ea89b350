"""Multi-scale residual quantization of a feature map, around any quantizer that can take a residual.

From the coarsest scale to the finest: the residual comes down by area, is quantized, the code vectors
go up to full resolution and are subtracted. VAR (Tian et al., arXiv:2404.02905, algorithm 1) goes up
bicubically, smooths by φ and makes the transformer's next input by area; Infinity-CC (arXiv:2512.14697)
goes up and makes the next input by trilinear interpolation, which for one frame is bilinear.
"""

import dataclasses
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latticebench.errors import BadInput
from latticebench.quantizers.base import Quantized, Quantizer, full_precision


@dataclasses.dataclass(frozen=True)
class Scales:
    """The schedule and the two ways between resolutions.

    sides: side of each scale in cells, coarse to fine; the last one is the feature map's own
    up: how code vectors reach full resolution
    next_input: how the sum of code vectors comes down to the side of the next scale
    smoothing: number of φ convolutions shared by the scales; 0 for none
    """

    sides: tuple[int, ...] = (1, 2, 4, 6, 8, 12, 16)
    up: Literal["trilinear", "bicubic"] = "trilinear"
    next_input: Literal["trilinear", "area"] = "trilinear"
    smoothing: int = 0

    def __post_init__(self) -> None:
        if not self.sides or min(self.sides) < 1 or list(self.sides) != sorted(self.sides):
            raise BadInput(f"scales must be positive and grow from coarse to fine, got {self.sides}")
        if self.smoothing and len(self.sides) < 2:
            raise BadInput("smoothing needs at least two scales")

    @property
    def tokens(self) -> int:
        """Tokens an image, over all scales."""
        return sum(side * side for side in self.sides)

    def smoother(self, scale: int) -> int:
        """Which φ a scale uses: the one whose tick is nearest to scale/(scales − 1), as in VAR's code.

        The first of two equally near ticks would be taken; with ten scales and four φ rounding decides in the
        authors' favour of 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, so this keeps their order of operations.
        """
        n = self.smoothing
        margin = 1 / 3 / n if n == 4 else 1 / 2 / n
        ticks = np.linspace(margin, 1 - margin, n)
        return int(np.abs(ticks - scale / (len(self.sides) - 1)).argmin())


class Smoothing(nn.Module):
    """φ(h) = h/2 + conv(h)/2, a 3 x 3 convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return h * 0.5 + self.conv(h) * 0.5


def resize(x: Tensor, side: tuple[int, int], mode: str) -> Tensor:
    """x (B, C, h, w) -> (B, C, *side) by `area`, `bicubic` or `trilinear`; unchanged where the size fits."""
    if x.shape[-2:] == side:
        return x
    if mode == "area":
        return F.interpolate(x, size=side, mode="area")
    # Trilinear over a single frame is bilinear; neither has half-pixel corners aligned nor antialiasing.
    return F.interpolate(x, size=side, mode="bicubic" if mode == "bicubic" else "bilinear", align_corners=False)


class ResidualScales(nn.Module):
    """One quantizer at every scale of a square feature map.

    The quantizer should take z as it is (`normalize: false` where a method has that choice): the residual's
    nearest direction is the same and the straight-through gradient must not pass a normalisation's Jacobian.
    """

    def __init__(self, quantizer: Quantizer, scales: Scales) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.scales = scales
        self.smoothings = nn.ModuleList(Smoothing(quantizer.dim) for _ in range(scales.smoothing))

    def forward(self, features: Tensor) -> Quantized:
        """features (B, d, s, s) -> vectors (B, d, s, s), indices (B, tokens) coarse to fine, mean loss of the scales.

        Each scale has its own straight-through and the residual is detached, so dL/dz is the sum over scales.
        """
        with full_precision(features) as z:
            sides = self.sides_of(z)
            total, residual = torch.zeros_like(z), z
            indices, losses, terms = [], [], {}
            for scale, side in enumerate(sides):
                down = resize(residual, side, "area")
                quantized = self.quantizer(down.permute(0, 2, 3, 1))
                up = self.raise_to_full(quantized.vectors.permute(0, 3, 1, 2), scale, z.shape[-2:])
                residual = residual - up.detach()
                total = total + up
                indices.append(quantized.indices)
                losses.append(quantized.loss)
                for name, value in quantized.terms.items():
                    terms[name] = terms.get(name, 0) + value / len(sides)
            flat = None if indices[0] is None else torch.cat([i.flatten(1) for i in indices], dim=1)
            return Quantized(total, flat, torch.stack(losses).mean(), terms)

    def encode(self, features: Tensor) -> list[Tensor]:
        """features (B, d, s, s) -> one int64 map (B, side, side) a scale. Raises OverflowError where K exceeds 2^62."""
        return self._encode(features, self.quantizer.encode, self.quantizer.decode)

    def encode_digits(self, features: Tensor) -> list[Tensor]:
        """features (B, d, s, s) -> digits (B, side, side, n) a scale; exists for every K."""
        return self._encode(features, self.quantizer.encode_digits, self.quantizer.decode_digits)

    @torch.no_grad()
    def _encode(self, features: Tensor, encode, decode) -> list[Tensor]:
        with full_precision(features) as residual:
            codes = []
            for scale, side in enumerate(self.sides_of(residual)):
                code = encode(resize(residual, side, "area").permute(0, 2, 3, 1).contiguous())
                codes.append(code)
                vectors = decode(code).to(residual.dtype).permute(0, 3, 1, 2)
                residual = residual - self.raise_to_full(vectors, scale, features.shape[-2:])
            return codes

    def partial_sums(self, indices: list[Tensor]) -> list[Tensor]:
        """indices of the first scales -> the sum (B, d, s, s) after each of them."""
        return self._sums(indices, self.quantizer.decode)

    def partial_sums_of_digits(self, digits: list[Tensor]) -> list[Tensor]:
        """As `partial_sums`, from digits (B, side, side, n)."""
        return self._sums(digits, self.quantizer.decode_digits)

    def _sums(self, codes: list[Tensor], decode) -> list[Tensor]:
        full = (self.scales.sides[-1],) * 2
        sums: list[Tensor] = []
        for scale, code in enumerate(codes):
            with torch.autocast(code.device.type, enabled=False):
                up = self.raise_to_full(decode(code).permute(0, 3, 1, 2), scale, full)
                sums.append(up if not sums else sums[-1] + up)
        return sums

    def next_input(self, total: Tensor, scale: int) -> Tensor:
        """The sum of the scales before `scale` (B, d, s, s) -> what the transformer reads there (B, d, side, side)."""
        return resize(total, (self.scales.sides[scale],) * 2, self.scales.next_input)

    def raise_to_full(self, vectors: Tensor, scale: int, full: tuple[int, int]) -> Tensor:
        """Code vectors (B, d, side, side) of a scale -> their share of the sum (B, d, *full)."""
        up = resize(vectors.contiguous(), tuple(full), self.scales.up)
        return self.smoothings[self.scales.smoother(scale)](up) if self.smoothings else up

    def sides_of(self, features: Tensor) -> list[tuple[int, int]]:
        """The sizes of all scales. Raises ValueError where the feature map is not the last scale's square."""
        last = self.scales.sides[-1]
        if features.shape[-2:] != (last, last):
            raise ValueError(
                f"features must be {last} x {last} for scales {self.scales.sides}, got {tuple(features.shape[-2:])}"
            )
        return [(side, side) for side in self.scales.sides]
