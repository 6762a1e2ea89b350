"""A plain autoregressive generator over a single grid of tokens, row by row: the same for every quantizer.

Decoder-only as in Esser, Rombach and Ommer, "Taming transformers", CVPR 2021 (arXiv:2012.09841), of the blocks of
the codec's prior (`raster`). A step predicts one token from the class and all tokens before it; of these it reads the
code vectors of the one before and of the one above.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from latticebench.errors import BadInput
from latticebench.generators import sampling
from latticebench.generators.codes import Codes
from latticebench.generators.raster import Block, Cache, RMSNorm


@dataclasses.dataclass(frozen=True)
class TokenRasterParameters:
    """
    latent: dimension of the code vectors
    digit_sizes: sizes of a token's digits: (K,) for one softmax over all codes, else factorised
    side: of the grid, in tokens
    width, layers, heads: of the transformer
    classes: number of classes, 0 for an unconditional model; one row more is embedded, the last one for no class
    class_drop: probability that training forgets the class (`sampling.class_drops` draws); guidance needs it above 0
    """

    latent: int
    digit_sizes: tuple[int, ...]
    side: int
    width: int = 256
    layers: int = 6
    heads: int = 4
    classes: int = 0
    class_drop: float = 0.1

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise BadInput(f"raster transformer: width {self.width} must be a multiple of heads {self.heads}")
        if min(self.side, self.layers, self.latent) < 1 or self.classes < 0:
            raise BadInput("raster transformer: side, layers and latent must be at least 1 and classes at least 0")
        if not 0 <= self.class_drop < 1:
            raise BadInput(f"raster transformer: class_drop must lie in [0, 1), got {self.class_drop}")

    @property
    def tokens(self) -> int:
        """Length of the sequence."""
        return self.side * self.side


class TokenRasterTransformer(nn.Module):
    """Class and code vectors -> what the head reads, and the head."""

    def __init__(self, parameters: TokenRasterParameters) -> None:
        super().__init__()
        self.parameters_dataclass = p = parameters
        self.before = nn.Linear(p.latent, p.width, bias=False)
        self.above = nn.Linear(p.latent, p.width, bias=False)
        self.place = nn.Parameter(torch.randn(p.tokens, p.width) * 0.02)
        self.class_embedding = nn.Embedding(p.classes + 1, p.width)
        self.blocks = nn.ModuleList(Block(p.width, p.heads) for _ in range(p.layers))
        self.norm = RMSNorm(p.width)
        self.head = nn.Linear(p.width, sum(p.digit_sizes))
        nn.init.normal_(self.class_embedding.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def rows(self, class_ids: Tensor | None, batch: int, drop: Tensor | None = None) -> Tensor:
        """Class ids (B,), or None for no class -> rows of the class embedding (B,). Raises IndexError.

        drop: bool (B,), whose class is forgotten.
        """
        p, device = self.parameters_dataclass, self.place.device
        if class_ids is None:
            return torch.full((batch,), p.classes, device=device)
        if class_ids.numel() and not bool(((class_ids >= 0) & (class_ids < p.classes)).all()):
            raise IndexError(f"class ids lie in [0, {p.classes}), got {int(class_ids.min())} to {int(class_ids.max())}")
        rows = class_ids.to(device)
        return rows if drop is None else rows.masked_fill(drop.to(device), p.classes)

    def features(self, class_rows: Tensor, vectors: Tensor) -> Tensor:
        """class_rows (B,), code vectors of the first n tokens (B, n, latent) -> (B, min(n + 1, tokens), width), causal."""
        p = self.parameters_dataclass
        steps = min(vectors.shape[1] + 1, p.tokens)
        start = self.class_embedding(class_rows).unsqueeze(1)
        x = torch.cat([start, self.before(vectors[:, : steps - 1])], dim=1) + self.place[:steps]
        if steps > p.side:
            x = x + functional.pad(self.above(vectors[:, : steps - p.side]), (0, 0, p.side, 0))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def step(self, class_rows: Tensor, vectors: Tensor, caches: list[Cache]) -> Tensor:
        """Features of the next token (B, 1, width), given the vectors (B, n, latent) and the caches of those before it."""
        at, side = vectors.shape[1], self.parameters_dataclass.side
        x = self.before(vectors[:, -1:]) if at else self.class_embedding(class_rows).unsqueeze(1)
        x = x + self.place[at]
        if at >= side:
            x = x + self.above(vectors[:, at - side : at - side + 1])
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cache)
        return self.norm(x)


class RasterGenerator(nn.Module):
    """A raster transformer over one single-scale tokenizer and one class list.

    The tokenizer is not part of the state dict; its fingerprint is held so that another row order is an error.
    """

    def __init__(self, transformer: TokenRasterTransformer, tokenizer: nn.Module, class_list: str = "local") -> None:
        super().__init__()
        p = transformer.parameters_dataclass
        if tuple(tokenizer.scales) != (p.side,):
            raise BadInput(f"the transformer has one scale of {p.side}, the tokenizer {tuple(tokenizer.scales)}")
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

    def logits(self, class_ids: Tensor | None, indices: list[Tensor]) -> Tensor:
        """Teacher forcing: (B, tokens, K). Raises ValueError with a factorised head."""
        if not self.full:
            raise ValueError("a factorised head has digit_logits only")
        return self.transformer.head(self._features(class_ids, indices, None))

    def digit_logits(self, class_ids: Tensor | None, indices: list[Tensor]) -> list[Tensor]:
        """Teacher forcing: for each digit (B, tokens, size)."""
        made = self.transformer.head(self._features(class_ids, indices, None))
        return list(made.split(self.transformer.parameters_dataclass.digit_sizes, dim=-1))

    def loss(
        self, class_ids: Tensor | None, tokens: list[Tensor], *, drop: Tensor | None = None, z_weight: float = 0.0
    ) -> dict[str, Tensor]:
        """class_ids (B,), tokens: a list of one map (B, side, side). drop: bool (B,), whose class is forgotten.

        Returns scalars in nats a token: `loss` with the Z-loss, which alone has a gradient, `cross_entropy` without it,
        and the mean |log Z|, `log_z`.
        """
        hidden = self._features(class_ids, tokens, drop)
        made = self.codes.loss(self.transformer.head, hidden.flatten(0, 1), tokens[0].flatten(), z_weight)
        return {"loss": made.loss, "cross_entropy": made.nll.mean(), "log_z": made.log_z.abs().mean()}

    @torch.no_grad()
    def nats(self, class_ids: Tensor | None, tokens: list[Tensor]) -> Tensor:
        """The cross-entropy of each token (B, tokens), told the classes (B,); tokens as in `loss`."""
        hidden = self._features(class_ids, tokens, None)
        nats = self.codes.nats(self.transformer.head, hidden.flatten(0, 1), tokens[0].flatten())
        return nats.unflatten(0, hidden.shape[:2])

    def start_from(self, tokens: list[Tensor]) -> None:
        """Sets the head's biases to the log frequencies of training tokens, a list of one map (N, side, side)."""
        self.codes.start(self.transformer.head, tokens[0].flatten())

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
        """One sample a class id (B,) (None: no class) and seed (B,): a list of one int64 map (B, side, side).

        guidance s: s·c + (1 − s)·u, a number or (first token, last token), linear in between; so is top_k.
        at_once: samples in a batch; a sample depends on its class, its seed and this. With cache=False every step runs
        over all tokens so far: the readable path that the cache is tested against.
        Raises BadInput on guidance of a model that never forgot the class, IndexError on a class it does not have.
        """
        p = self.transformer.parameters_dataclass
        sampling.check(temperature, top_p)
        guides = sampling.guides(guidance, p.tokens, p.class_drop, 0 if class_ids is None else p.classes)
        done = []
        for ids, tile, count in sampling.tiles(class_ids, seeds, at_once):
            tokens = self._sample(ids, tile, guidance if guides else None, temperature, top_k, top_p, cache)
            done.append(tokens[:count].unflatten(1, (p.side, p.side)))
        return [torch.cat(done)]

    def _sample(
        self,
        class_ids: Tensor | None,
        seeds: Tensor,
        guidance: float | tuple[float, float] | None,
        temperature: float,
        top_k: int | tuple[int, int],
        top_p: float,
        cache: bool,
    ) -> Tensor:
        """-> tokens (B, n)."""
        p, head = self.transformer.parameters_dataclass, self.transformer.head
        batch, times = len(seeds), 1 if guidance is None else 2
        rows = self.transformer.rows(class_ids, batch)
        both = rows if guidance is None else torch.cat([rows, self.transformer.rows(None, batch)])
        uniforms = sampling.generators(seeds)
        caches = [Cache(p.tokens) for _ in range(p.layers)]
        vectors = self.transformer.place.new_zeros(times * batch, p.tokens, p.latent)
        tokens = torch.zeros(batch, p.tokens, dtype=torch.int64, device=vectors.device)
        for at in range(p.tokens):
            before, model = vectors[:, :at], self.transformer
            features = model.step(both, before, caches) if cache else model.features(both, before)[:, -1:]
            strength = None if guidance is None else sampling.linear(guidance, at, p.tokens)
            keep = round(sampling.linear(top_k, at, p.tokens))
            tokens[:, at] = self.codes.tokens(head, features, strength, temperature, keep, top_p, uniforms)[:, 0]
            vectors[:, at] = self._vectors(tokens[:, at]).repeat(times, 1)
        return tokens

    def _features(self, class_ids: Tensor | None, indices: list[Tensor], drop: Tensor | None) -> Tensor:
        if len(indices) != 1 or indices[0].shape[1:] != (self.transformer.parameters_dataclass.side,) * 2:
            raise ValueError(f"one map of the grid's size expected, got {[tuple(i.shape) for i in indices]}")
        rows = self.transformer.rows(class_ids, len(indices[0]), drop)
        return self.transformer.features(rows, self._vectors(indices[0].flatten(1)))

    def _vectors(self, indices: Tensor) -> Tensor:
        """Code vectors (..., latent) in the transformer's type."""
        with torch.autocast(indices.device.type, enabled=False):
            return self.tokenizer.quantizer.decode(indices).detach().to(self.transformer.place.dtype)
