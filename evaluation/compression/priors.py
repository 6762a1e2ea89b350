"""What the coder knows about tokens before it sees them: the uniform and the static prior, and the door to all.

A prior is named by its fingerprint; apart from the uniform one it is one safetensors file.
"""

import abc
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from evaluation.compression import coder, digits
from evaluation.compression.layout import coding_order, from_coding_order
from latticebench.errors import BadInput, Missing
from latticebench.files import canonical_json, whole

FORMAT = "1"
METADATA = "prior"


class Prior(abc.ABC):
    """Codes token arrays (tiles, positions) int64 of one tokenizer.

    kind: the mode in the file's header. codebook_size: K. tokenizer: the fingerprint that the prior was made for,
    or None where any will do. fingerprint: 64 hex digits that fix every probability.
    """

    kind: ClassVar[str]
    codebook_size: int
    tokenizer: str | None
    fingerprint: str

    @property
    @abc.abstractmethod
    def least_bits(self) -> float:
        """The fewest bits that any token can cost."""

    @abc.abstractmethod
    def encode(self, tokens: Sequence[np.ndarray]) -> list[bytes]:
        """Each file's tokens -> its coded bytes."""

    @abc.abstractmethod
    def decode(self, payloads: Sequence[bytes], tiles: Sequence[int], positions: int) -> list[tuple[np.ndarray, bytes]]:
        """Each file's tokens, and the bytes that `encode` makes of them. Raises BadInput where there are none."""

    @abc.abstractmethod
    def bits(self, tokens: Sequence[np.ndarray]) -> np.ndarray:
        """The cross-entropy of each file's tokens in bits, float64 (files,)."""

    def encode_priced(self, tokens: Sequence[np.ndarray]) -> tuple[list[bytes], np.ndarray]:
        """`encode` and `bits` at once."""
        return self.encode(tokens), self.bits(tokens)


class UniformPrior(Prior):
    """Every code equally likely: log2 K bits a token, 17.585 and not 18 for the Leech shell."""

    kind = "uniform"
    tokenizer = None

    def __init__(self, codebook_size: int) -> None:
        self.codebook_size = codebook_size
        self.sizes = digits.digit_sizes(codebook_size)
        self.fingerprint = hashlib.sha256(f"uniform/{codebook_size}".encode()).hexdigest()

    @property
    def least_bits(self) -> float:
        return digits.bits(self.codebook_size)

    def encode(self, tokens: Sequence[np.ndarray]) -> list[bytes]:
        return [self._encode(coding_order(array)) for array in tokens]

    def _encode(self, flat: np.ndarray) -> bytes:
        encoder = coder.Encoder()
        put_uniform(encoder, flat, self.codebook_size)
        return encoder.finish()

    def decode(self, payloads: Sequence[bytes], tiles: Sequence[int], positions: int) -> list[tuple[np.ndarray, bytes]]:
        result = []
        for data, count in zip(payloads, tiles, strict=True):
            flat = get_uniform(coder.Decoder(data), count * positions, self.codebook_size)
            result.append((from_coding_order(flat, count, positions), self._encode(flat)))
        return result

    def bits(self, tokens: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([array.size * digits.bits(self.codebook_size) for array in tokens])


def put_uniform(encoder: coder.Encoder, codes: np.ndarray, codebook_size: int) -> None:
    """Appends codes (n,) digit by digit, all first digits first."""
    sizes = digits.digit_sizes(codebook_size)
    for column, size in zip(digits.split(codes, sizes).T, sizes, strict=True):
        encoder.uniform(column, size)


def get_uniform(decoder: coder.Decoder, count: int, codebook_size: int) -> np.ndarray:
    """The inverse of `put_uniform`: codes (count,) int64."""
    columns = [decoder.uniform(count, size) for size in digits.digit_sizes(codebook_size)]
    return digits.join(np.stack(columns, axis=-1) if columns else np.zeros((count, 0), np.int64), codebook_size)


class FilePrior(Prior):
    """A prior that is a file: string metadata and arrays, which `fingerprint` covers."""

    metadata: dict[str, str]
    arrays: dict[str, np.ndarray]


class StaticPrior(FilePrior):
    """Frequencies of the training tokens; a code that they lack is an escape symbol and a uniform code.

    codes: (n,) int64, ascending, the codes with a frequency of their own. table: (n + 1,) int64 that sums to
    TOTAL − (n + 1), the escape last.
    """

    kind = "static"

    def __init__(self, codes: np.ndarray, table: np.ndarray, codebook_size: int, tokenizer: str) -> None:
        if len(table) != len(codes) + 1 or table.min() < 0 or int(table.sum()) != coder.TOTAL - len(table):
            raise BadInput("a static prior's table does not sum to its total: the file is damaged")
        if len(codes) and (codes[0] < 0 or codes[-1] >= codebook_size or (np.diff(codes) <= 0).any()):
            raise BadInput("a static prior's codes are not ascending codes of the codebook: the file is damaged")
        self.codes, self.table = codes.astype(np.int64), table.astype(np.int64)
        self.codebook_size, self.tokenizer = codebook_size, tokenizer
        self.metadata = {
            "kind": self.kind,
            "format": FORMAT,
            "codebook_size": str(codebook_size),
            "tokenizer": tokenizer,
        }
        self.arrays = {"codes": self.codes, "table": self.table}
        self.fingerprint = fingerprint(self.metadata, self.arrays)

    @property
    def least_bits(self) -> float:
        bits = np.log2(coder.TOTAL) - np.log2(self.table + 1)
        bits[-1] += digits.bits(self.codebook_size)
        return float(bits.min())

    def symbols(self, codes: np.ndarray) -> np.ndarray:
        """codes (n,) -> row of each in the table, int64; the escape for a code without a frequency."""
        if not len(self.codes):
            return np.zeros(len(codes), np.int64)
        place = np.searchsorted(self.codes, codes)
        found = self.codes[np.minimum(place, len(self.codes) - 1)] == codes
        return np.where(found, place, len(self.codes))

    def encode(self, tokens: Sequence[np.ndarray]) -> list[bytes]:
        return [self._encode(coding_order(array)) for array in tokens]

    def _encode(self, flat: np.ndarray) -> bytes:
        symbols = self.symbols(flat)
        encoder = coder.Encoder()
        encoder.table(symbols, self.table)
        put_uniform(encoder, flat[symbols == len(self.codes)], self.codebook_size)
        return encoder.finish()

    def decode(self, payloads: Sequence[bytes], tiles: Sequence[int], positions: int) -> list[tuple[np.ndarray, bytes]]:
        result = []
        for data, count in zip(payloads, tiles, strict=True):
            flat = self._decode(data, count * positions)
            result.append((from_coding_order(flat, count, positions), self._encode(flat)))
        return result

    def _decode(self, data: bytes, count: int) -> np.ndarray:
        decoder = coder.Decoder(data)
        symbols = decoder.table(count, self.table)
        escaped = symbols == len(self.codes)
        codes = np.append(self.codes, 0)[symbols]
        codes[escaped] = get_uniform(decoder, int(escaped.sum()), self.codebook_size)
        return codes

    def bits(self, tokens: Sequence[np.ndarray]) -> np.ndarray:
        cost = np.log2(coder.TOTAL) - np.log2(self.table + 1)
        cost[-1] += digits.bits(self.codebook_size)
        return np.array([cost[self.symbols(array.reshape(-1))].sum() for array in tokens])


def fit_static(tokens: np.ndarray, codebook_size: int, tokenizer: str) -> StaticPrior:
    """The static prior of training tokens (any shape) int64.

    Absolute discounting (Ney, Essen and Kneser, "On structuring probabilistic dependences", 1994): each seen code
    gives up D = n1 / (n1 + 2 n2) of its count to the escape, n1 and n2 the numbers of codes seen once and twice.
    At most 2^16 − 1 codes have a frequency of their own, the most frequent ones. Raises BadInput without tokens.
    """
    if not tokens.size:
        raise BadInput("a static prior needs at least one training token")
    codes, counts = np.unique(tokens, return_counts=True)
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    unseen = len(codes) < codebook_size
    discount = min(once / (once + 2 * twice), 0.95) if once and unseen else 0.5 if unseen else 0.0
    weights = counts - discount
    kept = np.sort(np.argsort(-counts, kind="stable")[: digits.MAX_DIGIT - 1])
    escape = tokens.size - weights[kept].sum()
    shares = np.append(weights[kept], escape) / tokens.size
    return StaticPrior(codes[kept].astype(np.int64), _to_table(shares), codebook_size, tokenizer)


def _to_table(shares: np.ndarray) -> np.ndarray:
    """Shares (n,) that sum to 1 -> integers that sum to TOTAL − n, the coder's own + 1 allowed for."""
    table = np.maximum(np.floor(shares * coder.TOTAL) - 1, 0).astype(np.int64)
    table[int(shares.argmax())] += coder.TOTAL - len(table) - table.sum()
    return table


def fingerprint(metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> str:
    """sha256 over a prior's metadata and arrays; 64 hex digits."""
    digest = hashlib.sha256(canonical_json(metadata).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}:{array.dtype.name}:{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def save(prior: "FilePrior", path: str | Path) -> None:
    """Writes a prior's file, whole or not at all."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(array) for name, array in prior.arrays.items()}
    with whole(path) as temporary:
        # One key: safetensors writes several in an order that differs from process to process.
        save_file(arrays, temporary, {METADATA: canonical_json(prior.metadata)})


def load(path: str | Path) -> Prior:
    """The prior in a file. Raises Missing where there is none, BadInput on anything that is not a whole prior."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise Missing(f"prior {path} does not exist; the compression stage of `make run` writes one")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(METADATA, "")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"prior {path} is not a safetensors file: {error}") from error
    try:
        metadata = json.loads(text)
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata is no mapping of words")
        return _build(metadata, arrays)
    except (KeyError, ValueError, TypeError) as error:
        raise BadInput(f"prior {path} is damaged or no prior: {error!r}") from error
    except BadInput as error:
        raise BadInput(f"prior {path}: {error}") from error


def _build(metadata: dict[str, str], arrays: dict[str, np.ndarray]) -> Prior:
    if metadata.get("format", FORMAT) != FORMAT:
        raise BadInput(f"format {metadata['format']}; this program reads {FORMAT}: use a newer latticebench")
    if metadata.get("kind") == "static":
        return StaticPrior(arrays["codes"], arrays["table"], int(metadata["codebook_size"]), metadata["tokenizer"])
    if metadata.get("kind") == "network":
        from evaluation.compression import network

        return network.NetworkPrior(metadata, arrays)
    raise BadInput("it is neither a static nor a network prior")
