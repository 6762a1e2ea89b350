"""The network prior: a raster transformer in exact integers, on each tile by itself."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from evaluation.compression import coder, digits, priors
from evaluation.compression.exact import ExactRaster, integer_weights
from evaluation.compression.layout import groups
from latticebench.errors import BadInput
from latticebench.generators.raster import RasterParameters, RasterTransformer

_BATCH_ENTRIES = 2**21
"""Table entries of one step of a batch; a group of tiles may have more."""
_KEYS = ("codebook_size", "rows", "columns", "width", "layers", "heads", "tokenizer")


class NetworkPrior(priors.FilePrior):
    """metadata, arrays: what `export` wrote. Raises BadInput where they are no prior."""

    kind = "network"

    def __init__(self, metadata: dict[str, str], arrays: dict[str, np.ndarray], device: str = "cpu") -> None:
        self.metadata, self.arrays = metadata, arrays
        self.codebook_size, self.tokenizer = int(metadata["codebook_size"]), metadata["tokenizer"]
        self.sizes = digits.digit_sizes(self.codebook_size)
        parameters = RasterParameters(
            self.sizes,
            (int(metadata["rows"]), int(metadata["columns"])),
            *(int(metadata[key]) for key in ("width", "layers", "heads")),
        )
        self.network = ExactRaster(parameters, arrays, device)
        self.positions = parameters.grid[0] * parameters.grid[1]
        self.fingerprint = priors.fingerprint(metadata, arrays)

    @property
    def least_bits(self) -> float:
        # The likeliest digit leaves one part of TOTAL to each of the others.
        return float(sum(-np.log2(1 - (size - 1) / coder.TOTAL) for size in self.sizes))

    def encode(self, tokens: Sequence[np.ndarray]) -> list[bytes]:
        return self.encode_priced(tokens)[0]

    def bits(self, tokens: Sequence[np.ndarray]) -> np.ndarray:
        return self.encode_priced(tokens)[1]

    def encode_priced(self, tokens: Sequence[np.ndarray]) -> tuple[list[bytes], np.ndarray]:
        encoders = [coder.Encoder() for _ in tokens]
        bits = np.zeros(len(tokens))
        split = self._split(tokens)

        def put(file: int, part: slice, step: int, tables: np.ndarray) -> np.ndarray:
            symbols = split[file][part, step]
            encoders[file].tables(symbols, tables)
            bits[file] += coder.table_bits(symbols, tables).sum()
            return symbols

        self._walk([len(array) for array in tokens], put)
        return [encoder.finish() for encoder in encoders], bits

    def decode(self, payloads: Sequence[bytes], tiles: Sequence[int], positions: int) -> list[tuple[np.ndarray, bytes]]:
        if positions != self.positions:
            raise BadInput(f"the prior is for {self.positions} tokens a tile and the tokenizer makes {positions}")
        decoders = [coder.Decoder(data) for data in payloads]
        encoders = [coder.Encoder() for _ in payloads]
        found = [np.zeros((count, self.network.steps), np.int64) for count in tiles]

        def take(file: int, part: slice, step: int, tables: np.ndarray) -> np.ndarray:
            symbols = decoders[file].tables(tables)
            encoders[file].tables(symbols, tables)
            found[file][part, step] = symbols
            return symbols

        self._walk(tiles, take)
        tokens = [digits.join(array.reshape(len(array), positions, -1), self.codebook_size) for array in found]
        return [(array, encoder.finish()) for array, encoder in zip(tokens, encoders, strict=True)]

    def _split(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        for array in tokens:
            if array.shape[1] != self.positions:
                raise BadInput(f"the prior is for {self.positions} tokens a tile, got {array.shape[1]}")
        return [digits.split(array, self.sizes).reshape(len(array), -1) for array in tokens]

    def _walk(self, tiles: Sequence[int], each: Callable[[int, slice, int, np.ndarray], np.ndarray]) -> None:
        """Steps through all files' tiles; `each(file, tiles, step, tables)` returns the digits that come next.

        The groups of one file follow each other, those of different files run side by side.
        """
        plan = [groups(count) for count in tiles]
        for number in range(max(map(len, plan), default=0)):
            waiting = [(file, parts[number]) for file, parts in enumerate(plan) if number < len(parts)]
            for batch in _batches(waiting, _BATCH_ENTRIES // max(self.sizes)):
                self._steps(batch, each)

    @torch.no_grad()
    def _steps(self, batch: list[tuple[int, slice]], each: Callable[[int, slice, int, np.ndarray], np.ndarray]) -> None:
        ends = np.cumsum([part.stop - part.start for _, part in batch])
        state = self.network.begin(int(ends[-1]))
        for step in range(self.network.steps):
            tables = self.network.tables(state)
            shares = np.split(tables, ends[:-1])
            symbols = [each(file, part, step, share) for (file, part), share in zip(batch, shares, strict=True)]
            self.network.advance(state, np.concatenate(symbols))


def _batches(waiting: list[tuple[int, slice]], tiles: int) -> list[list[tuple[int, slice]]]:
    result: list[list[tuple[int, slice]]] = []
    room = 0
    for file, part in waiting:
        size = part.stop - part.start
        if size > room:
            result.append([])
            room = max(tiles, size)
        result[-1].append((file, part))
        room -= size
    return result


def export(model: RasterTransformer, codebook_size: int) -> NetworkPrior:
    """The prior of a trained model: its weights as integers.

    Raises BadInput where the model's digits are not those of the codebook.
    """
    parameters: Any = model.parameters_dataclass
    if parameters.digit_sizes != digits.digit_sizes(codebook_size):
        raise BadInput(f"the model's digits {parameters.digit_sizes} are not those of K = {codebook_size}")
    values = (codebook_size, *parameters.grid, parameters.width, parameters.layers, parameters.heads, model.tokenizer)
    metadata = {key: str(value) for key, value in zip(_KEYS, values, strict=True)}
    return NetworkPrior({"kind": "network", "format": priors.FORMAT, **metadata}, integer_weights(model))
