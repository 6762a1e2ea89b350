"""Every backend against float64 scores of all 196,560 vectors."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latticebench.lattices import golay, leech
from latticebench.lattices.leech_search import cpu, exact, turyn
from latticebench.lattices.leech_search.scaling import power_of_two_scaled

BACKENDS = ["dense", "structured", "numba"]
CODEBOOKS = ["shell", "released"]


@functools.cache
def table(codebook):
    return torch.from_numpy(getattr(leech, codebook)()).double()


def reference(z, codebook):
    """The lowest row of the largest float64 score; exact where the coordinates are of one magnitude."""
    return (z.double() @ table(codebook).t()).argmax(-1)


def draws():
    g = torch.Generator().manual_seed(0)
    rows = torch.randint(0, leech.SIZE, (2, 8), generator=g)
    gauss = torch.randn(200, 24, generator=g)
    return {
        "gaussian": gauss,
        "float64": gauss[:40].double() * 3,
        "bf16": torch.randn(300, 24, generator=g).bfloat16(),
        "half": gauss[:40].half(),
        "integers": torch.randint(-2, 3, (12, 24), generator=g).float() + torch.eye(24)[:12],
        "signs": torch.randint(0, 2, (6, 24), generator=g).float() * 2 - 1,
        "sparse": torch.eye(24)[:6] * 5 - torch.eye(24)[1:7] * (torch.arange(6) % 3)[:, None],
        "midpoints": torch.from_numpy(leech.shell())[rows].sum(0).float() + torch.eye(24)[0],
        "code vectors": leech.vectors(rows[0], codebook="released"),
    }


@pytest.mark.parametrize("codebook", CODEBOOKS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", draws())
def test_equals_float64_with_ties_to_the_lowest_row(kind, backend, codebook):
    z = draws()[kind]
    assert torch.equal(leech.nearest(z, codebook=codebook, backend=backend), reference(z, codebook))


@pytest.mark.parametrize("codebook", CODEBOOKS)
@pytest.mark.parametrize("backend", ["structured", "numba"])
def test_every_code_vector_finds_itself(backend, codebook):
    rows = torch.arange(0, leech.SIZE, 1 if codebook == "shell" and backend == "numba" else 37)
    z = leech.vectors(rows, codebook=codebook) + 0.01 * torch.sin(torch.arange(24.0))
    assert torch.equal(leech.nearest(z, codebook=codebook, backend=backend), rows)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1e-42, 1e-20, 1e30, 3e38])
def test_scale_does_not_matter(backend, scale):
    z = torch.randint(-8, 9, (4, 24), generator=torch.Generator().manual_seed(1)).float()
    z[0, 0], z[:, 1] = 16, 3
    power = 2.0 ** np.floor(np.log2(scale / 16))
    assert torch.equal(leech.nearest(z * power, backend=backend), reference(z, "shell"))


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_shapes_and_odd_inputs(backend):
    search = functools.partial(leech.nearest, backend=backend)
    z = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(2))
    rows = search(z)
    assert rows.shape == (3, 5) and rows.dtype == torch.int64
    assert torch.equal(search(z.transpose(0, 1)), rows.t())
    assert torch.equal(search(z[1, 2]), rows[1, 2])
    assert search(torch.zeros(0, 24)).shape == (0,) and search(torch.zeros(2, 0, 24)).shape == (2, 0)
    assert search(torch.zeros(2, 24)).tolist() == [0, 0]
    assert not search(z.requires_grad_()).requires_grad


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_refused(backend, bad):
    z = torch.ones(2, 24)
    z[1, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        leech.nearest(z, backend=backend)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="24 coordinates"):
        leech.nearest(torch.ones(2, 23))
    with pytest.raises(TypeError, match="floating"):
        leech.nearest(torch.ones(2, 24, dtype=torch.int64))
    with pytest.raises(ValueError, match="codebook"):
        leech.nearest(torch.ones(2, 24), codebook="leech")
    with pytest.raises(ValueError, match="backend"):
        leech.nearest(torch.ones(2, 24), backend="fast")


def test_autocast_does_not_reach_the_search():
    z = torch.randn(500, 24, generator=torch.Generator().manual_seed(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = [leech.nearest(z, backend=backend) for backend in BACKENDS]
    assert all(torch.equal(r, reference(z, "shell")) for r in rows)


def test_threads_share_a_batch(monkeypatch):
    z = torch.randn(9001, 24, generator=torch.Generator().manual_seed(4))
    one = leech.nearest(z, backend="numba")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(leech.nearest(z, backend="numba"), one)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=24, max_size=24), st.sampled_from(CODEBOOKS))
def test_integer_vectors_in_every_fast_backend(z, codebook):
    z = torch.tensor([z], dtype=torch.float32)
    expected = reference(z, codebook)
    for backend in ("structured", "numba"):
        assert torch.equal(leech.nearest(z, codebook=codebook, backend=backend), expected)


def test_exact_scores_tell_apart_what_float64_sums_cannot():
    z = torch.zeros(2, 24, dtype=torch.float64)
    z[:, 0], z[0, 5], z[1, 5] = 0.75, 2.0**-60, -(2.0**-60)
    vectors = leech.coordinates(exact.nearest(z, torch.zeros(2, dtype=torch.int64), "shell"), "shell")
    assert vectors[:, 5].tolist() == [4, -4] and vectors[:, 0].tolist() == [4, 4]


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_settling_does_not_depend_on_the_row_it_starts_from(codebook):
    z = torch.cat([torch.eye(24)[:1], draws()["signs"][:1]]) / 2
    for start in (0, 196_000):
        found = torch.full((len(z),), start)
        assert torch.equal(exact.nearest(z, found, codebook), reference(z, codebook))


def test_the_search_is_one_node_of_a_compiled_graph():
    z = torch.randn(30, 24, requires_grad=True)
    compiled = torch.compile(lambda z: leech.vectors(leech.nearest(z)), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(z), leech.vectors(leech.nearest(z)))


def test_structured_compiles_as_one_graph():
    from latticebench.lattices.leech_search import structured

    z = power_of_two_scaled(torch.randn(64, 24))
    tables = structured.device_tables("shell", z.device)
    compiled = torch.compile(structured.winners, backend="aot_eager", fullgraph=True)
    found = compiled(z, tables)
    assert all(torch.equal(x, y) for x, y in zip(found, structured.winners(z, tables), strict=True))


@pytest.mark.parametrize("code, order", [("lexicode", turyn.LEXICODE_ORDER), ("circulant", turyn.CIRCULANT_ORDER)])
def test_both_codes_are_in_turyns_form(code, order):
    words = np.sort(golay.words(getattr(golay, code)()[:, list(order)]))
    assert np.array_equal(words, golay.words(turyn.turyn_code()))


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_cosets_and_the_rest_hold_every_octad_once(codebook):
    tables = turyn.tables(codebook)
    octads = np.concatenate([tables.octad_rank.ravel(), tables.left_octads])
    assert np.array_equal(np.sort(octads), np.arange(759))


TRITON = """
import torch
from latticebench.lattices import leech
g = torch.Generator().manual_seed(0)
rows = torch.tensor([0, 97_000, 97_152, 195_455, 195_456, 196_559])
z = torch.cat([torch.randn(110, 24, generator=g), leech.vectors(rows, "released"), torch.eye(24)[:2] + 1])
assert torch.equal(leech.nearest(z, "released", "triton"), leech.nearest(z, "released", "structured"))
assert leech.nearest(torch.zeros(0, 24), "released", "triton").shape == (0,)
"""


def test_triton_kernel_in_the_interpreter():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", TRITON], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scaling_is_the_same_in_both_twins(dtype):
    g = torch.Generator().manual_seed(6)
    size = torch.randint(-44, 38, (200, 1), generator=g).to(dtype)  # subnormal numbers of float32 too
    z = torch.cat([torch.randn(200, 24, generator=g, dtype=dtype) * 10**size, torch.zeros(1, 24, dtype=dtype)])
    assert torch.equal(cpu.power_of_two_scaled(z), power_of_two_scaled(z))


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_vectors_of_the_octads_that_miss_a_block(codebook):
    z = torch.randn(600, 24, generator=torch.Generator().manual_seed(7))
    z[:, turyn.tables("shell").order2[16:]] *= 0.05
    z = z.bfloat16().float()  # some of them tie
    expected = reference(z, codebook)
    for backend in ("structured", "numba"):
        assert torch.equal(leech.nearest(z, codebook=codebook, backend=backend), expected)
