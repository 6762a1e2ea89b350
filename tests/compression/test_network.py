"""The network prior's tables are the same integers in every batch, on every device and however many threads."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.compression import coder, digits, exact, network, priors
from latticebench.errors import BadInput
from latticebench.generators.raster import RasterParameters, RasterTransformer
from tests.compression.fakes import draw, raster

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def run(prior: network.NetworkPrior, tokens: np.ndarray, device: str = "cpu") -> np.ndarray:
    """All tables of tokens (B, positions): int64 (B, steps, size), for one digit a token."""
    walker = exact.ExactRaster(prior.network.parameters, prior.arrays, device)
    state = walker.begin(len(tokens))
    tables = []
    for step in range(walker.steps):
        tables.append(walker.tables(state))
        walker.advance(state, tokens[:, step])
    return np.stack(tables, axis=1)


@pytest.mark.parametrize("device", DEVICES)
def test_tables_are_bit_equal_over_batches_and_threads(device: str) -> None:
    prior = network.export(raster(64), 64)
    tokens = draw(64, (512, 16))
    whole = run(prior, tokens, device)
    assert (whole.sum(axis=-1) == coder.TOTAL - 64).all() and whole.min() >= 0
    for batch in (1, 7):
        parts = [run(prior, tokens[start : start + batch], device) for start in range(0, 3 * batch, batch)]
        np.testing.assert_array_equal(np.concatenate(parts), whole[: 3 * batch])
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            np.testing.assert_array_equal(run(prior, tokens, device), whole)
    finally:
        torch.set_num_threads(threads)


_CHILD = """
import hashlib, sys
from tests.compression.fakes import draw
from tests.compression.test_network import run
from evaluation.compression import priors
print(hashlib.sha256(run(priors.load(sys.argv[1]), draw(64, (7, 16))).tobytes()).hexdigest())
"""


def test_tables_are_bit_equal_under_other_kernels(tmp_path: Path) -> None:
    """Another process with older instruction sets and two threads sums in another order."""
    prior = network.export(raster(64, width=32), 64)
    priors.save(prior, tmp_path / "prior")
    here = run(prior, draw(64, (7, 16)))
    environment = {**os.environ, "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ATEN_CPU_CAPABILITY": "default"}
    environment |= {"OMP_NUM_THREADS": "2", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path / "prior")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == hashlib.sha256(here.tobytes()).hexdigest()


@pytest.mark.parametrize("codebook_size", [64, 196_560])
def test_integers_are_close_to_the_trained_network(codebook_size: int) -> None:
    """The reference is the float network itself: the price of a token differs by little."""
    model = raster(codebook_size, width=32)
    tokens = draw(codebook_size, (20, 16))
    prior = network.export(model, codebook_size)
    with torch.no_grad():
        split = torch.from_numpy(digits.split(tokens, digits.digit_sizes(codebook_size)))
        wanted = model.double().loss(None, split).item() * tokens.size
    assert prior.bits([tokens])[0] == pytest.approx(wanted, rel=2e-3)


def test_exponentials_are_those_of_the_definition() -> None:
    table = exact.exponentials(30)
    wanted = np.exp(-np.arange(4096) / 256) * 2**30
    assert len(table) == 4096
    np.testing.assert_allclose(table.numpy(), wanted, atol=1)
    assert (table[1:] <= table[:-1]).all()


def test_integer_roots_are_exact() -> None:
    roots = torch.tensor([0, 1, 2, 3, 2**20, 2**29 - 1, 2**29 + 12345])
    squares = roots * roots
    torch.testing.assert_close(exact._integer_sqrt(squares), roots, rtol=0, atol=0)
    torch.testing.assert_close(exact._integer_sqrt(squares + 2 * roots), roots, rtol=0, atol=0)
    torch.testing.assert_close(exact._integer_sqrt((squares - 1).clamp(min=0)), (roots - 1).clamp(min=0))


def test_extreme_weights_stay_exact() -> None:
    """Everything saturates at its clamp; no sum leaves the exact range, and the tables stay valid."""
    prior = network.export(raster(64, width=32), 64)
    arrays = {
        name: np.where(np.arange(array.size).reshape(array.shape) % 3 == 0, -32767, 32767).astype(array.dtype)
        for name, array in prior.arrays.items()
    }
    extreme = network.NetworkPrior(prior.metadata, arrays)
    tokens = draw(64, (7, 16))
    tables = run(extreme, tokens)
    assert (tables.sum(axis=-1) == coder.TOTAL - 64).all() and tables.min() >= 0
    np.testing.assert_array_equal(run(extreme, tokens[:1]), tables[:1])


def test_damaged_priors_are_refused() -> None:
    prior = network.export(raster(64), 64)
    for name, array in prior.arrays.items():
        with pytest.raises(BadInput, match=name):
            network.NetworkPrior(prior.metadata, {**prior.arrays, name: array[:-1]})
        with pytest.raises(BadInput, match=name):
            network.NetworkPrior(prior.metadata, {**prior.arrays, name: array.astype(np.float32)})
    with pytest.raises(BadInput, match="digits"):
        network.export(raster(64), 65)
    with pytest.raises(BadInput, match="tokens a tile"):
        prior.encode([np.zeros((1, 15), np.int64)])


def test_raster_is_causal_and_knows_no_class() -> None:
    torch.manual_seed(0)
    model = RasterTransformer(RasterParameters((5, 7), (3, 4), width=16, layers=2, heads=2, classes=3))
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    digits_ = torch.stack([torch.randint(0, 5, (2, 12)), torch.randint(0, 7, (2, 12))], dim=-1)
    before = model.digit_logits(None, digits_)
    changed = digits_.clone()
    changed[:, 6, 1] = (changed[:, 6, 1] + 1) % 7
    after = model.digit_logits(None, changed)
    for place in (0, 1):
        same = (before[place] == after[place]).all(dim=-1)
        assert same[:, :7].all() and not same[:, 7:].any()
    torch.testing.assert_close(model.digit_logits(torch.tensor([3, 3]), digits_), before)
    assert not torch.equal(model.digit_logits(torch.tensor([0, 1]), digits_)[0], before[0])
    with pytest.raises(ValueError, match="digit_logits"):
        model.logits(None, digits_[..., 0].unflatten(1, (3, 4)))
    single = RasterTransformer(RasterParameters((9,), (3, 4), width=16))
    assert single.logits(None, torch.zeros(2, 3, 4, dtype=torch.int64)).shape == (2, 3, 4, 9)
