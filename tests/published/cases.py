"""The tiny models of the replayable check: their state dicts, the second reading of each, how adapters are called."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.published import numpy_reference as reference
from tests.published.numpy_reference import State

SAMPLED = 48
"""Values of each image and logits array that are compared one by one."""
CODES = 3036
"""First rows of the released codebook: four sign patterns."""
VAR_SCALES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
CC_SCALES = (1, 2, 4, 6, 8, 12, 16)
CLASSES = 5


@dataclasses.dataclass(frozen=True)
class Reading:
    """tokens: index maps, or bit maps. arrays: images or logits by name."""

    tokens: list[np.ndarray]
    arrays: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Case:
    """state: what the adapter is given. read: what the second reading makes of it. tokenizer: of a transformer."""

    family: str
    state: Callable[[], State]
    read: Callable[[], Reading]
    architecture: dict[str, Any] = dataclasses.field(default_factory=dict)
    tokenizer: str | None = None
    digits: bool = False


def images(side: int, count: int = 2) -> np.ndarray:
    """Smooth random pictures in [0, 1], float32."""
    coarse = np.random.default_rng(side).random((count, 3, 4, 4))
    return np.clip(reference.bicubic(coarse, side), 0, 1).astype(np.float32)


def class_ids() -> np.ndarray:
    return np.array([3, 0])


# State dicts --------------------------------------------------------------------------------------------------


def vit_state(kind: str) -> State:
    book = reference.leech_rows(CODES) if kind == "leech" else None
    return reference.vit_state(f"npq-vit {kind}", 32, 2, 4, 8, 32, 24 if kind == "leech" else 6, book)


def var_state() -> State:
    return reference.var_state(32, (1, 2, 2), 8, 64, VAR_SCALES)


def infinitycc_state() -> State:
    return reference.infinity_state("infinitycc-tokenizer", 32, (1, 2, 2), 24, reference.leech_rows(CODES))


def infinity_state(bits: int) -> State:
    return reference.infinity_state(f"infinity-tokenizer {bits}", 32, (1, 2, 2), bits)


def magvit_states() -> tuple[State, State]:
    return reference.with_average(reference.magvit_state("open-magvit2", 32, (1, 2, 2), 2, 6, adaptive=True))


def simvq_states() -> tuple[State, State]:
    shapes = reference.magvit_state("simvq", 32, (1, 2, 2), 1, 8, adaptive=False)
    shapes.put("quantize.embedding.weight", 64, 8, kind="plain")
    shapes.pair("quantize.embedding_proj", 8, 8)
    return reference.with_average(shapes, frozen=("quantize.embedding.weight",))


def llamagen_state() -> State:
    return reference.llamagen_state(32, (1, 2), 16, 8, 64)


def var_transformer_state() -> State:
    block = "blocks.{}".format
    state = reference.transformer_state(
        "var-transformer", 2, 32, 2, 128, 8, 64, CLASSES, len(VAR_SCALES), False, block, positions=680
    )
    level = np.concatenate([np.full(s * s, i) for i, s in enumerate(VAR_SCALES)])
    state["lvl_1L"] = level[None]
    state["attn_bias_for_masking"] = np.where(level[:, None] >= level, 0, -np.inf).astype(np.float32)[None, None]
    return state


def chunk(i: int) -> str:
    return f"block_chunks.{i // 2}.module.{i % 2}"


def infinitycc_transformer_state(shared: bool) -> State:
    family = f"infinitycc-transformer {shared}"
    return reference.transformer_state(family, 4, 64, 2, 256, 24, CODES, CLASSES, 15, shared, chunk)


# Readings -----------------------------------------------------------------------------------------------------


def single(found: tuple[np.ndarray, np.ndarray]) -> Reading:
    return Reading([found[0]], {"images": found[1]})


@functools.cache
def var() -> tuple[Reading, list[np.ndarray]]:
    maps, sums, pictures = reference.var(var_state(), images(64), VAR_SCALES, 3)
    return Reading(maps, {"images": pictures}), sums


@functools.cache
def infinitycc() -> tuple[Reading, list[np.ndarray]]:
    maps, sums, pictures = reference.infinity(infinitycc_state(), images(64), CC_SCALES, 3)
    return Reading(maps, {"images": pictures}), sums


def infinity(bits: int) -> Reading:
    maps, _, pictures = reference.infinity(infinity_state(bits), images(64), CC_SCALES, 3)
    return Reading(maps, {"images": pictures})


def var_transformer() -> Reading:
    reading, sums = var()
    inputs = reference.next_inputs(sums, VAR_SCALES, reference.area)
    state, block = var_transformer_state(), "blocks.{}".format
    logits = reference.transformer(state, class_ids(), inputs, VAR_SCALES, 2, block, 2, rotates=False)
    return Reading(reading.tokens, {"logits": logits})


def infinitycc_transformer(shared: bool) -> Reading:
    reading, sums = infinitycc()
    inputs = reference.next_inputs(sums, CC_SCALES, reference.bilinear)
    state = infinitycc_transformer_state(shared)
    logits = reference.transformer(state, class_ids() + 1, inputs, CC_SCALES, 2, chunk, 4, rotates=True)
    return Reading(reading.tokens, {"logits": logits})


CASES = {
    "npq-vit bsq": Case(
        "npq-vit",
        lambda: vit_state("bsq"),
        lambda: single(reference.vit(vit_state("bsq"), images(32), 4, 8)),
        {"heads": 4},
    ),
    "npq-vit leech": Case(
        "npq-vit",
        lambda: vit_state("leech"),
        lambda: single(reference.vit(vit_state("leech"), images(32), 4, 8)),
        {"heads": 4},
    ),
    "var-tokenizer": Case("var-tokenizer", var_state, lambda: var()[0]),
    "var-transformer": Case("var-transformer", var_transformer_state, var_transformer, tokenizer="var-tokenizer"),
    "infinitycc-tokenizer": Case("infinitycc-tokenizer", infinitycc_state, lambda: infinitycc()[0]),
    "infinitycc-transformer shared": Case(
        "infinitycc-transformer",
        lambda: infinitycc_transformer_state(True),
        lambda: infinitycc_transformer(True),
        tokenizer="infinitycc-tokenizer",
    ),
    "infinitycc-transformer unshared": Case(
        "infinitycc-transformer",
        lambda: infinitycc_transformer_state(False),
        lambda: infinitycc_transformer(False),
        tokenizer="infinitycc-tokenizer",
    ),
    "infinity-tokenizer 16": Case("infinity-tokenizer", lambda: infinity_state(16), lambda: infinity(16), digits=True),
    "infinity-tokenizer 64": Case("infinity-tokenizer", lambda: infinity_state(64), lambda: infinity(64), digits=True),
    "open-magvit2": Case(
        "open-magvit2",
        lambda: magvit_states()[0],
        lambda: single(reference.open_magvit2(magvit_states()[1], images(32), 3)),
        {"image_size": 32},
    ),
    "simvq": Case(
        "simvq",
        lambda: simvq_states()[0],
        lambda: single(reference.simvq(simvq_states()[1], images(32), 3)),
        {"image_size": 32},
    ),
    "llamagen": Case(
        "llamagen",
        llamagen_state,
        lambda: single(reference.llamagen(llamagen_state(), images(32), 2)),
        {"image_size": 32},
    ),
}


# What is kept of a reading -------------------------------------------------------------------------------------


def token_hash(tokens: list[np.ndarray]) -> str:
    """sha256 of shapes and values of all maps."""
    digest = hashlib.sha256()
    for of_scale in tokens:
        digest.update(str(of_scale.shape).encode())
        digest.update(np.ascontiguousarray(of_scale, dtype="<i8").tobytes())
    return digest.hexdigest()


def moments(array: np.ndarray) -> dict[str, Any]:
    """Mean, deviation and values at fixed places of an array."""
    flat = np.asarray(array, dtype=np.float64).ravel()
    places = np.random.default_rng(0).choice(flat.size, min(SAMPLED, flat.size), replace=False)
    return {
        "shape": list(array.shape),
        "mean": float(flat.mean()),
        "std": float(flat.std()),
        "values": [round(float(value), 7) for value in flat[places]],
    }
