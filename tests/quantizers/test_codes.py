"""Codes: sizes beyond int64, orders, ties, smallest distances, and refused parameters."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latticebench.errors import BadInput
from latticebench.quantizers import create, search


@pytest.mark.parametrize("name", ["bsq", "lfq"])
@pytest.mark.parametrize("dim", [18, 25, 36, 62])
def test_indices_are_exact_up_to_62_bits(name, dim):
    """Trap 18: computed in float, 26% of codes are wrong at 25 bits and all at 36."""
    quantizer = create(name, dim=dim, **({"group_size": 1} if name == "lfq" else {}))
    assert quantizer.codebook_size == 2**dim and quantizer.bits == dim
    digits = torch.randint(2, (500, dim), generator=torch.Generator().manual_seed(0))
    indices = quantizer.from_digits(digits)
    wanted = [int("".join(map(str, row)), 2) for row in digits.tolist()]
    assert indices.tolist() == wanted
    assert torch.equal(quantizer.to_digits(indices), digits)
    assert torch.equal(quantizer.encode(quantizer.decode(indices)), indices)
    last = torch.tensor([2**dim - 1])
    assert bool((quantizer.decode(last) > 0).all())


@pytest.mark.parametrize("dim", [36, 64])
def test_use_of_large_codebooks_is_counted_by_unique(dim):
    quantizer = create("bsq", dim=dim)
    z = torch.randn(1000, dim, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    assert len(quantizer.encode_digits(z).unique(dim=0)) == 1000
    if dim == 36:
        assert len(quantizer.encode(z).unique()) == 1000
    else:
        assert quantizer(z).indices is None
        with pytest.raises(OverflowError, match=r"2\^64 exceeds int64 indices; use encode_digits"):
            quantizer.encode(z)
    with pytest.raises(MemoryError, match="digits"):
        quantizer.codebook()


def test_smallest_distances_in_closed_form():
    assert create("bsq", dim=18).delta_min == pytest.approx(0.471, abs=5e-4)
    assert create("bsq", dim=64).delta_min == pytest.approx(0.25)
    assert create("leech").delta_min == 1.0
    assert create("leech-published").delta_min == pytest.approx(0.8660, abs=1e-4)
    assert create("leech", codebook_size=100).delta_min is None
    for quantizer in (
        create("bsq", dim=6),
        create("lfq", dim=5),
        create("fsq", levels=[8, 5, 3]),
        create("fsq", levels=[4, 9]),
    ):
        table = quantizer.codebook().double()
        nearest = torch.cdist(table, table, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf).min()
        assert quantizer.delta_min == pytest.approx(nearest.item(), rel=1e-6)


def test_bsq_codes_are_on_the_sphere_at_18_bits():
    quantizer = create("bsq", dim=18)
    codes = quantizer.decode(torch.tensor([0, 1, 2**17, 2**18 - 1]))
    torch.testing.assert_close(codes.norm(dim=-1), torch.ones(4))
    scale = 18**-0.5
    assert codes[1].tolist() == pytest.approx([-scale] * 17 + [scale])
    assert codes[2].tolist() == pytest.approx([scale] + [-scale] * 17)


def test_ties_go_to_the_lowest_index():
    codebook = torch.randn(20, 4).repeat(5, 1)
    z = torch.randn(300, 4)
    assert int(search.nearest(z, codebook, 256.0).max()) < 20
    assert torch.equal(search.nearest(torch.zeros(1, 4), codebook * 0, 256.0), torch.tensor([0]))
    wide = torch.zeros(3, 4096)
    wide[0, 70] = wide[0, 71] = wide[0, 4000] = 1
    wide[1, 4095] = 1
    assert search.first_argmax(wide).tolist() == [70, 4095, 0]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(2, 300), st.integers(1, 6), st.integers(0, 2**31))
def test_search_finds_the_nearest(tokens, size, dim, seed):
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(tokens, dim, generator=draw, dtype=torch.float64)
    codebook = torch.randn(size, dim, generator=draw, dtype=torch.float64)
    distances = (z[:, None] - codebook[None]).square().sum(-1)
    found = search.nearest(z, codebook, 0.001)
    assert bool((distances.gather(1, found[:, None])[:, 0] <= distances.min(1).values + 1e-12).all())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(3, 9), min_size=1, max_size=12), st.integers(0, 2**31))
def test_fsq_digits_lead_back(levels, seed):
    quantizer = create("fsq", levels=levels)
    indices = torch.randint(quantizer.codebook_size, (50,), generator=torch.Generator().manual_seed(seed))
    digits = quantizer.to_digits(indices)
    assert torch.equal(quantizer.from_digits(digits), indices)
    assert torch.equal(quantizer.encode(quantizer.preimage(indices)), indices)
    assert int(indices[0]) == sum(int(d) * math.prod(levels[:i]) for i, d in enumerate(digits[0]))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 62), st.integers(0, 2**31))
def test_straight_through_is_exact_for_any_size_of_z(exponent, seed):
    """Trap 19: coordinates read back by truncation are right only where the sum was exact."""
    z = torch.randn(50, 24, generator=torch.Generator().manual_seed(seed)) * 2.0 ** (exponent - 31)
    quantizer = create("leech", codebook_size=64)
    z.requires_grad_()
    out = quantizer(z)
    assert torch.equal(out.vectors.detach(), quantizer.decode(out.indices))


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("vq", {"codebook_size": 1}, "codebook_size must be from 2"),
        ("vq", {"dim": 0}, "dim must be at least 1, got 0"),
        ("vq", {"init": "leech", "dim": 8}, "dim must be 24 with init: leech, got 8"),
        ("vq", {"init": "leech", "dim": 24, "codebook_size": 196_561}, "at most 196560"),
        ("vq", {"decay": 1.0}, "decay must be between 0 and 1"),
        ("vq", {"levels": [8]}, "unknown parameter 'levels'; allowed: dim, codebook_size"),
        ("fsq", {"levels": [8, 2]}, "levels must be from 3 to 1024 each (L = 2 fails in the paper's definition"),
        ("fsq", {"levels": []}, "levels must be a list of at least one level"),
        ("fsq", {"codebook_size": 4096}, "unknown parameter 'codebook_size'"),
        ("bsq", {"dim": 12, "entropy": "group"}, "group_size must be a divisor of dim 12, at most 18, got 9"),
        ("lfq", {"dim": 12, "group_size": 5}, "group_size must be a divisor of dim 12"),
        ("leech", {"dim": 16}, "dim must be 24"),
        ("leech", {"codebook_size": 196_561}, "codebook_size must be from 2 to 196560"),
        ("leech", {"codebook_size": 2000, "subset": "class4"}, "from 2 to 1104 with subset: class4"),
        ("fibonacci", {"dim": 1}, "dim must be at least 2"),
        ("lgq", {"tau_end": 0.0}, "tau_end must be above 0"),
        ("random", {"tile_mb": 0.0}, "tile_mb must be above 0"),
    ],
)
def test_parameters_that_a_method_cannot_have_are_refused(name, parameters, words):
    with pytest.raises(BadInput) as caught:
        create(name, **parameters)
    assert words in str(caught.value) and str(caught.value).startswith(name)


def test_fingerprints_tell_codebooks_apart():
    quantizers = [
        create("random", codebook_size=64),
        create("random", codebook_size=64, seed=1),
        create("random", codebook_size=65),
        create("leech"),
        create("leech-published"),
        create("leech", codebook_size=64),
        create("leech", codebook_size=64, seed=1),
        create("leech", codebook_size=64, subset="first"),
        create("fsq", levels=[8, 5]),
        create("fsq", levels=[5, 8]),
        create("bsq", dim=8),
        create("lfq", dim=8),
    ]
    assert len({quantizer.fingerprint for quantizer in quantizers}) == len(quantizers)
    assert create("bsq", dim=8, entropy_weight=0.3).fingerprint == create("bsq", dim=8).fingerprint


def test_leech_subsets_hold_rows_of_their_class():
    for rule, largest in (("class2", 2), ("class3", 3), ("class4", 4)):
        table = create("leech", codebook_size=200, subset=rule).codebook() * math.sqrt(32)
        assert table.abs().amax(dim=-1).round().unique().tolist() == [largest]
    first = create("leech-published", codebook_size=300).codebook()
    assert torch.equal(first, create("leech-published").decode(torch.arange(300)))
