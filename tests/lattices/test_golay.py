"""Golay codes against their definitions."""

import numpy as np
import pytest

from latticebench.lattices import golay


@pytest.mark.parametrize("code", [golay.lexicode(), golay.circulant()])
def test_codes_are_linear_ascending_and_have_golay_weights(code):
    assert code.shape == (4096, 24) and code.dtype == np.uint8
    words = golay.words(code)
    assert (np.diff(words) > 0).all()
    assert np.isin(words[17] ^ words, words).all() and np.isin(words[2048] ^ words, words).all()
    weights, counts = np.unique(code.sum(1), return_counts=True)
    assert dict(zip(weights, counts, strict=True)) == golay.WEIGHTS


def test_the_two_codes_share_no_octad():
    first, second = golay.octads(golay.lexicode()), golay.octads(golay.circulant())
    assert not {tuple(o) for o in first} & {tuple(o) for o in second}


def test_octads_ascend_as_tuples():
    octads = [tuple(o) for o in golay.octads(golay.lexicode())]
    assert octads == sorted(octads) and len(octads) == 759
    assert all(list(o) == sorted(o) for o in octads)


@pytest.mark.parametrize("code", [golay.lexicode(), golay.circulant()])
def test_rank_is_read_at_the_pivots(code):
    weights = 1 << np.arange(11, -1, -1)
    assert np.array_equal(code[:, golay.pivots(code)].astype(np.int64) @ weights, np.arange(4096))


def test_lexicode_by_its_greedy_definition():
    # Every basis word of the greedy code lies in ours; with the same size they are equal.
    basis = np.sort(golay.basis(golay.lexicode()))
    span = np.zeros(1, dtype=np.int64)
    for word in basis[:6]:
        below = np.arange(int(span.max()) + 1, int(word))
        if len(below) < 300_000:
            assert (np.bitwise_count(below[:, None] ^ span[None, :]).min(1) < 8).all()
        span = np.concatenate([span, span ^ word])


def test_a_wrong_generator_is_refused():
    with pytest.raises(ValueError, match="weights"):
        golay.from_generator(np.eye(12, 24, dtype=np.uint8))
    with pytest.raises(ValueError, match="12 x 24"):
        golay.from_generator(np.eye(24, dtype=np.uint8))
