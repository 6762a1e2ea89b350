"""A plain autoregressive transformer over the tokens of a grid, row by row: generator and codec prior.

Decoder-only as in Esser, Rombach and Ommer, "Taming transformers", CVPR 2021 (arXiv:2012.09841), with RMSNorm
(arXiv:1910.07467) and squared ReLU (arXiv:2109.08668): both have short exact-integer forms, which the codec
needs. A token is a string of digits where K is large; the sequence is then all digits of the first token, all of
the second, and so on. Beside the digit before it, each step sees the digit of its own place in the token above.
This is the codec's prior; `raster_generator` has the generator, with the same blocks and a step a token.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from latticebench.errors import BadInput


@dataclasses.dataclass(frozen=True)
class RasterParameters:
    """digit_sizes: sizes of a token's digits, (K,) where a token is one digit. grid: rows and columns of tokens.

    width, layers, heads: of the transformer. classes: number of classes; 0 for an unconditional model, else one
    row more than classes is embedded, the last one for "no class" (classifier-free guidance).
    """

    digit_sizes: tuple[int, ...]
    grid: tuple[int, int]
    width: int = 64
    layers: int = 2
    heads: int = 4
    classes: int = 0

    def __post_init__(self) -> None:
        if not self.digit_sizes or min(self.digit_sizes) < 1 or min(self.grid) < 1:
            raise BadInput(f"raster: digit sizes {self.digit_sizes} and grid {self.grid} must be positive")
        if self.width % self.heads:
            raise BadInput(f"raster: width {self.width} must be a multiple of heads {self.heads}")
        if self.layers < 1 or self.classes < 0:
            raise BadInput(
                f"raster: layers must be at least 1 and classes at least 0, got {self.layers}, {self.classes}"
            )


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) times a learned gain, over the last dimension."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps) * self.gain


class Cache:
    """Keys and values of the steps that a block has seen; room for all is taken once."""

    def __init__(self, steps: int) -> None:
        self.steps, self.length = steps, 0
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Adds one step, k and v (B, heads, 1, D), and returns all so far."""
        if self.k is None or self.v is None:
            self.k, self.v = (x.new_empty(*x.shape[:2], self.steps, x.shape[3]) for x in (k, v))
        at, self.length = self.length, self.length + 1
        self.k[:, :, at], self.v[:, :, at] = k[:, :, 0], v[:, :, 0]
        return self.k[:, :, : self.length], self.v[:, :, : self.length]


class Block(nn.Module):
    """Causal self-attention and a squared-ReLU layer, each after a norm and added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_norm = RMSNorm(width), RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor, cache: "Cache | None" = None) -> Tensor:
        """x (B, T, width) -> the same shape; with a cache, T is 1 and the steps before are in the cache."""
        q, k, v = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache.extend(k, v)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(functional.relu(self.up(self.feed_norm(x))).square())


class DigitTable(nn.Module):
    """One row a digit value: known features times a learned matrix, plus a learned row of its own.

    features (size, f), e.g. code vectors, let values that are close share what is learned; without them
    the table is an ordinary embedding.
    """

    def __init__(self, size: int, width: int, features: Tensor | None, scale: float) -> None:
        super().__init__()
        own = torch.randn(size, width) * scale if features is None else torch.zeros(size, width)
        self.own = nn.Parameter(own)
        self.register_buffer("features", features)
        if features is not None:
            self.mix = nn.Parameter(torch.randn(features.shape[1], width) * scale)

    def rows(self) -> Tensor:
        """All rows (size, width)."""
        return self.own if self.features is None else self.own + self.features @ self.mix


class RasterTransformer(nn.Module):
    """Predicts each digit of each token from all digits before it.

    features: for each digit a (size, f) table that describes its values, or None. tokenizer: fingerprint of the
    tokenizer whose tokens it models.
    """

    def __init__(
        self, parameters: RasterParameters, features: list[Tensor | None] | None = None, tokenizer: str = ""
    ) -> None:
        super().__init__()
        self.parameters_dataclass = parameters
        self.tokenizer = tokenizer
        sizes, width = parameters.digit_sizes, parameters.width
        self.positions = parameters.grid[0] * parameters.grid[1]
        self.steps = self.positions * len(sizes)
        features = features or [None] * len(sizes)
        self.before = nn.ModuleList(DigitTable(n, width, f, 0.1) for n, f in zip(sizes, features, strict=True))
        self.above = nn.ModuleList(DigitTable(n, width, f, 0.1) for n, f in zip(sizes, features, strict=True))
        self.place = nn.Parameter(torch.randn(self.steps, width) * 0.02)
        self.start = nn.Parameter(torch.randn(parameters.classes + 1, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, parameters.heads) for _ in range(parameters.layers))
        self.norm = RMSNorm(width)
        self.readout = nn.ModuleList(DigitTable(n, width, f, 0.02) for n, f in zip(sizes, features, strict=True))
        self.biases = nn.ParameterList(torch.zeros(n) for n in sizes)

    @torch.no_grad()
    def start_from(self, digits: Tensor) -> None:
        """Sets the output biases to the log frequencies of digits (N, positions, n), one added to each count."""
        for place, bias in enumerate(self.biases):
            counts = torch.bincount(digits[..., place].flatten(), minlength=len(bias)).float() + 1
            bias.copy_(torch.log(counts / counts.sum()))

    def digit_logits(self, class_ids: Tensor | None, digits: Tensor) -> list[Tensor]:
        """digits (B, positions, n) int64 -> for each digit the logits (B, positions, size), causal.

        class_ids (B,) int64 or None for no class.
        """
        hidden = self.norm(self._trunk(class_ids, digits)).unflatten(1, (self.positions, -1))
        return [
            functional.linear(hidden[:, :, place], head.rows(), bias)
            for place, (head, bias) in enumerate(zip(self.readout, self.biases, strict=True))
        ]

    def logits(self, class_ids: Tensor | None, indices: Tensor) -> Tensor:
        """indices (B, h, w) int64 -> (B, h, w, K). Raises ValueError where tokens have several digits."""
        if len(self.readout) != 1:
            raise ValueError("a token has several digits here: use digit_logits")
        return self.digit_logits(class_ids, indices.flatten(1).unsqueeze(-1))[0].unflatten(1, indices.shape[1:])

    def loss(self, class_ids: Tensor | None, digits: Tensor) -> Tensor:
        """Mean cross-entropy of a token in bits: the sum over its digits."""
        losses = [
            functional.cross_entropy(logits.flatten(0, 1), digits[..., place].flatten())
            for place, logits in enumerate(self.digit_logits(class_ids, digits))
        ]
        return torch.stack(losses).sum() / torch.log(torch.tensor(2.0))

    def _trunk(self, class_ids: Tensor | None, digits: Tensor) -> Tensor:
        batch, columns, count = len(digits), self.parameters_dataclass.grid[1], digits.shape[-1]
        if class_ids is None:
            class_ids = digits.new_full((batch,), self.parameters_dataclass.classes)
        before = self._look_up(self.before, digits).flatten(1, 2)
        above = self._look_up(self.above, digits).flatten(1, 2)
        x = torch.cat([self.start[class_ids].unsqueeze(1), before[:, :-1]], dim=1)
        x = x + self.place + functional.pad(above[:, : self.steps - columns * count], (0, 0, columns * count, 0))
        for block in self.blocks:
            x = block(x)
        return x

    @staticmethod
    def _look_up(tables: nn.ModuleList, digits: Tensor) -> Tensor:
        """digits (B, positions, n) -> (B, positions, n, width)."""
        rows = [functional.embedding(digits[..., place], table.rows()) for place, table in enumerate(tables)]
        return torch.stack(rows, dim=2)
