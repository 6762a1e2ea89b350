"""The raster transformer in exact integers: the same tables whatever the batch, the threads or the device.

Every number is an integer, held in float64 where matrices are multiplied and in int64 elsewhere. A product of
integers whose sum stays below 2^53 is exact in float64 in any order of summation, so no library, thread count or
device can change it; what is not a product is a shift, a division or a table.

Fixed point, b fractional bits: activations 12, clamped to ±2^20 (±256); weights 12, clamped to ±(2^15 − 1) (±8).
A sum over fan_in terms stays below fan_in · 2^35, exact for fan_in up to 2^17. Attention scores carry 24 bits.
Exponentials are a table of exp(−i/256), i = 0 … 4095, made by exact integer arithmetic.
"""

import dataclasses
import functools

import numpy as np
import torch
from torch import Tensor

from evaluation.compression import coder
from latticebench.errors import BadInput
from latticebench.generators.raster import RasterParameters, RasterTransformer

FRACTION = 12
_ONE = 2**FRACTION
_CLAMP = 2**20
_WEIGHT = 2**15 - 1
_TABLE = 4096
_UNITS = 16  # score and logit bits (24 fractional) below the table's unit of 1/256
_WIDE, _NARROW = 28, 16  # 28 + 24 bits of TOTAL stay below 53
_CACHED = 2**15
"""Table entries that are worked on at a time on a CPU: they stay in its cache."""
_MAX_FAN_IN = 2**17
# round(exp(-1/256) * 2^62): the table is its powers, in exact integers.
_STEP = 4593706758521714574


@functools.cache
def exponentials(bits: int) -> Tensor:
    """floor(exp(−i/256) · 2^bits) for i = 0 … 4095, float64 (4096,); the last entry stands for everything smaller."""
    value, values = 1 << 62, []
    for _ in range(_TABLE):
        values.append(value >> (62 - bits))
        value = value * _STEP >> 62
    return torch.tensor(values, dtype=torch.float64)


def integer_weights(model: RasterTransformer) -> dict[str, np.ndarray]:
    """The model's weights as integers: matrices int16 (in, out), biases int32. Norm gains go into the next matrix."""
    state = {name: tensor.detach().double().cpu() for name, tensor in model.state_dict().items()}
    width, heads = model.parameters_dataclass.width, model.parameters_dataclass.heads
    weights: dict[str, Tensor] = {"place": state["place"], "start": state["start"]}
    for kind in ("before", "above", "readout"):
        for place, table in enumerate(getattr(model, kind)):
            rows = table.rows().detach().double().cpu()
            weights[f"{kind}.{place}"] = (rows * state["norm.gain"]).T if kind == "readout" else rows
    for layer in range(len(model.blocks)):
        block = f"blocks.{layer}."
        qkv = (state[block + "qkv.weight"] * state[block + "attention_norm.gain"]).T.clone()
        qkv[:, :width] *= (width // heads) ** -0.5
        weights[block + "qkv"] = qkv
        weights[block + "out"] = state[block + "out.weight"].T
        weights[block + "up"] = (state[block + "up.weight"] * state[block + "feed_norm.gain"]).T
        weights[block + "down"] = state[block + "down.weight"].T
    arrays = {name: _to_int16(tensor) for name, tensor in weights.items()}
    for place, bias in enumerate(model.biases):
        arrays[f"bias.{place}"] = (bias.detach().double().cpu() * _ONE**2).round().clamp(-(2**30), 2**30).int().numpy()
    return arrays


def _to_int16(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray((tensor * _ONE).round().clamp(-_WEIGHT, _WEIGHT).to(torch.int16).numpy())


def shapes(parameters: RasterParameters) -> dict[str, tuple[int, ...]]:
    """The name and shape of every array of `integer_weights`."""
    width = parameters.width
    steps = parameters.grid[0] * parameters.grid[1] * len(parameters.digit_sizes)
    result: dict[str, tuple[int, ...]] = {"place": (steps, width), "start": (parameters.classes + 1, width)}
    for place, size in enumerate(parameters.digit_sizes):
        result[f"before.{place}"] = result[f"above.{place}"] = (size, width)
        result[f"readout.{place}"], result[f"bias.{place}"] = (width, size), (size,)
    for layer in range(parameters.layers):
        block = f"blocks.{layer}."
        result[block + "qkv"], result[block + "out"] = (width, 3 * width), (width, width)
        result[block + "up"], result[block + "down"] = (width, 4 * width), (4 * width, width)
    return result


@dataclasses.dataclass
class State:
    """A batch of sequences under way: digits so far (B, steps) int64, keys and values of each layer."""

    digits: Tensor
    step: int
    keys: list[Tensor]
    values: list[Tensor]


class ExactRaster:
    """Steps through sequences and gives the integer table of each next digit.

    arrays: `integer_weights` of a model. Raises BadInput where they don't fit the parameters.
    """

    def __init__(self, parameters: RasterParameters, arrays: dict[str, np.ndarray], device: str = "cpu") -> None:
        wanted = shapes(parameters)
        for name, shape in wanted.items():
            if name not in arrays or arrays[name].shape != shape:
                raise BadInput(f"the network's array {name} is missing or not {shape}")
            if arrays[name].dtype != (np.int32 if name.startswith("bias") else np.int16):
                raise BadInput(f"the network's array {name} has the wrong type {arrays[name].dtype}")
        if 4 * parameters.width > _MAX_FAN_IN or wanted["place"][0] > _MAX_FAN_IN:
            raise BadInput("the network is too large for exact arithmetic in float64")
        self.parameters, self.device = parameters, device
        self.weights = {name: torch.from_numpy(arrays[name].astype(np.float64)).to(device) for name in wanted}
        self.steps = wanted["place"][0]
        self.sizes = parameters.digit_sizes
        self._narrow = exponentials(_NARROW).to(device)
        self._wide = exponentials(_WIDE).to(device)

    def begin(self, batch: int) -> State:
        """The state before the first digit of `batch` sequences."""
        width, heads = self.parameters.width, self.parameters.heads
        empty = torch.zeros(batch, heads, self.steps, width // heads, dtype=torch.float64, device=self.device)
        layers = range(self.parameters.layers)
        return State(
            torch.zeros(batch, self.steps, dtype=torch.int64, device=self.device),
            0,
            [empty.clone() for _ in layers],
            [empty.clone() for _ in layers],
        )

    def tables(self, state: State) -> np.ndarray:
        """The tables of the next digit, integers in float64 (B, size), each summing to coder.TOTAL − size."""
        place = state.step % len(self.sizes)
        x = self._input(state)
        for layer in range(self.parameters.layers):
            x = self._block(x, layer, state)
        scores = self._normalise(x) @ self.weights[f"readout.{place}"] + self.weights[f"bias.{place}"]
        return self._to_tables(scores).cpu().numpy()

    def advance(self, state: State, digits: np.ndarray) -> None:
        """Appends the digit (B,) that came next."""
        state.digits[:, state.step] = torch.from_numpy(digits).to(self.device)
        state.step += 1

    def _input(self, state: State) -> Tensor:
        step, count = state.step, len(self.sizes)
        if step == 0:
            # The last row means "no class".
            x = self.weights["start"][-1].expand(len(state.digits), -1)
        else:
            x = self.weights[f"before.{(step - 1) % count}"][state.digits[:, step - 1]]
        row = self.parameters.grid[1] * count
        if step >= row:
            x = x + self.weights[f"above.{step % count}"][state.digits[:, step - row]]
        return x + self.weights["place"][step]

    def _block(self, x: Tensor, layer: int, state: State) -> Tensor:
        name, heads = f"blocks.{layer}.", self.parameters.heads
        qkv = self._product(self._normalise(x), name + "qkv").unflatten(-1, (3, heads, -1))
        q, k, v = qkv.unbind(1)
        keys, values = state.keys[layer], state.values[layer]
        keys[:, :, state.step], values[:, :, state.step] = k, v
        seen = slice(0, state.step + 1)
        scores = (keys[:, :, seen] @ q.unsqueeze(-1)).squeeze(-1)
        weights = self._narrow[self._distance(scores)]
        sums = (weights.unsqueeze(-2) @ values[:, :, seen]).squeeze(-2)
        mixed = _divide(sums, weights.sum(dim=-1, keepdim=True)).flatten(1)
        x = _clamped(x + self._product(mixed, name + "out"))
        up = self._product(self._normalise(x), name + "up").clamp(min=0)
        squared = _clamped(torch.floor(up * up / _ONE))
        return _clamped(x + self._product(squared, name + "down"))

    def _product(self, x: Tensor, name: str) -> Tensor:
        """x @ weights, back at 12 fractional bits. Dividing by a power of two is exact."""
        return _clamped(torch.floor(x @ self.weights[name] / _ONE))

    def _normalise(self, x: Tensor) -> Tensor:
        """x / rms(x): the root carries 8 bits more than x."""
        squares = x.square().sum(dim=-1, keepdim=True).long()
        # Divided before it is shifted: the sum of the squares alone may have 53 bits.
        mean = (squares // x.shape[-1] << 16) + ((squares % x.shape[-1]) << 16) // x.shape[-1]
        root = _integer_sqrt(mean + 1)
        return _clamped(torch.div(x.long() << (FRACTION + 8), root, rounding_mode="floor").double())

    def _distance(self, scores: Tensor) -> Tensor:
        """How far each score lies below its row's largest, in units of 1/256, int64 in [0, 4095]."""
        units = torch.floor(scores / 2**_UNITS)
        return torch.sub(units.amax(dim=-1, keepdim=True), units, out=units).clamp_(max=_TABLE - 1).long()

    def _to_tables(self, scores: Tensor) -> Tensor:
        """Scores (B, size) at 24 fractional bits -> (B, size) integers that sum to TOTAL − size."""
        rows = max(1, _CACHED // scores.shape[-1]) if scores.device.type == "cpu" else len(scores)
        wanted = coder.TOTAL - scores.shape[-1]
        tables = torch.empty_like(scores)
        for part, table in zip(scores.split(rows), tables.split(rows), strict=True):
            weights = self._wide[self._distance(part)]
            # One rounded division of exact integers: IEEE 754 fixes its result.
            torch.floor(weights.mul(wanted).div_(weights.sum(dim=-1, keepdim=True)), out=table)
            # What rounding down left, at most one part of TOTAL for each digit, goes to the last digit.
            table[:, -1] += wanted - table.sum(dim=-1)
        return tables


def _clamped(x: Tensor) -> Tensor:
    return x.clamp(-_CLAMP, _CLAMP)


def _divide(x: Tensor, by: Tensor) -> Tensor:
    return torch.div(x.long(), by.long(), rounding_mode="floor").double()


def _integer_sqrt(x: Tensor) -> Tensor:
    """floor(sqrt(x)) for int64 x below 2^60: a float root, put right by integer comparisons."""
    root = x.double().sqrt().long()
    root = torch.where(root * root > x, root - 1, root)
    return torch.where((root + 1) * (root + 1) <= x, root + 1, root)
