"""The quantizer contract: what every method offers, whatever its mathematics.

A method is one file: a frozen dataclass of parameters, and a subclass of `Quantizer` under
`@register`. The conformance suite (`latticebench.quantizers.conformance`) checks all of this.
"""

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from latticebench.files import canonical_json

MAX_INDEX_SIZE = 2**62
"""The largest codebook whose indices are int64; above it a method has digits only."""


class Reference(NamedTuple):
    """Where a method is defined."""

    paper: str
    year: int
    url: str


class Quantized(NamedTuple):
    """What a forward pass gives.

    vectors: (..., d) code vectors with the method's gradient; float32, or float64 for float64 z.
    indices: (...) int64, or None where K exceeds 2^62 (see `encode_digits`).
    loss: scalar, the method's own training terms, already weighted; zero where it has none.
    terms: named scalar parts of the loss, detached, for the log.
    """

    vectors: Tensor
    indices: Tensor | None
    loss: Tensor
    terms: dict[str, Tensor]


def straight_through(q: Tensor, z: Tensor) -> Tensor:
    """q in the forward pass, bit for bit; the gradient of z in the backward pass.

    Written q + (z − z.detach()): the other common order, z + (q − z).detach(), rounds.
    """
    return q + (z - z.detach())


@contextlib.contextmanager
def full_precision(z: Tensor) -> Iterator[Tensor]:
    """Yields z in float32 (float64 stays) with autocast off: codes must not depend on the caller's autocast."""
    with torch.autocast(z.device.type, enabled=False):
        yield z if z.dtype == torch.float64 else z.float()


class Quantizer(nn.Module):
    """Maps vectors z (..., d) to one of K code vectors each.

    A subclass sets `name`, `title`, `reference` and `Parameters` (a frozen dataclass that validates
    itself in `__post_init__` with `BadInput`), calls `super().__init__(parameters)` and then sets
    `dim` and `codebook_size`, and implements `forward`, `encode` and `decode`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    reference: ClassVar[Reference]
    Parameters: ClassVar[type]
    normalize: ClassVar[bool] = False
    """Whether the method brings z to unit length itself."""
    idempotent: ClassVar[bool] = True
    """Whether `encode(preimage(i)) == i`; a method that cannot says why in `idempotent_reason`."""
    idempotent_reason: ClassVar[str] = ""

    quantizes: ClassVar[bool] = True
    """False only for `identity`: vectors pass through, there are no codes, `codebook_size` is 0."""

    dim: int
    codebook_size: int

    def __init__(self, parameters: Any) -> None:
        super().__init__()
        self.parameters_dataclass = parameters
        self.progress = 0.0

    # What a method implements ---------------------------------------------------------------

    def forward(self, z: Tensor) -> Quantized:
        """z (..., d) float -> Quantized; in training mode it may move its own buffers."""
        raise NotImplementedError

    def encode(self, z: Tensor) -> Tensor:
        """z (..., d) -> indices (...) int64. Raises OverflowError where K exceeds 2^62."""
        raise NotImplementedError

    def decode(self, indices: Tensor) -> Tensor:
        """indices (...) int64 -> code vectors (..., d). Raises IndexError on an index outside [0, K)."""
        raise NotImplementedError

    # What follows from it, and may be overridden ---------------------------------------------

    @property
    def bits(self) -> float:
        """log2 K, exact for powers of two of any size; infinite for `identity`."""
        return math.log2(self.codebook_size) if self.quantizes else math.inf

    def preimage(self, indices: Tensor) -> Tensor:
        """indices (...) -> z (..., d) with `encode(z) == indices`."""
        return self.decode(indices)

    def codebook(self) -> Tensor:
        """All code vectors (K, d) in index order. Raises MemoryError above 2^24 rows, naming digits as the way."""
        if self.codebook_size > 2**24:
            raise MemoryError(
                f"{self.name}: a table of {self.codebook_size} x {self.dim} code vectors is too large; "
                "use decode() on the indices, or digits, instead"
            )
        device = next((t.device for t in (*self.parameters(), *self.buffers())), torch.device("cpu"))
        return self.decode(torch.arange(self.codebook_size, device=device))

    @property
    def digit_sizes(self) -> tuple[int, ...]:
        """Sizes of the digits of an index. Default: the index itself as one digit."""
        return (self.codebook_size,)

    def to_digits(self, indices: Tensor) -> Tensor:
        """indices (...) -> digits (..., n) int64, digit i in [0, digit_sizes[i])."""
        self.check_indices(indices)
        return indices.unsqueeze(-1)

    def from_digits(self, digits: Tensor) -> Tensor:
        """digits (..., n) -> indices (...). Raises ValueError on a digit string that is no code."""
        self.check_digits(digits)
        return digits[..., 0].long()

    def encode_digits(self, z: Tensor) -> Tensor:
        """z (..., d) -> digits (..., n); exists for every K."""
        return self.to_digits(self.encode(z))

    def decode_digits(self, digits: Tensor) -> Tensor:
        """digits (..., n) -> code vectors (..., d); exists for every K."""
        return self.decode(self.from_digits(digits))

    @property
    def learnable(self) -> frozenset[str]:
        """Names of the state-dict entries that a training step moves (EMA buffers count)."""
        return frozenset(name for name, parameter in self.named_parameters() if parameter.requires_grad)

    def set_progress(self, fraction: float) -> None:
        """The clock of schedules: the share of training that is done, in [0, 1]."""
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"progress must lie in [0, 1], got {fraction}")
        self.progress = fraction

    def definition(self) -> dict[str, Any]:
        """What fixes the code vectors and their order apart from tensors; JSON-like. Default: all parameters."""
        return dataclasses.asdict(self.parameters_dataclass)

    def definition_tensors(self) -> dict[str, Tensor]:
        """Tensors that fix the code vectors. Default: the whole state dict."""
        return dict(self.state_dict())

    @property
    def fingerprint(self) -> str:
        """sha256 of the definition, row order and drawn or learned points; 64 hex digits."""
        digest = hashlib.sha256(canonical_json([self.name, self.dim, self.definition()]).encode())
        for key, tensor in sorted(self.definition_tensors().items()):
            array = tensor.detach().cpu().contiguous()
            digest.update(f"{key}:{array.dtype}:{tuple(array.shape)}".encode())
            digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    # Doors -----------------------------------------------------------------------------------

    def check_input(self, z: Tensor) -> None:
        """Raises ValueError unless z is (..., d) and floating."""
        if not z.is_floating_point():
            raise ValueError(f"{self.name}: z must be floating point, got {z.dtype}")
        if z.shape[-1:] != (self.dim,):
            raise ValueError(f"{self.name}: z must end in dimension {self.dim}, got shape {tuple(z.shape)}")

    def check_indices(self, indices: Tensor) -> None:
        """Raises OverflowError, TypeError or IndexError unless indices are int64 in [0, K)."""
        self.check_indexable()
        if indices.dtype != torch.int64:
            raise TypeError(f"{self.name}: indices must be int64, got {indices.dtype}")
        if indices.numel() and (indices.min() < 0 or indices.max() >= self.codebook_size):
            raise IndexError(f"{self.name}: an index lies outside [0, {self.codebook_size})")

    def check_indexable(self) -> None:
        """Raises OverflowError where K exceeds 2^62."""
        if self.codebook_size > MAX_INDEX_SIZE:
            raise OverflowError(
                f"{self.name}: K = 2^{self.bits:.0f} exceeds int64 indices; use encode_digits and decode_digits"
            )

    def check_digits(self, digits: Tensor) -> None:
        """Raises ValueError unless digits are (..., n) integers within their sizes."""
        if digits.shape[-1:] != (len(self.digit_sizes),):
            raise ValueError(f"{self.name}: {len(self.digit_sizes)} digits expected, got shape {tuple(digits.shape)}")
        if digits.is_floating_point():
            raise ValueError(f"{self.name}: digits must be integers, got {digits.dtype}")
        sizes = torch.tensor(self.digit_sizes, device=digits.device)
        if digits.numel() and bool(((digits < 0) | (digits >= sizes)).any()):
            raise ValueError(f"{self.name}: a digit lies outside its size {self.digit_sizes}")
