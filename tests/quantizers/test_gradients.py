"""Gradients in float64 against the formulas of each method, written out here; differences of a smooth loss for lgq."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from latticebench.quantizers import create


def run(name, z, progress=0.0, **parameters):
    """dL/dz of <g, vectors> alone, and g."""
    quantizer = create(name, **parameters).double().train()
    quantizer.set_progress(progress)
    z = z.clone().requires_grad_()
    g = torch.randn(z.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(9))
    out = quantizer(z)
    (gradient,) = torch.autograd.grad((out.vectors * g).sum(), z)
    return quantizer, gradient, g


def inputs(dim, count=40):
    return torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def through_norm(z, g):
    """(I − u uᵀ)/‖z‖ g."""
    norm = z.norm(dim=-1, keepdim=True)
    u = z / norm
    return (g - u * (u * g).sum(-1, keepdim=True)) / norm


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("vq", {"codebook_size": 32}),
        ("vq", {"codebook_size": 32, "update": "ema"}),
        ("simvq", {"codebook_size": 32}),
        ("lfq", {"dim": 8}),
        ("random", {"dim": 8, "codebook_size": 32, "normalize": False}),
    ],
)
def test_usual_straight_through_passes_the_gradient_unchanged(name, parameters):
    _, gradient, g = run(name, inputs(8), **parameters)
    assert torch.equal(gradient, g)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("leech", {"codebook_size": 512}),
        ("leech", {}),
        ("leech-published", {}),
        ("random", {"codebook_size": 64}),
        ("fibonacci", {"codebook_size": 64}),
        ("vq", {"dim": 24, "codebook_size": 64, "metric": "cosine"}),
    ],
)
def test_sphere_codes_pass_the_normalisation(name, parameters):
    z = inputs(24)
    _, gradient, g = run(name, z, **parameters)
    torch.testing.assert_close(gradient, through_norm(z, g), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("normalized", [True, False])
def test_bsq_has_the_authors_gradient_by_default_and_the_ports_by_name(normalized):
    z = inputs(18)
    plain = through_norm if normalized else lambda z, g: g
    _, authors, g = run("bsq", z, normalize=normalized)
    torch.testing.assert_close(authors, plain(z, g) / math.sqrt(18), rtol=1e-6, atol=1e-9)
    assert 1 / math.sqrt(18) == pytest.approx(0.2357, abs=1e-4)
    _, port, g = run("bsq", z, normalize=normalized, gradient="straight-through")
    torch.testing.assert_close(port, plain(z, g), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", ["tan", "atanh"])
def test_fsq_passes_the_bound(shift):
    levels = [8, 5, 3, 6]
    z = inputs(4)
    _, gradient, g = run("fsq", z, levels=levels, shift=shift)
    expected = torch.empty_like(z)
    for i, size in enumerate(levels):
        half = (size - 1) * (1 - 1e-3) / 2
        offset = 0.5 if size % 2 == 0 else 0.0
        moved = (math.tan if shift == "tan" else math.atanh)(offset / half)
        expected[:, i] = g[:, i] * (1 - torch.tanh(z[:, i] + moved) ** 2) * half / (size // 2)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def test_vq_terms_have_beta_on_the_commitment_side():
    """Trap 24: equal loss value, different gradients."""
    z = inputs(8).requires_grad_()
    quantizer = create("vq", codebook_size=32, beta=0.25).double()
    out = quantizer(z)
    g_z, g_c = torch.autograd.grad(out.loss, (z, quantizer.weight))
    q = quantizer.decode(out.indices)
    torch.testing.assert_close(g_z, 0.25 * 2 * (z - q).detach() / z.numel())
    expected = torch.zeros_like(g_c).index_add_(0, out.indices, 2 * (q - z).detach() / z.numel())
    torch.testing.assert_close(g_c, expected)
    assert out.loss.item() == pytest.approx(1.25 * (z - q).square().mean().item())


def lgq_loss(z, c, tau, g, lambda_peak=0.005, lambda_use=0.005, floor=0.0, at_least=0.0):
    """The loss as autograd sees it: <g, q_soft> plus the terms, with MSE on the soft vectors moved to the hard value."""
    p = torch.softmax(-torch.cdist(z, c).square() / tau, dim=-1)
    soft = p @ c
    hard = c[torch.cdist(z, c).argmin(-1)].detach()
    q = soft + (hard - soft).detach()
    mean = p.mean(0)
    loss = (q * g).sum() + (q - z).square().mean() + lambda_peak * torch.relu(1 - p.square().sum(-1)).mean()
    loss = loss + lambda_use * len(c) * mean.square().sum()
    entropy = -(mean * torch.log(mean + 1e-8)).sum()
    return loss + floor * torch.relu(at_least - entropy.exp()).square()


@pytest.mark.parametrize("tile_mb", [256.0, 0.001])
@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_lgq_has_the_gradient_of_the_soft_mixture_and_no_identity_path(tile_mb, progress):
    z = inputs(6).requires_grad_()
    quantizer = create(
        "lgq", dim=6, codebook_size=24, init="normal", tile_mb=tile_mb, lambda_floor=0.3, perplexity_floor=20.0
    ).double()
    quantizer.set_progress(progress)
    assert quantizer.tau == pytest.approx(1.0 - 0.9 * progress)
    g = inputs(6) * 0.3
    out = quantizer(z)
    got = torch.autograd.grad((out.vectors * g).sum() + out.loss, (z, quantizer.centres))
    wanted = torch.autograd.grad(
        lgq_loss(z, quantizer.centres, quantizer.tau, g, floor=0.3, at_least=20.0), (z, quantizer.centres)
    )
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_lgq_assignment_passes_gradcheck():
    from latticebench.quantizers.lgq import _Assignment

    z, c = inputs(3, 7).requires_grad_(), (inputs(3, 11)[:5] * 0.7).requires_grad_()
    assert torch.autograd.gradcheck(lambda z, c: _Assignment.apply(z, c, 0.7, 1e-4)[:3], (z, c))


@pytest.mark.parametrize("name", ["lfq", "bsq"])
def test_entropy_losses_pass_gradcheck(name):
    quantizer = create(name, dim=6, inv_temperature=2.0, entropy_weight=1.0).double().train()
    z = inputs(6, 5).requires_grad_()
    beta = 0.25 if name == "lfq" else 0.0
    assert quantizer.p.beta == beta
    assert torch.autograd.gradcheck(lambda z: quantizer(z).loss, (z,))


def test_normalisation_is_torchs_own():
    z = inputs(24)
    torch.testing.assert_close(normalize(z, dim=-1), z / z.norm(dim=-1, keepdim=True))
