"""The Leech codebooks: the released bytes, the true lattice, index and vector."""

import hashlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latticebench.errors import BadInput
from latticebench.lattices import leech

BLOBS = {
    "class2": "5a0f0baccf0e25e5b45e002b3a3adec8e58b6909",
    "class3": "aa37c8cb83060c9f886a606ded653b14792e5612",
    "class4": "12df7be9838696b235bedc0841f8749a33c8d27e",
    "whole": "550d4f6905dfd8084a991924715647ac24473ad8",
}


def git_blob(array):
    file = io.BytesIO()
    np.save(file, array)
    data = file.getvalue()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.mark.parametrize("part", BLOBS)
def test_released_file_byte_for_byte(part):
    rows = leech.CLASSES.get(part, range(leech.SIZE))
    assert git_blob(leech.released()[rows.start : rows.stop].astype(np.float64) / np.sqrt(32)) == BLOBS[part]


def test_shell_is_the_leech_lattice():
    table = leech.shell()
    assert table.shape == (196_560, 24) and table.dtype == np.int8
    assert len(np.unique(table, axis=0)) == leech.SIZE
    x = table.astype(np.int64)
    assert (np.square(x).sum(1) == 32).all()
    # The congruences that define the lattice: all even with sum 0 or all odd with sum 4 modulo 8.
    odd = x[:, 0] % 2 == 1
    assert ((x % 2 == 1) == odd[:, None]).all()
    assert (x.sum(1) % 8 == np.where(odd, 4, 0)).all()
    rows = np.random.default_rng(0).choice(leech.SIZE, 60, replace=False)
    values, counts = np.unique(x[rows] @ x.T, return_counts=True)
    assert values.tolist() == [-32, -16, -8, 0, 8, 16, 32]
    assert counts.tolist() == [60 * n for n in (1, 4600, 47104, 93150, 47104, 4600, 1)]


def test_released_is_not_one_lattice():
    x = leech.released().astype(np.float32)
    products = x[leech.CLASSES["class3"].start :][:64] @ x.T
    products[products == 32] = 0
    assert products.max() == 20


@pytest.mark.parametrize("codebook", ["shell", "released"])
def test_index_and_vectors_are_inverse(codebook):
    rows = torch.arange(leech.SIZE)
    vectors = leech.vectors(rows, codebook=codebook)
    assert vectors.dtype == torch.float32
    assert torch.equal(vectors, torch.from_numpy((getattr(leech, codebook)() / np.sqrt(32)).astype(np.float32)))
    assert torch.equal(leech.index(vectors, codebook=codebook), rows)
    assert torch.equal(leech.index(torch.from_numpy(getattr(leech, codebook)()), codebook=codebook), rows)


@given(st.lists(st.integers(0, leech.SIZE - 1), max_size=20))
def test_shapes_of_index_and_vectors(rows):
    indices = torch.tensor(rows, dtype=torch.int64).reshape(1, -1, 1)
    vectors = leech.vectors(indices)
    assert vectors.shape == (1, len(rows), 1, 24)
    assert torch.equal(leech.index(vectors.double()), indices)


@given(st.integers(0, leech.SIZE - 1), st.integers(0, 23), st.sampled_from([-3, -2, -1, 1, 2, 3]))
def test_non_members_are_refused(row, coordinate, change):
    vector = torch.from_numpy(leech.shell()[row]).clone()
    vector[coordinate] += change
    with pytest.raises(ValueError, match="not in the shell"):
        leech.index(vector)


@pytest.mark.parametrize("bad", [torch.zeros(24), torch.full((24,), torch.nan), torch.ones(24), torch.full((24,), 1e9)])
def test_index_refuses_what_is_no_code_vector(bad):
    with pytest.raises(ValueError, match="not in the"):
        leech.index(bad, codebook="released")


def test_class3_of_the_other_codebook_is_refused():
    # The codes share the all-zero and all-one words only, so any other class 3 row of one is foreign to the other.
    vector = leech.vectors(leech.CLASSES["class3"].start + 5, codebook="released")
    with pytest.raises(ValueError, match="not in the shell"):
        leech.index(vector)


@pytest.mark.parametrize("bad", [-1, leech.SIZE])
def test_indices_outside_are_refused(bad):
    with pytest.raises(IndexError):
        leech.vectors(torch.tensor([0, bad]))


def test_unknown_codebook_is_refused():
    with pytest.raises(ValueError, match="shell"):
        leech.vectors(torch.tensor([0]), codebook="leech")


def test_subsets():
    assert torch.equal(leech.subset(5, "first", 0), torch.arange(5))
    assert torch.equal(leech.subset(leech.SIZE, "random", 3), torch.arange(leech.SIZE))
    assert torch.equal(leech.subset(1104, "class4", 3), torch.arange(195_456, leech.SIZE))
    drawn = leech.subset(4096, "random", 1)
    assert len(drawn.unique()) == 4096 and torch.equal(drawn, drawn.sort().values)
    assert torch.equal(drawn, leech.subset(4096, "random", 1))
    assert not torch.equal(drawn, leech.subset(4096, "random", 2))
    assert int(leech.subset(100, "class3", 0).min()) >= 97_152
    with pytest.raises(BadInput):
        leech.subset(1105, "class4", 0)
    with pytest.raises(BadInput):
        leech.subset(0, "random", 0)
