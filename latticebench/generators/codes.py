"""Between what a head predicts and codes: targets of a loss, and draws.

A full head has one logit a code. A factorised head has one softmax a digit; where every digit string is a code (bsq,
fsq, products) digits are drawn apart, else (Leech) every code is scored by the sum of its digits' log-probabilities
and the draw is from that joint, so that only codes are ever emitted.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from latticebench.errors import BadInput
from latticebench.generators import heads, sampling
from latticebench.quantizers import Quantizer

MOST_JOINT = 2**22
"""A constrained code with more codes than this cannot be scored code by code."""


class Codes:
    """The codes of a quantizer as a head of `digit_sizes` sees them.

    digit_sizes: (K,) for one softmax over all codes, else the quantizer's digits. Raises BadInput where they are
    neither, where nothing is quantized, or where codes are constrained and too many.
    """

    def __init__(self, quantizer: Quantizer, digit_sizes: tuple[int, ...]) -> None:
        if not quantizer.quantizes:
            raise BadInput(f"{quantizer.name} quantizes nothing, so there are no tokens to predict")
        own = tuple(quantizer.digit_sizes)
        if digit_sizes not in ((quantizer.codebook_size,), own):
            raise BadInput(
                f"the head predicts digits of sizes {digit_sizes[:4]}…, the tokenizer has {quantizer.codebook_size} codes"
                f" of {len(own)} digits"
            )
        self.quantizer, self.sizes = quantizer, digit_sizes
        self.full = len(digit_sizes) == 1
        self.constrained = math.prod(digit_sizes) != quantizer.codebook_size
        if self.constrained and quantizer.codebook_size > MOST_JOINT:
            raise BadInput(
                f"{quantizer.name}: {quantizer.codebook_size} of {math.prod(digit_sizes)} digit strings are codes; "
                "they are too many to be scored one by one"
            )
        self._columns: Tensor | None = None

    @property
    def choices(self) -> int:
        """Numbers a token that a draw has in memory."""
        return self.quantizer.codebook_size if self.full or self.constrained else sum(self.sizes)

    def targets(self, indices: Tensor) -> Tensor:
        """indices (...) -> what the loss compares with: (...) for a full head, else digits (..., n)."""
        return indices if self.full else self.quantizer.to_digits(indices)

    def loss(self, head: torch.nn.Module, hidden: Tensor, indices: Tensor, z_weight: float) -> heads.HeadLoss:
        """hidden (n, width) and indices (n,) -> the loss of a head. A full linear head never makes all logits."""
        if self.full and isinstance(head, torch.nn.Linear):
            return heads.linear_cross_entropy(hidden, head.weight, head.bias, indices, z_weight=z_weight)
        targets = indices.unsqueeze(-1) if self.full else self.targets(indices)
        return heads.digit_cross_entropy(head(hidden), self.sizes, targets, z_weight=z_weight)

    def nats(self, head: torch.nn.Module, hidden: Tensor, indices: Tensor) -> Tensor:
        """hidden (n, width) and indices (n,) -> the negative log-probability (n,) of each code.

        Of constrained codes that of the joint over codes, which `draw` draws from; `loss` has that of digit strings.
        """
        if not self.constrained:
            return self.loss(head, hidden, indices, 0.0).nll
        found = []
        at_once = max(1, sampling.LOGITS_AT_ONCE // self.choices)
        for x, targets in zip(hidden.split(at_once), indices.split(at_once), strict=True):
            joint = self.joint(head(x))
            found.append(joint.logsumexp(dim=-1) - joint.gather(-1, targets[:, None])[:, 0])
        return torch.cat(found)

    def joint(self, logits: Tensor) -> Tensor:
        """Logits (..., Σ sizes) -> log-probabilities of all codes (..., K), of digit strings: they need not add up to 1."""
        parts = [part.log_softmax(dim=-1) for part in logits.split(self.sizes, dim=-1)]
        flat = torch.cat(parts, dim=-1).flatten(0, -2)
        # A bag a code, summed over its digits in order, a column a token: the same sum whatever the batch.
        joint = functional.embedding_bag(self._digit_columns(logits.device), flat.T.contiguous(), mode="sum")
        return joint.T.unflatten(0, logits.shape[:-1])

    def draw(self, logits: Tensor, top_k: int, top_p: float, uniforms: sampling.Uniforms) -> Tensor:
        """Logits (B, n, Σ sizes) -> indices (B, n) int64."""
        if self.full:
            return sampling.pick(logits, top_k, top_p, uniforms)
        if self.constrained:
            return sampling.pick(self.joint(logits), top_k, top_p, uniforms)
        parts = logits.split(self.sizes, dim=-1)
        digits = [sampling.pick(part, top_k, top_p, uniforms) for part in parts]
        return self.quantizer.from_digits(torch.stack(digits, dim=-1))

    def tokens(
        self,
        head: torch.nn.Module,
        features: Tensor,
        strength: float | None,
        temperature: float,
        top_k: int,
        top_p: float,
        uniforms: sampling.Uniforms,
    ) -> Tensor:
        """What a head draws from features (B, n, width), or (2B, n, width) with the unguided ones behind: (B, n) int64.

        strength: of the guidance, or None. A few samples at a time: logits over 196,560 codes take more memory than
        all the rest.
        """
        batch = len(uniforms)
        at_once = max(1, sampling.LOGITS_AT_ONCE // (features.shape[1] * self.choices))
        tokens = []
        for start in range(0, batch, at_once):
            rows = slice(start, min(batch, start + at_once))
            logits = head(features[:batch][rows])
            if strength is not None:
                logits = sampling.guided(logits / temperature, head(features[batch:][rows]) / temperature, strength)
            elif temperature != 1:
                logits = logits / temperature
            tokens.append(self.draw(logits, top_k, top_p, uniforms[rows]))
        return torch.cat(tokens)

    @torch.no_grad()
    def start(self, head: torch.nn.Module, indices: Tensor) -> None:
        """Sets a linear head's biases to the log frequencies of its outputs in indices (N,), one added to each count."""
        if not isinstance(head, torch.nn.Linear):
            return
        targets = self.targets(indices).reshape(-1, len(self.sizes))
        parts = []
        for place, size in enumerate(self.sizes):
            counts = torch.bincount(targets[:, place], minlength=size).double() + 1
            parts.append(torch.log(counts / counts.sum()))
        head.bias.copy_(torch.cat(parts))

    def _digit_columns(self, device: torch.device) -> Tensor:
        """(K, n): which of the head's outputs each digit of each code is."""
        if self._columns is None or self._columns.device != device:
            starts = torch.tensor([sum(self.sizes[:i]) for i in range(len(self.sizes))], device=device)
            every = torch.arange(self.quantizer.codebook_size, device=device)
            self._columns = self.quantizer.to_digits(every) + starts
        return self._columns
