"""Next-scale transformers: VAR (Tian et al., arXiv:2404.02905) and Infinity-CC (arXiv:2512.14697).

A step predicts all tokens of a scale from the class and the scales before it. What it reads at a scale is
the sum of the code vectors so far, brought to that scale's size by the tokenizer (`next_input`). Queries
and keys are of unit length with a learned factor a head; norms have no parameters but are steered by the
class. The two families differ by options: positions (learned, or rotary on a grid that all scales share),
adaptive norms (one linear map a block, or one for all), and the row of "no class".
"""

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latticebench import extensions
from latticebench.errors import BadInput
from latticebench.generators import sampling
from latticebench.generators.codes import Codes

EPS = 1e-6
"""Of every layer norm."""
LARGEST_LOG_FACTOR = math.log(100)
"""Queries are scaled by at most 100."""
ROTARY_BASE = 10_000.0


@dataclasses.dataclass(frozen=True)
class NextScaleParameters:
    """
    latent: dimension of the code vectors
    digit_sizes: sizes of a token's digits: (K,) for one softmax over all codes, else factorised
    sides: side of each scale in cells, coarse to fine
    width, layers, heads: of the transformer
    hidden: inner width of the feed-forward layers; default: 4·width rounded to a multiple of 256 (VAR: 4·width)
    classes: number of classes; one row more is embedded, for no class
    no_class: whether that row is the first (class c is row c + 1) or the last
    positions: `rotary` on a common grid, or `learned` for every token
    shared_norm: one linear map from class to scales and shifts for all blocks, with an offset a block
    levels: rows of the level embedding; default: one a scale
    grid: cells a side of the common grid of rotary positions
    class_drop: probability that training forgets the class (`sampling.class_drops` draws); guidance needs it above 0
    head: what makes logits of features: `linear`, or the name of an extension of kind `head`
    """

    latent: int
    digit_sizes: tuple[int, ...]
    sides: tuple[int, ...]
    width: int = 768
    layers: int = 12
    heads: int = 8
    hidden: int | None = None
    classes: int = 1000
    no_class: Literal["first", "last"] = "first"
    positions: Literal["rotary", "learned"] = "rotary"
    shared_norm: bool = True
    levels: int | None = None
    grid: int = 64
    class_drop: float = 0.1
    head: str = "linear"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise BadInput(f"next-scale transformer: width {self.width} must be a multiple of heads {self.heads}")
        if self.positions == "rotary" and (self.width // self.heads) % 4:
            raise BadInput(
                "next-scale transformer: rotary positions need a head dimension that 4 divides, "
                f"got {self.width // self.heads}"
            )
        if self.levels is not None and self.levels < len(self.sides):
            raise BadInput(f"next-scale transformer: {self.levels} levels for {len(self.sides)} scales")
        if not 0 <= self.class_drop < 1:
            raise BadInput(f"next-scale transformer: class_drop must lie in [0, 1), got {self.class_drop}")

    @property
    def tokens(self) -> int:
        """Length of the sequence."""
        return sum(side * side for side in self.sides)

    @property
    def inner(self) -> int:
        """Inner width of the feed-forward layers."""
        if self.hidden is not None:
            return self.hidden
        return 4 * self.width if self.positions == "learned" else max(1, round(4 * self.width / 256)) * 256


def rotary_angles(sides: tuple[int, ...], grid: int, head_dim: int) -> Tensor:
    """Angles (tokens, head_dim/2) of all cells: first half of the pairs by row, second half by column.

    Cell i of a scale with s cells lies at round(grid·i/s), so that scales share one coordinate system.
    """
    quarter = head_dim // 4
    frequencies = ROTARY_BASE ** (-torch.arange(quarter, dtype=torch.float32) * 2 / (head_dim // 2))
    angles = []
    for side in sides:
        places = (torch.arange(side) * (grid / side)).round()
        by_place = places[:, None] * frequencies
        rows = by_place[:, None].expand(side, side, quarter)
        columns = by_place[None].expand(side, side, quarter)
        angles.append(torch.cat([rows, columns], dim=-1).reshape(side * side, 2 * quarter))
    return torch.cat(angles)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """x (B, heads, L, D), angles (L, D/2): turns the pairs (2i, 2i + 1) of the last dimension."""
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    return torch.stack([cos * even - sin * odd, sin * even + cos * odd], dim=-1).flatten(-2)


class Cache:
    """Keys and values of the scales that a block has seen."""

    def __init__(self) -> None:
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Adds k and v (B, heads, L, D) and returns all so far."""
        self.k = k if self.k is None else torch.cat([self.k, k], dim=2)
        self.v = v if self.v is None else torch.cat([self.v, v], dim=2)
        return self.k, self.v


class UnitAttention(nn.Module):
    """Attention with q and k of unit length and a factor exp(min(s, ln 100)) a head instead of 1/√d."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("k_bias", torch.zeros(width))  # not learned; released files carry it
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.log_factor = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4.0)))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, angles: Tensor | None, mask: Tensor | None, cache: Cache | None) -> Tensor:
        bias = torch.cat([self.q_bias, self.k_bias, self.v_bias])
        q, k, v = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = F.normalize(q, dim=-1) * self.log_factor.clamp(max=LARGEST_LOG_FACTOR).exp()
        k = F.normalize(k, dim=-1)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        if cache is not None:
            k, v = cache.extend(k, v)
        mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask, scale=1.0)
        return self.out(mixed.transpose(1, 2).flatten(2))


class SteeredBlock(nn.Module):
    """Attention and a feed-forward layer; both read a norm that the class scales and shifts and are scaled by it too."""

    def __init__(self, parameters: NextScaleParameters) -> None:
        super().__init__()
        width = parameters.width
        self.attention = UnitAttention(width, parameters.heads)
        self.up = nn.Linear(width, parameters.inner)
        self.down = nn.Linear(parameters.inner, width)
        if parameters.shared_norm:
            self.offset = nn.Parameter(torch.randn(1, 6, width) * width**-0.5)
        else:
            self.steer = nn.Linear(width, 6 * width)

    def forward(
        self, x: Tensor, condition: Tensor, angles: Tensor | None, mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """condition: (B, 6, width) with a shared norm, else the class vector (B, width)."""
        rows = self.offset + condition if condition.ndim == 3 else self.steer(F.silu(condition)).unflatten(-1, (6, -1))
        gamma1, gamma2, scale1, scale2, shift1, shift2 = rows.unsqueeze(2).unbind(1)
        x = x + gamma1 * self.attention(plain_norm(x) * (1 + scale1) + shift1, angles, mask, cache)
        inner = F.gelu(self.up(plain_norm(x) * (1 + scale2) + shift2), approximate="tanh")
        return x + gamma2 * self.down(inner)


def plain_norm(x: Tensor) -> Tensor:
    """Layer norm without parameters, in full precision."""
    return F.layer_norm(x.float() if x.dtype != torch.float64 else x, x.shape[-1:], eps=EPS)


class NextScaleTransformer(nn.Module):
    """Class and next inputs -> logits of every token of every scale."""

    def __init__(self, parameters: NextScaleParameters) -> None:
        super().__init__()
        self.parameters_dataclass = p = parameters
        width = p.width
        self.class_embedding = nn.Embedding(p.classes + 1, width)
        self.start = nn.Parameter(torch.zeros(1, p.sides[0] ** 2, width))
        self.level_embedding = nn.Embedding(p.levels or len(p.sides), width)
        if p.positions == "learned":
            self.place = nn.Parameter(torch.zeros(1, p.tokens, width))
        self.word = nn.Linear(p.latent, width)
        if p.shared_norm:
            self.steer = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(SteeredBlock(p) for _ in range(p.layers))
        self.head_steer = nn.Linear(width, 2 * width)
        self.head = _head(p)
        if self.start.device.type != "meta":
            self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """VAR's starting values: embeddings of std √(1/3C), residual branches near zero, a small head."""
        p = self.parameters_dataclass
        std = math.sqrt(1 / p.width / 3)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    module.bias.zero_()
        for table in (self.class_embedding.weight, self.start, self.level_embedding.weight):
            nn.init.trunc_normal_(table, std=std)
        if p.positions == "learned":
            nn.init.trunc_normal_(self.place, std=std)
        if isinstance(self.head, nn.Linear):
            self.head.weight.mul_(0.02)
        self.head_steer.weight.mul_(0.5)
        for block in self.blocks:
            block.attention.out.weight.div_(math.sqrt(2 * p.layers))
            block.down.weight.div_(math.sqrt(2 * p.layers))
            steering = block.offset[0] if p.shared_norm else block.steer.weight.view(6, p.width, p.width)
            steering[:2].mul_(1e-5)
            steering[2:].mul_(0.5)

    def rows(self, class_ids: Tensor | None, batch: int, drop: Tensor | None = None) -> Tensor:
        """Class ids (B,), or None for no class -> rows of the class embedding (B,). Raises IndexError.

        drop: bool (B,), whose class is forgotten.
        """
        p = self.parameters_dataclass
        device = self.start.device
        if class_ids is None:
            return torch.full((batch,), 0 if p.no_class == "first" else p.classes, device=device)
        if class_ids.numel() and not bool(((class_ids >= 0) & (class_ids < p.classes)).all()):
            raise IndexError(f"class ids lie in [0, {p.classes}), got {int(class_ids.min())} to {int(class_ids.max())}")
        rows = class_ids.to(device) + (p.no_class == "first")
        return rows if drop is None else torch.where(drop.to(device), self.rows(None, batch), rows)

    def forward(self, class_ids: Tensor | None, inputs: Tensor) -> Tensor:
        """inputs: next inputs from the second scale on (B, n, latent) -> logits (B, first + n, Σ sizes).

        n covers all scales or the first few of them.
        """
        return self.head(self.features(self.rows(class_ids, len(inputs)), inputs))

    def features(self, class_rows: Tensor, inputs: Tensor) -> Tensor:
        """As `forward`, from rows of the class embedding (B,) to what the head reads (B, first + n, width)."""
        p = self.parameters_dataclass
        vector = self.class_embedding(class_rows)
        x = torch.cat([vector.unsqueeze(1) + self.start, self.word(inputs.to(self.word.weight.dtype))], dim=1)
        level = torch.cat([torch.full((side * side,), i) for i, side in enumerate(p.sides)])[: x.shape[1]].to(x.device)
        x = self._run(self._placed(x, level, 0), vector, 0, level[:, None] >= level[None], None)
        return self._steered(x, vector)

    def step(self, class_rows: Tensor, inputs: Tensor | None, scale: int, caches: list[Cache]) -> Tensor:
        """Features of one scale (B, side², width), given the caches of those before it; inputs None at the first."""
        p = self.parameters_dataclass
        before = sum(side * side for side in p.sides[:scale])
        vector = self.class_embedding(class_rows)
        x = vector.unsqueeze(1) + self.start if inputs is None else self.word(inputs.to(self.word.weight.dtype))
        level = torch.full((x.shape[1],), scale, device=x.device)
        x = self._run(self._placed(x, level, before), vector, before, None, caches)
        return self._steered(x, vector)

    def _placed(self, x: Tensor, level: Tensor, before: int) -> Tensor:
        x = x + self.level_embedding(level)
        if self.parameters_dataclass.positions == "learned":
            x = x + self.place[:, before : before + x.shape[1]]
        return x

    def _run(self, x: Tensor, vector: Tensor, before: int, mask: Tensor | None, caches: list[Cache] | None) -> Tensor:
        p = self.parameters_dataclass
        angles = None
        if p.positions == "rotary":
            angles = rotary_angles(p.sides, p.grid, p.width // p.heads)[before : before + x.shape[1]].to(x.device)
        condition = self.steer(F.silu(vector)).unflatten(-1, (6, -1)) if p.shared_norm else vector
        for i, block in enumerate(self.blocks):
            x = block(x, condition, angles, mask, caches[i] if caches else None)
        return x

    def _steered(self, x: Tensor, vector: Tensor) -> Tensor:
        scale, shift = self.head_steer(F.silu(vector)).unflatten(-1, (2, -1)).unsqueeze(2).unbind(1)
        return plain_norm(x) * (1 + scale) + shift


def _head(p: NextScaleParameters) -> nn.Module:
    """(B, n, width) -> (B, n, Σ sizes). Raises BadInput on an unknown name."""
    if p.head == "linear":
        return nn.Linear(p.width, sum(p.digit_sizes))
    own = extensions.find("head")
    if p.head not in own:
        raise BadInput(f"next-scale transformer: unknown head {p.head!r}; known: {', '.join(['linear', *own])}")
    return own[p.head](p.width, p.digit_sizes)


def _repeated(x: Tensor, rows: Tensor) -> Tensor:
    """x (B, …) once or twice, as many as there are rows."""
    return x if len(x) == len(rows) else torch.cat([x, x])


class NextScaleGenerator(nn.Module):
    """A next-scale transformer over one multi-scale tokenizer and one class list.

    The tokenizer is not part of the state dict; its fingerprint is held so that another row order is an error.
    """

    def __init__(self, transformer: NextScaleTransformer, tokenizer: nn.Module, class_list: str = "ilsvrc") -> None:
        super().__init__()
        p = transformer.parameters_dataclass
        if tuple(tokenizer.scales) != p.sides:
            raise BadInput(f"the transformer has scales {p.sides}, the tokenizer {tuple(tokenizer.scales)}")
        if tokenizer.quantizer.dim != p.latent:
            raise BadInput(f"the transformer reads {p.latent} dimensions, the tokenizer has {tokenizer.quantizer.dim}")
        self.codes = Codes(tokenizer.quantizer, p.digit_sizes)
        self.transformer = transformer
        self.class_list = class_list
        self.tokenizer_fingerprint = tokenizer.quantizer.fingerprint
        self._tokenizer = (tokenizer,)  # a tuple hides it from nn.Module

    @property
    def tokenizer(self) -> nn.Module:
        """The tokenizer whose tokens it models."""
        return self._tokenizer[0]

    @property
    def full(self) -> bool:
        """Whether one softmax covers all codes."""
        return self.codes.full

    def inputs(self, indices: list[Tensor]) -> Tensor:
        """Index maps (B, side, side) of all scales but the last (more are ignored) -> (B, tokens − first, latent)."""
        sides = self.transformer.parameters_dataclass.sides
        sums = self.tokenizer.partial_sums(indices[: len(sides) - 1])
        maps = [self.tokenizer.next_input(total, scale) for scale, total in enumerate(sums, start=1)]
        if not maps:
            return self.start_inputs(len(indices[0]))
        return torch.cat([m.flatten(1, 2) for m in maps], dim=1)

    def start_inputs(self, batch: int) -> Tensor:
        """What is read before any scale is known: (B, 0, latent)."""
        return self.transformer.start.new_zeros(batch, 0, self.transformer.parameters_dataclass.latent)

    def logits(self, class_ids: Tensor | None, indices: list[Tensor]) -> Tensor:
        """Teacher forcing: (B, tokens, K), scales in order. Raises ValueError with a factorised head."""
        if not self.full:
            raise ValueError("a factorised head has digit_logits only")
        return self.transformer(class_ids, self.inputs(indices))

    def digit_logits(self, class_ids: Tensor | None, indices: list[Tensor]) -> list[Tensor]:
        """Teacher forcing: for each digit (B, tokens, size)."""
        sizes = self.transformer.parameters_dataclass.digit_sizes
        return list(self.transformer(class_ids, self.inputs(indices)).split(sizes, dim=-1))

    def loss(
        self, class_ids: Tensor | None, tokens: list[Tensor], *, drop: Tensor | None = None, z_weight: float = 0.0
    ) -> dict[str, Tensor]:
        """Of all scales at once, the true coarser ones given. class_ids (B,), tokens: a map (B, side, side) a scale.

        drop: bool (B,), whose class is forgotten. Returns scalars in nats a token: `loss` with the Z-loss, which alone
        has a gradient, `cross_entropy` without it, `cross_entropy_<i>` of each scale, and the mean |log Z|, `log_z`.
        """
        sides, batch = self.transformer.parameters_dataclass.sides, len(tokens[0])
        rows = self.transformer.rows(class_ids, batch, drop)
        hidden = self.transformer.features(rows, self.inputs(tokens))
        indices = torch.cat([each.flatten(1) for each in tokens], dim=1)
        made = self.codes.loss(self.transformer.head, hidden.flatten(0, 1), indices.flatten(), z_weight)
        nll = made.nll.unflatten(0, (batch, -1))
        result = {"loss": made.loss, "cross_entropy": nll.mean(), "log_z": made.log_z.abs().mean()}
        for scale, part in enumerate(nll.split([side * side for side in sides], dim=1)):
            result[f"cross_entropy_{scale}"] = part.mean()
        return result

    @torch.no_grad()
    def nats(self, class_ids: Tensor | None, tokens: list[Tensor]) -> Tensor:
        """The cross-entropy of each token (B, tokens), scales in order, told the classes (B,); tokens as in `loss`."""
        hidden = self.transformer.features(self.transformer.rows(class_ids, len(tokens[0])), self.inputs(tokens))
        indices = torch.cat([each.flatten(1) for each in tokens], dim=1)
        nats = self.codes.nats(self.transformer.head, hidden.flatten(0, 1), indices.flatten())
        return nats.unflatten(0, hidden.shape[:2])

    def start_from(self, tokens: list[Tensor]) -> None:
        """Sets a linear head's biases to the log frequencies of training tokens, maps (N, side, side) of all scales."""
        self.codes.start(self.transformer.head, torch.cat([each.flatten() for each in tokens]))

    @torch.no_grad()
    def sample(
        self,
        class_ids: Tensor | None,
        seeds: Tensor,
        *,
        guidance: float | tuple[float, float] = 1.0,
        temperature: float = 1.0,
        top_k: int | tuple[int, int] = 0,
        top_p: float = 0.0,
        cache: bool = True,
        at_once: int = sampling.SAMPLES_AT_ONCE,
    ) -> list[Tensor]:
        """One sample a class id (B,) (None: no class) and seed (B,): an int64 map (B, side, side) a scale.

        guidance s: s·c + (1 − s)·u, a number or (first scale, last scale), linear in between; so is top_k.
        at_once: samples in a batch; a sample depends on its class, its seed and this. With cache=False every step runs
        over all tokens so far: the readable path that the cache is tested against.
        Raises BadInput on guidance of a model that never forgot the class, IndexError on a class it does not have.
        """
        p = self.transformer.parameters_dataclass
        sampling.check(temperature, top_p)
        guides = sampling.guides(guidance, len(p.sides), p.class_drop, 0 if class_ids is None else p.classes)
        done: list[list[Tensor]] = []
        for ids, tile, count in sampling.tiles(class_ids, seeds, at_once):
            maps = self._sample(ids, tile, guidance if guides else None, temperature, top_k, top_p, cache)
            done.append([each[:count] for each in maps])
        return [torch.cat(maps) for maps in zip(*done, strict=True)]

    def _sample(
        self,
        class_ids: Tensor | None,
        seeds: Tensor,
        guidance: float | tuple[float, float] | None,
        temperature: float,
        top_k: int | tuple[int, int],
        top_p: float,
        cache: bool,
    ) -> list[Tensor]:
        p = self.transformer.parameters_dataclass
        batch, steps, head = len(seeds), len(p.sides), self.transformer.head
        rows = self.transformer.rows(class_ids, batch)
        both = rows if guidance is None else torch.cat([rows, self.transformer.rows(None, batch)])
        uniforms = sampling.generators(seeds)
        caches = [Cache() for _ in range(p.layers)]
        indices: list[Tensor] = []
        given: list[Tensor] = []
        for scale, side in enumerate(p.sides):
            if cache:
                inputs = _repeated(given[-1], both) if given else None
                features = self.transformer.step(both, inputs, scale, caches)
            else:
                before = torch.cat(given, dim=1) if given else self.start_inputs(batch)
                features = self.transformer.features(both, _repeated(before, both))[:, -side * side :]
            strength = None if guidance is None else sampling.linear(guidance, scale, steps)
            keep = round(sampling.linear(top_k, scale, steps))
            tokens = self.codes.tokens(head, features, strength, temperature, keep, top_p, uniforms)
            indices.append(tokens.reshape(batch, side, side))
            if scale + 1 < steps:
                total = self.tokenizer.partial_sums(indices)[-1]
                given.append(self.tokenizer.next_input(total, scale + 1).flatten(1, 2))
        return indices
