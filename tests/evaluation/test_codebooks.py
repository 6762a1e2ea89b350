"""Usage metrics against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import codebooks, rates
from evaluation.statistics import blocks


def test_uniform_and_constant_codes():
    codes = np.tile(np.arange(16), (8, 4))
    values = codebooks.values(codes, 64, blocks(8))
    assert values["codes_used"].value == 16 and values["usage"].value == 0.25
    assert values["entropy_bits"].value == pytest.approx(4) and values["perplexity"].value == pytest.approx(16)
    assert values["max_frequency"].value == values["min_frequency"].value == 1 / 16
    assert codebooks.histogram(codebooks.counts(codes)) == {"count": [32], "codes": [16]}
    one = codebooks.values(np.zeros((8, 4), np.int64), 64, blocks(8))
    assert one["entropy_bits"].value == 0 and one["perplexity"].value == 1


@pytest.mark.parametrize(
    "size, tokens, expected",
    [(196560, 65536, 0.2835), (196560, 36864, 0.171), (2**100, 10**6, 10**6 / 2**100), (1, 5, 1)],
)
def test_expected_usage_of_a_uniform_source(size, tokens, expected):
    assert codebooks.expected_usage(size, tokens) == pytest.approx(expected, rel=2e-3)


def test_expected_usage_agrees_with_simulation():
    rng = np.random.default_rng(0)
    simulated = np.mean([len(np.unique(rng.integers(0, 500, 700))) / 500 for _ in range(200)])
    assert codebooks.expected_usage(500, 700) == pytest.approx(simulated, rel=0.01)


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 9))
def test_digits_and_indices_count_alike(digits, tokens, seed):
    d = np.random.default_rng(seed).integers(0, 3, size=(4, tokens, digits))
    indices = (d * 3 ** np.arange(digits)).sum(axis=-1)
    np.testing.assert_array_equal(codebooks.counts(d), codebooks.counts(indices))


@pytest.mark.parametrize("size", [4096, 196560, 2**62 + 1, 2**200, 5])
def test_rates_of_any_codebook(size):
    values = rates.values(size, 16, 1024, 3.0, None, 160)
    assert (
        values["ceil_bpp"].value
        == math.ceil(round(math.log2(size), 9) if size < 2**60 else (size - 1).bit_length()) / 64
    )
    assert values["nominal_bpp"].value == pytest.approx(math.log2(size) / 64)
    assert values["entropy_bpp"].value == 3 / 64
