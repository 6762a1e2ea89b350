"""The adapters against a second reading of each family in NumPy (numpy_reference.py), recorded once."""

import functools
import json

import numpy as np
import pytest
import torch

from latticebench import published
from tests.published.cases import CASES, class_ids, images, moments, token_hash
from tests.published.record import REPLAY

TOLERANCE = 1e-4


def tensors(state):
    return {key: torch.from_numpy(np.array(value)) for key, value in state.items()}


@functools.cache
def adapted(name):
    case = CASES[name]
    tokenizer = adapted(case.tokenizer) if case.tokenizer else None
    return published.adapt(case.family, tensors(case.state()), tokenizer=tokenizer, **case.architecture)


@torch.no_grad()
def outcome(name):
    """Tokens of the case's pictures, and its images or logits."""
    case, model = CASES[name], adapted(name)
    tokenizer = adapted(case.tokenizer) if case.tokenizer else model
    pictures = torch.from_numpy(images(tokenizer.image_size))
    tokens = tokenizer.encode_digits(pictures) if case.digits else tokenizer.encode(pictures)
    if case.tokenizer:
        arrays = {"logits": model.logits(torch.from_numpy(class_ids()), tokens)}
    else:
        arrays = {"images": model.decode_digits(tokens) if case.digits else model.decode(tokens)}
        assert torch.equal(arrays["images"], model.reconstruct(pictures))
    return [t.numpy() for t in tokens], {key: array.numpy() for key, array in arrays.items()}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_recorded_reading(name):
    expected = json.loads(REPLAY.read_text())[name]
    tokens, arrays = outcome(name)
    assert token_hash(tokens) == expected["tokens"]
    for key, array in arrays.items():
        found, wanted = moments(array), expected["arrays"][key]
        assert found["shape"] == wanted["shape"]
        for moment in ("mean", "std", "values"):
            assert np.abs(np.subtract(found[moment], wanted[moment])).max() < TOLERANCE, moment


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_equals_the_reading_itself(name):
    reading = CASES[name].read()
    tokens, arrays = outcome(name)
    assert all(np.array_equal(a, b) for a, b in zip(tokens, reading.tokens, strict=True))
    for key, array in arrays.items():
        assert np.abs(array - reading.arrays[key]).max() < TOLERANCE


def test_record_is_small():
    assert REPLAY.stat().st_size < 100_000
