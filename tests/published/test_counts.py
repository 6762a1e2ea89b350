"""The second reading at the released sizes: as many tensors and numbers as the authors' code has, and our modules fit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from latticebench import published, weights
from tests.published import numpy_reference as reference
from tests.published.cases import CC_SCALES, VAR_SCALES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shapes_only(monkeypatch):
    """State dicts whose entries take no memory."""

    def put(self, key, *shape, kind="weight"):
        self.state[key] = np.broadcast_to(np.float32(0), shape)

    monkeypatch.setattr(reference.Shapes, "put", put)


def magvit(*arguments, **options):
    return reference.magvit_state("x", *arguments, **options).state


def simvq(size):
    state = reference.magvit_state("simvq", 128, (1, 2, 2, 4), 2, 128, adaptive=False)
    state.put("quantize.embedding.weight", size, 128)
    state.pair("quantize.embedding_proj", 128, 128)
    return state.state


def chunked(layers):
    return lambda i: f"block_chunks.{i // (layers // 4)}.module.{i % (layers // 4)}"


def cc(layers, width, heads, shared):
    hidden = round(4 * width / 256) * 256
    return reference.transformer_state(
        "x", layers, width, heads, hidden, 24, 196_560, 1000, 15, shared, chunked(layers)
    )


BOOK = np.broadcast_to(np.float32(0), (196_560, 24))

RELEASED = {
    "bsq 18": (lambda: reference.vit_state("x", 768, 12, 12, 8, 256, 18), 309, 174_816_229),
    "leech vit": (lambda: reference.vit_state("x", 768, 12, 12, 8, 256, 24, BOOK), 308, 179_542_872),
    "var tokenizer": (lambda: reference.var_state(160, (1, 1, 2, 2, 4), 32, 4096, VAR_SCALES), 324, 108_989_315),
    "infinity-cc tokenizer": (
        lambda: reference.infinity_state("x", 128, (1, 2, 4, 4, 4), 24, BOOK),
        270,
        119_479_195,
    ),
    "infinity 16": (lambda: reference.infinity_state("x", 128, (1, 2, 4, 4, 4), 16), 270, 109_970_579 + 2 * 16),
    "infinity 64": (lambda: reference.infinity_state("x", 128, (1, 2, 4, 4, 4), 64), 270, 110_412_995 + 2 * 64),
    "open-magvit2 256": (lambda: magvit(128, (1, 1, 2, 2, 4), 4, 18, adaptive=True), 339, 115_127_829),
    "open-magvit2 128": (lambda: magvit(128, (1, 2, 2, 4), 4, 18, adaptive=True), 283, 112_021_653),
    "simvq 1k": (lambda: simvq(1024), 150, 64_281_987),
    "simvq 65k": (lambda: simvq(65536), 150, 72_539_523),
    "llamagen 16": (lambda: reference.llamagen_state(128, (1, 1, 2, 2, 4), 256, 8, 16384), 344, 71_948_939),
    "llamagen 8": (lambda: reference.llamagen_state(128, (1, 2, 2, 4), 256, 8, 16384), 300, 70_175_371),
    # Parameters, and the zero bias of the keys in each layer.
    "infinity-cc 12": (lambda: cc(12, 768, 8, True), 155, 241_743_408 + 12 * 768),
    "infinity-cc 24": (lambda: cc(24, 1536, 16, False), 321, 1_328_167_248 + 24 * 1536),
    "var 16": (
        lambda: reference.transformer_state(
            "x", 16, 1024, 16, 4096, 32, 4096, 1000, 10, False, "blocks.{}".format, positions=680
        ),
        220 - 2,  # less the two buffers of the schedule
        310_283_520 + 16 * 1024,
    ),
}


@pytest.mark.parametrize("name", RELEASED)
def test_counts_of_the_authors_code(name, shapes_only):
    make, tensors, elements = RELEASED[name]
    state = make()
    assert sum(value.size for value in state.values()) == elements
    assert len(state) == tensors


ENTRIES = {
    "bsqvit-256": "bsq 18",
    "var-tokenizer": "var tokenizer",
    "infinity-d16": "infinity 16",
    "infinity-d64": "infinity 64",
    "open-magvit2-256": "open-magvit2 256",
    "open-magvit2-128": "open-magvit2 128",
    "simvq-1k": "simvq 1k",
    "llamagen-ds16": "llamagen 16",
    "llamagen-ds8": "llamagen 8",
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("told", [False, True])
def test_released_sizes_fit_the_registry_and_need_no_option(entry, told, shapes_only):
    found = weights.load(ROOT / "checkpoints").entry(entry)
    made = published.adapt(found.family, released(ENTRIES[entry]), **(found.architecture if told else {}))
    if told:
        assert made.image_size == (128 if entry in ("open-magvit2-128", "simvq-1k") else 256)


def test_a_released_transformer_fits_the_registry(shapes_only):
    registry = weights.load(ROOT / "checkpoints")
    tokenizer = published.adapt("var-tokenizer", released("var tokenizer"))
    options = registry.entry("var-d16").architecture
    made = published.adapt("var-transformer", released("var 16"), tokenizer=tokenizer, **options)
    assert sum(p.numel() for p in made.transformer.parameters()) == registry.entry("var-d16").elements


def released(name):
    """A state dict of the released sizes that takes next to no memory."""
    state = RELEASED[name][0]()
    return {
        key: torch.from_numpy(value.copy()) if value.dtype == np.int64 else torch.zeros(()).expand(value.shape)
        for key, value in state.items()
    }


def test_scales_of_the_released_schedules():
    assert sum(side**2 for side in CC_SCALES) == 521 and sum(side**2 for side in VAR_SCALES) == 680
