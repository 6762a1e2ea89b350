"""The chunked loss against torch's, factorised heads, and draws among codes."""

import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from latticebench.errors import BadInput
from latticebench.generators import heads, sampling
from latticebench.generators.codes import Codes
from latticebench.quantizers import create


def drawn(n, width, codes, dtype=torch.float32, bias=True, seed=0):
    random = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(*shape, generator=random).to(dtype) for shape in ((n, width), (codes, width), (codes,))]
    targets = torch.randint(codes, (n,), generator=random)
    return *(t.requires_grad_() for t in tensors[: 3 if bias else 2]), *([] if bias else [None]), targets


def plain(hidden, weight, bias, targets, z_weight):
    logits = functional.linear(hidden, weight, bias)
    return functional.cross_entropy(logits, targets) + z_weight * logits.logsumexp(dim=1).square().mean()


def gradients(loss, tensors):
    return torch.autograd.grad(loss, [t for t in tensors if t is not None])


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 20),
    width=st.integers(1, 9),
    codes=st.integers(1, 40),
    tile=st.integers(1, 200),
    z_weight=st.sampled_from([0.0, 1e-4, 0.1]),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_equals_torchs(n, width, codes, tile, z_weight, bias, dtype):
    hidden, weight, offset, targets = drawn(n, width, codes, dtype, bias)
    made = heads.linear_cross_entropy(hidden, weight, offset, targets, z_weight=z_weight, tile=tile)
    precise = [None if t is None else t.detach().double().requires_grad_() for t in (hidden, weight, offset)]
    wanted = plain(*precise, targets, z_weight)
    assert abs(float(made.loss.detach() - wanted.detach())) < 1e-5
    pairs = zip(gradients(made.loss * 2, (hidden, weight, offset)), gradients(wanted * 2, precise), strict=True)
    for found, reference in pairs:
        assert found.dtype == dtype
        tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype != torch.bfloat16 else {"atol": 1e-3, "rtol": 1e-2}
        assert torch.allclose(found.double(), reference, **tolerance)
    with torch.no_grad():
        logits = functional.linear(*precise)
        assert torch.allclose(made.log_z.double(), logits.logsumexp(dim=1), atol=1e-5)
        assert torch.allclose(made.nll.double(), functional.cross_entropy(logits, targets, reduction="none"), atol=1e-5)


def test_gradcheck():
    hidden, weight, bias, targets = drawn(7, 5, 11, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *given: heads.linear_cross_entropy(*given, targets, z_weight=0.1, tile=30).loss, (hidden, weight, bias)
    )


def test_wide_logits_do_not_overflow():
    hidden, weight, bias, targets = drawn(6, 4, 9)
    with torch.no_grad():
        hidden *= 1e4
    made = heads.linear_cross_entropy(hidden, weight, bias, targets)
    assert bool(made.loss.isfinite()) and all(bool(g.isfinite().all()) for g in gradients(made.loss, (hidden, weight)))


def test_only_what_needs_a_gradient_gets_one_and_a_frozen_head_costs_none():
    hidden, weight, bias, targets = drawn(5, 4, 9)
    frozen = weight.detach()
    heads.linear_cross_entropy(hidden, frozen, None, targets).loss.backward()
    assert hidden.grad is not None and frozen.grad is None
    with torch.no_grad():
        assert not heads.linear_cross_entropy(hidden, weight, bias, targets).loss.requires_grad


def test_under_autocast_sums_are_float32():
    hidden, weight, bias, targets = drawn(30, 16, 50)
    with torch.autocast("cpu", torch.bfloat16):
        made = heads.linear_cross_entropy(hidden.bfloat16(), weight, bias, targets)
    wanted = plain(hidden.detach().bfloat16().float(), weight, bias, targets, 0.0)
    assert made.loss.dtype == torch.float32 and abs(float(made.loss.detach() - wanted.detach())) < 1e-5


def test_what_the_loss_refuses():
    hidden, weight, bias, targets = drawn(5, 4, 9)
    with pytest.raises(ValueError, match="expected"):
        heads.linear_cross_entropy(hidden, weight.T, bias, targets)
    with pytest.raises(ValueError, match="bias"):
        heads.linear_cross_entropy(hidden, weight, bias[:3], targets)
    with pytest.raises(IndexError, match=r"\[0, 9\)"):
        heads.linear_cross_entropy(hidden, weight, bias, targets + 9)
    with pytest.raises(ValueError, match="no tokens"):
        heads.linear_cross_entropy(hidden[:0], weight, bias, targets[:0])


LIGER = """
import torch
from tests.generators.test_heads import drawn, gradients
from latticebench.generators import heads
for z_weight in (0.0, 0.01):
    *tensors, targets = drawn(9, 16, 101)
    found, wanted = (
        heads.linear_cross_entropy(*tensors, targets, z_weight=z_weight, tile=400, backend=backend)
        for backend in ("liger", "torch")
    )
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, wanted))
    pairs = zip(gradients(found.loss, tensors), gradients(wanted.loss, tensors))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)
"""


def test_ligers_kernel_in_the_interpreter():
    pytest.importorskip("liger_kernel")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", LIGER], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sizes", [(3, 3, 3), (2, 5), (7,)])
def test_factorised_loss_is_the_sum_over_digits(sizes):
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(6, sum(sizes), generator=random, dtype=torch.float64).requires_grad_()
    targets = torch.stack([torch.randint(size, (6,), generator=random) for size in sizes], dim=1)
    made = heads.digit_cross_entropy(logits, sizes, targets, z_weight=0.1)
    wanted = 0.0
    for place, part in enumerate(logits.split(sizes, dim=1)):
        wanted = wanted + functional.cross_entropy(part, targets[:, place])
        wanted = wanted + 0.1 * part.logsumexp(dim=1).square().mean()
    assert torch.allclose(made.loss, wanted) and made.log_z.shape == targets.shape
    pairs = zip(torch.autograd.grad(made.loss, logits), torch.autograd.grad(wanted, logits), strict=True)
    assert all(torch.allclose(a, b) for a, b in pairs)


# Codes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["leech", "leech-published"])
@pytest.mark.parametrize("parameters", [{"codebook_size": 1518}, {"codebook_size": 700, "subset": "class3"}, {}])
def test_leech_digits_lead_back(method, parameters):
    quantizer = create(method, **parameters)
    every = torch.arange(quantizer.codebook_size)[:: 1 + quantizer.codebook_size // 3000]
    digits = quantizer.to_digits(every)
    assert quantizer.digit_sizes == (9,) * 24 and digits.shape == (len(every), 24)
    assert torch.equal(quantizer.from_digits(digits), every)
    assert torch.allclose((digits - 4) / math.sqrt(32), quantizer.decode(every))
    with pytest.raises(ValueError, match="not in the"):
        quantizer.from_digits(torch.full((1, 24), 4))
    if parameters.get("subset") == "class3":
        with pytest.raises(ValueError, match="subset lacks"):
            quantizer.from_digits(torch.tensor([[8, 8] + [4] * 22]))


def test_a_constrained_code_is_drawn_from_the_joint_of_its_codes():
    codes = Codes(create("leech", codebook_size=40), (9,) * 24)
    assert codes.constrained and codes.choices == 40
    logits = torch.randn(1, 1, 216, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    table = codes.quantizer.to_digits(torch.arange(40))
    by_digit = logits.unflatten(-1, (24, 9)).log_softmax(dim=-1)[0, 0]
    wanted = torch.stack([by_digit[torch.arange(24), digits].sum() for digits in table])
    assert torch.allclose(codes.joint(logits)[0, 0], wanted)
    draws = codes.draw(logits.expand(1, 20_000, 216), 0, 0.0, sampling.generators(torch.tensor([1])))
    found = draws.flatten().bincount(minlength=40) / 20_000
    assert torch.allclose(found.double(), wanted.softmax(dim=0), atol=0.02)
    likeliest = codes.draw(logits, 1, 0.0, sampling.generators(torch.tensor([1])))
    assert int(likeliest) == int(wanted.argmax())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), top_k=st.integers(0, 50), top_p=st.floats(0, 1))
def test_only_codes_are_emitted(seed, top_k, top_p):
    codes = Codes(create("leech-published", codebook_size=1518), (9,) * 24)
    logits = 5 * torch.randn(2, 3, 216, generator=torch.Generator().manual_seed(seed))
    tokens = codes.draw(logits, top_k, top_p, sampling.generators(torch.tensor([1, 2])))
    assert tokens.shape == (2, 3) and bool(((tokens >= 0) & (tokens < 1518)).all())


def test_a_product_is_drawn_digit_by_digit():
    codes = Codes(create("fsq", levels=[3, 4]), (3, 4))
    assert not codes.constrained and codes.choices == 7
    logits = torch.full((1, 1, 7), -50.0)
    logits[..., [2, 3 + 1]] = 50.0
    index = codes.draw(logits, 0, 0.0, sampling.generators(torch.tensor([0])))
    assert codes.quantizer.to_digits(index).tolist() == [[[2, 1]]]


def test_a_head_starts_from_the_frequencies():
    codes, head = Codes(create("vq", codebook_size=5, dim=2), (5,)), nn.Linear(3, 5)
    indices = torch.tensor([0, 0, 0, 3])
    codes.start(head, indices)
    assert torch.allclose(head.bias.detach(), torch.log(torch.tensor([4, 1, 1, 2, 1]) / 9))


@pytest.mark.parametrize(
    ("method", "parameters", "sizes", "message"),
    [
        ("identity", {}, (16,), "quantizes nothing"),
        ("vq", {"codebook_size": 16}, (4, 4), "16 codes"),
        ("leech", {"codebook_size": 500}, (9,) * 23, "500 codes"),
    ],
)
def test_heads_that_do_not_fit(method, parameters, sizes, message):
    with pytest.raises(BadInput, match=message):
        Codes(create(method, **parameters), sizes)


# Draws ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), codes=st.integers(1, 60), top_k=st.integers(0, 70), top_p=st.floats(0, 1))
def test_a_draw_among_the_likeliest_is_the_filtered_draw(seed, codes, top_k, top_p):
    logits = torch.randn(2, 4, codes, generator=torch.Generator().manual_seed(seed))
    logits = (logits * 4).round() / 2 if seed % 2 else logits  # with ties
    filtered = sampling.filtered(logits, top_k, top_p)
    wanted = sampling.draw(filtered, sampling.generators(torch.tensor([1, 2])))
    found = sampling.pick(logits, top_k, top_p, sampling.generators(torch.tensor([1, 2])))
    assert torch.equal(found, wanted) and bool(filtered.gather(-1, found[..., None]).isfinite().all())


def test_class_drops_depend_on_the_place_alone():
    whole = sampling.class_drops(3, 0, 4000, 0.1)
    assert torch.equal(whole[100:200], sampling.class_drops(3, 100, 100, 0.1))
    assert 0.08 < whole.float().mean() < 0.12
    assert not sampling.class_drops(3, 0, 500, 0.0).any()
