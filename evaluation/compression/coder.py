"""The range coder: symbols in, bytes out, through `constriction`, with tables that are exact integers.

constriction gives a symbol with weight w out of n symbols the probability (w·s + 1) / 2^24, where s brings the
sum of the weights to 2^24 − n. A table here already sums to 2^24 − n, so s is 1 and no rounding happens: the
probability is (w + 1) / 2^24, whatever the machine.
"""

import constriction
import numpy as np

from latticebench.errors import BadInput

TOTAL = 2**24
"""Probabilities are multiples of 1 / TOTAL."""
_FAMILY = constriction.stream.model.Categorical(perfect=False)
_WORD = 4
_GUARD = 6
"""Zero words that a decoder puts behind a stream: two may have been left out, it reads two ahead, and one that
comes to the end of them was given too few bytes. So the work that a damaged size can ask for is bounded."""
_STRIPPED = 2 * _WORD - 1
"""Trailing zero bytes that may be left out: of the two words that end a stream, all but one byte."""


class Encoder:
    """Collects symbols; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def uniform(self, symbols: np.ndarray, size: int) -> None:
        """symbols (n,), each in [0, size), all equally likely. A single possible symbol costs nothing."""
        if size > 1 and len(symbols):
            self._coder.encode(symbols.astype(np.int32), constriction.stream.model.Uniform(size))

    def table(self, symbols: np.ndarray, table: np.ndarray) -> None:
        """symbols (n,) under one table (size,) of integers that sum to TOTAL − size."""
        if len(table) > 1 and len(symbols):
            self._coder.encode(symbols.astype(np.int32), _model(table))

    def tables(self, symbols: np.ndarray, tables: np.ndarray) -> None:
        """symbols (n,), each under its own row of tables (n, size)."""
        if tables.shape[1] > 1 and len(symbols):
            self._coder.encode(symbols.astype(np.int32), _FAMILY, tables.astype(np.float64, copy=False))

    def finish(self) -> bytes:
        """The stream: big-endian words, less the zero bytes at the end that a decoder puts back."""
        data = self._coder.get_compressed().astype(">u4").tobytes()
        kept = data.rstrip(b"\0")
        return data[: max(len(kept), len(data) - _STRIPPED)]


class Decoder:
    """Gives the symbols back in the order in which they went in; raises BadInput on a stream that cannot be."""

    def __init__(self, data: bytes) -> None:
        padded = data + bytes(-len(data) % _WORD + _WORD * _GUARD)
        words = np.frombuffer(padded, ">u4").astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def uniform(self, count: int, size: int) -> np.ndarray:
        """The next `count` equally likely symbols in [0, size), int64."""
        if size == 1 or not count:
            return np.zeros(count, np.int64)
        return self._decode(constriction.stream.model.Uniform(size), count)

    def table(self, count: int, table: np.ndarray) -> np.ndarray:
        """The next `count` symbols under one table, int64."""
        if len(table) == 1 or not count:
            return np.zeros(count, np.int64)
        return self._decode(_model(table), count)

    def tables(self, tables: np.ndarray) -> np.ndarray:
        """The next symbols, one for each row of tables, int64."""
        if tables.shape[1] == 1 or not len(tables):
            return np.zeros(len(tables), np.int64)
        return self._decode(_FAMILY, tables.astype(np.float64, copy=False))

    def _decode(self, model: constriction.stream.model.Model, argument: int | np.ndarray) -> np.ndarray:
        try:
            symbols = self._coder.decode(model, argument).astype(np.int64)
        except (AssertionError, ValueError) as error:
            raise BadInput(f"the coded tokens are damaged ({error})") from error
        if self._coder.maybe_exhausted():
            raise BadInput("the coded tokens end too early: the file is truncated or damaged")
        return symbols


def most_tokens(payload_bytes: int, least_bits: float) -> float:
    """How many tokens of at least `least_bits` bits each a stream of so many bytes can hold."""
    capacity = 8 * (payload_bytes + _STRIPPED + 2 * _WORD)
    return capacity / least_bits if least_bits > 0 else float("inf")


def table_bits(symbols: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """−log2 of the coder's probability of each symbol under its row of tables (n, size), float64 (n,)."""
    weights = np.take_along_axis(tables, symbols[:, None], axis=1)[:, 0]
    return np.log2(TOTAL) - np.log2(weights + 1)


def _model(table: np.ndarray) -> constriction.stream.model.Categorical:
    return constriction.stream.model.Categorical(table.astype(np.float64), perfect=False)
