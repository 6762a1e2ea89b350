"""residual and product over any base, e8 and the rotation trick, against formulas written out here."""

import pytest
import torch

from latticebench.errors import BadInput
from latticebench.lattices import e8
from latticebench.quantizers import create
from latticebench.quantizers.rotation_vq import rotated


def tokens(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def vq(**parameters):
    return {"method": "vq", "parameters": parameters}


def test_residual_is_the_greedy_sum():
    """SoundStream, Algorithm 1, with explicit distances."""
    quantizer = create("residual", base=vq(dim=6, codebook_size=20), depth=3)
    z = tokens(50, 6)
    rest, digits = z, []
    for part in quantizer.parts:
        digits.append(torch.cdist(rest, part.weight.detach()).argmin(1))
        rest = rest - part.weight.detach()[digits[-1]]
    out = quantizer(z)
    assert torch.equal(quantizer.encode_digits(z), torch.stack(digits, 1))
    assert torch.equal(out.indices, digits[0] * 400 + digits[1] * 20 + digits[2])
    torch.testing.assert_close(out.vectors, z - rest)
    assert float(out.terms["commitment"]) > float(rest.square().mean())  # the sum over stages, this being the last


def test_residual_stages_differ_and_each_improves():
    quantizer = create("residual", base=vq(dim=6, codebook_size=32, init="data"), depth=4).train()
    z = tokens(400, 6)
    quantizer(z)
    assert not torch.equal(quantizer.parts[0].weight, quantizer.parts[1].weight)
    digits = quantizer.encode_digits(z)
    total, errors = torch.zeros_like(z), []
    for part, d in zip(quantizer.parts, digits.unbind(-1), strict=True):
        total = total + part.decode(d)
        errors.append(float((z - total).square().mean()))
    assert errors == sorted(errors, reverse=True)


def test_residual_passes_the_gradient_once_and_the_mean_of_the_commitments():
    quantizer = create("residual", base=vq(dim=6, codebook_size=20, beta=0.25), depth=3)
    z, g = tokens(30, 6).requires_grad_(), tokens(30, 6, seed=1)
    out = quantizer(z)
    (gradient,) = torch.autograd.grad((out.vectors * g).sum(), z, retain_graph=True)
    torch.testing.assert_close(gradient, g)
    (gradient,) = torch.autograd.grad(out.loss, z)
    total, expected = torch.zeros_like(z), torch.zeros_like(z)
    for part, digit in zip(quantizer.parts, quantizer.encode_digits(z).unbind(-1), strict=True):
        total = total + part.decode(digit)
        expected += 0.25 * 2 * (z - total).detach() / z.numel() / 3
    torch.testing.assert_close(gradient, expected)


def test_residual_shrinks_fixed_points():
    base = {"method": "leech", "parameters": {"normalize": False}}
    quantizer = create("residual", base=base, depth=3, shrink=0.6)
    assert quantizer.codebook_size == 196_560**3
    z = 1.2 * torch.nn.functional.normalize(tokens(64, 24), dim=-1)
    q = quantizer.decode_digits(quantizer.encode_digits(z))
    one = create("leech", normalize=False)
    assert (z - q).square().sum(-1).mean() < 0.6 * (z - one.decode(one.encode(z))).square().sum(-1).mean()


def test_product_finds_the_nearest_of_all():
    quantizer = create("product", base=vq(dim=3, codebook_size=8), groups=3)
    assert (quantizer.codebook_size, quantizer.dim, quantizer.digit_sizes) == (512, 9, (8, 8, 8))
    z = tokens(80, 9)
    assert torch.equal(quantizer.encode(z), torch.cdist(z, quantizer.codebook()).argmin(1))
    out = quantizer(z)
    error = (z - out.vectors).square().mean().detach()
    assert float(out.loss.detach()) == pytest.approx(1.25 * float(error), rel=1e-5)
    assert float(out.terms["commitment"]) == pytest.approx(float(error), rel=1e-5)


def test_product_of_fsq_is_fsq():
    product = create("product", base={"method": "fsq", "parameters": {"levels": [5, 4]}}, groups=2)
    one = create("fsq", levels=[5, 4, 5, 4])
    z = tokens(40, 4)
    assert torch.equal(product(z).vectors, one(z).vectors)
    assert torch.equal(product.encode_digits(z), one.encode_digits(z))


def test_digits_beyond_int64():
    quantizer = create("product", base={"method": "lfq", "parameters": {"dim": 40}}, groups=2)
    assert quantizer.codebook_size == 2**80
    z = tokens(20, 80)
    digits = quantizer.encode_digits(z)
    assert digits.shape == (20, 80)
    assert torch.equal(quantizer.decode_digits(digits), z.sign())
    assert quantizer(z).indices is None
    with pytest.raises(OverflowError, match="encode_digits"):
        quantizer.encode(z)


def test_schedules_reach_the_parts():
    quantizer = create("product", base={"method": "lgq", "parameters": {"codebook_size": 16}})
    quantizer.set_progress(0.5)
    assert [part.progress for part in quantizer.parts] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("residual", {"base": {"method": "nonsense"}}, "residual: base: unknown quantizer 'nonsense'"),
        ("product", {"base": vq(size=3)}, "product: base: vq: unknown parameter 'size'"),
        ("residual", {"base": {"method": "random"}}, "normalize: false"),
        ("residual", {"base": vq(metric="cosine")}, "metric: euclidean"),
        ("product", {"base": {"method": "identity"}}, "a method that has codes"),
        ("product", {"base": {"module": "mine.py"}}, "base must be {method"),
        ("residual", {"depth": 0}, "depth must be from 1 to 64"),
        ("e8", {"dim": 12}, "a multiple of 8"),
    ],
)
def test_wrong_parameters_are_named(name, parameters, words):
    with pytest.raises(BadInput, match=words):
        create(name, **parameters)


@pytest.mark.parametrize("normalize", ["whole", "block", "none"])
def test_e8_codes_are_the_nearest_of_the_dense_table(normalize):
    quantizer = create("e8", dim=16, normalize=normalize)
    assert quantizer.codebook_size == 240**2
    table = quantizer.codebook().double()
    torch.testing.assert_close(table.norm(dim=1), torch.ones(240**2, dtype=torch.float64))
    z = tokens(60, 16, dtype=torch.float64)
    assert torch.equal(quantizer.encode(z), (z @ table.t()).argmax(1))


@pytest.mark.parametrize("normalize", ["whole", "block", "none"])
def test_e8_gradient_is_that_of_what_is_normalised(normalize):
    quantizer = create("e8", dim=16, normalize=normalize)
    z, g = tokens(20, 16, dtype=torch.float64).requires_grad_(), tokens(20, 16, seed=1, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((quantizer(z).vectors * g).sum(), z)
    a, b = z.unflatten(-1, (2, 8)).norm(dim=-1, keepdim=True), z.norm(dim=-1, keepdim=True)
    u = {"whole": z / b, "block": (z.unflatten(-1, (2, 8)) / a).flatten(-2) / 2**0.5, "none": z}[normalize]
    (expected,) = torch.autograd.grad((u * g).sum(), z)
    torch.testing.assert_close(gradient, expected)


def test_e8_search_agrees_with_the_dense_one():
    shell = e8.shell().double()
    assert torch.equal(e8.nearest(shell), torch.arange(240))
    z = torch.cat([tokens(20_000, 8, dtype=torch.float64), tokens(2_000, 8, seed=1, dtype=torch.float64).sign()])
    scores = z @ shell.t()
    found = scores.gather(1, e8.nearest(z)[:, None]).squeeze(1)
    torch.testing.assert_close(found, scores.amax(1), rtol=0, atol=1e-6)  # the table is float32
    clear = scores.topk(2, dim=1).values.diff(dim=1).abs().squeeze(1) > 1e-5
    assert clear.sum() > 19_000
    assert torch.equal(e8.nearest(z)[clear], scores.argmax(1)[clear])
    assert int(e8.nearest(torch.zeros(8))) == 0


def householder(e, q):
    """λ R of the paper as a matrix: R = I − 2 r rᵀ + 2 q̂ êᵀ."""
    e_unit, q_unit = e / e.norm(), q / q.norm()
    r = (e_unit + q_unit) / (e_unit + q_unit).norm()
    turn = torch.eye(len(e), dtype=e.dtype) - 2 * torch.outer(r, r) + 2 * torch.outer(q_unit, e_unit)
    return q.norm() / e.norm() * turn


def test_the_gradient_passes_the_rotation():
    quantizer = create("rotation-vq", dim=6, codebook_size=16).double().train()
    z, g = tokens(40, 6, dtype=torch.float64).requires_grad_(), tokens(40, 6, seed=1, dtype=torch.float64)
    out = quantizer(z)
    q = quantizer.decode(out.indices)
    assert torch.equal(out.vectors, q)
    (gradient,) = torch.autograd.grad((out.vectors * g).sum(), z)
    for i in range(len(z)):
        matrix = householder(z[i].detach(), q[i])
        torch.testing.assert_close(matrix @ z[i].detach(), q[i])
        turn = matrix / (q[i].norm() / z[i].detach().norm())
        torch.testing.assert_close(turn @ turn.t(), torch.eye(6, dtype=torch.float64))
        assert float(torch.det(turn)) == pytest.approx(1)
        torch.testing.assert_close(gradient[i], matrix.t() @ g[i])


def test_the_rotation_keeps_the_angle_between_gradient_and_vector():
    """The paper's point: the angle of dL/dz with z is that of dL/dq with q."""
    z, q = tokens(30, 6, dtype=torch.float64).requires_grad_(), tokens(30, 6, seed=2, dtype=torch.float64)
    g = tokens(30, 6, seed=1, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((rotated(z, q) * g).sum(), z)
    cosine = torch.nn.functional.cosine_similarity
    torch.testing.assert_close(cosine(gradient, z.detach()), cosine(g, q))


def test_the_rotation_of_vector_quantize_pytorch():
    theirs = pytest.importorskip("vector_quantize_pytorch.vector_quantize_pytorch")
    z, q = tokens(30, 6, dtype=torch.float64).requires_grad_(), tokens(30, 6, seed=2, dtype=torch.float64)
    g = tokens(30, 6, seed=1, dtype=torch.float64)
    ours, other = rotated(z, q), theirs.rotate_to(z, q)
    torch.testing.assert_close(ours, other)
    for a, b in zip(torch.autograd.grad((ours * g).sum(), z), torch.autograd.grad((other * g).sum(), z), strict=True):
        torch.testing.assert_close(a, b)


def test_without_a_rotation_the_gradient_passes_unchanged():
    e = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    q = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]])
    (gradient,) = torch.autograd.grad(rotated(e, q).sum(), e)
    assert torch.equal(gradient, torch.ones(3, 2))


def test_rotation_vq_has_vq_s_codes_and_loss():
    a, b = create("rotation-vq", codebook_size=32), create("vq", codebook_size=32)
    z = tokens(50, 8)
    assert torch.equal(a(z).vectors, b(z).vectors)
    assert torch.equal(a(z).loss, b(z).loss)
    assert a.fingerprint != b.fingerprint
