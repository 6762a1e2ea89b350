"""Against the independent implementations of `vector-quantize-pytorch`: outputs, gradients, losses.

Where conventions differ, the test states the difference and compares what it implies.
"""

import math

import pytest
import torch

from latticebench.quantizers import create

theirs = pytest.importorskip("vector_quantize_pytorch")


@pytest.fixture
def z():
    return torch.randn(4, 50, 8, generator=torch.Generator().manual_seed(0))


def gradients(outputs, *inputs):
    """Of a fixed random functional of the vectors, plus the loss."""
    vectors, loss = outputs
    g = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((vectors * g).sum() + loss, inputs)


def assert_gradients_agree(a, b):
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7)


def test_vq_with_a_learned_codebook(z):
    """Theirs has one MSE with both gradients, so at equal gradients (β = 1) its value is half of our two terms."""
    ours = create("vq", codebook_size=64, beta=1.0)
    other = theirs.VectorQuantize(
        8, 64, learnable_codebook=True, ema_update=False, commitment_weight=1.0, rotation_trick=False
    )
    other._codebook.embed.data.copy_(ours.weight.detach()[None])
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    out = ours(a)
    vectors, indices, loss = other(b)
    torch.testing.assert_close(out.vectors, vectors, rtol=0, atol=1e-6)
    assert torch.equal(out.indices, indices)
    assert out.loss.item() == pytest.approx(2 * loss.item(), rel=1e-6)
    got = gradients((out.vectors, out.loss), a, ours.weight)
    wanted = gradients((vectors, loss.sum()), b, other._codebook.embed)
    assert_gradients_agree(got, (wanted[0], wanted[1][0]))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_vq_with_moving_averages(z, metric):
    """Theirs stores the unit code with cosine, ours its average; the code vectors agree."""
    ours = create("vq", codebook_size=64, update="ema", metric=metric, restart_threshold=0.0, decay=0.9)
    other = theirs.VectorQuantize(
        8, 64, decay=0.9, commitment_weight=0.25, threshold_ema_dead_code=0, rotation_trick=False,
        use_cosine_sim=metric == "cosine",
    )  # fmt: skip
    start = ours.codebook()
    ours.ema_sum.copy_(start)
    other._codebook.embed.data.copy_(start[None])
    other._codebook.embed_avg.data.copy_(start[None])
    for step in range(3):
        batch = z + step
        a, b = batch.clone().requires_grad_(), batch.clone().requires_grad_()
        out, (vectors, indices, loss) = ours(a), other(b)
        torch.testing.assert_close(out.vectors, vectors, rtol=0, atol=1e-5)
        assert torch.equal(out.indices, indices)
        torch.testing.assert_close(ours.ema_count, other._codebook.cluster_size[0])
        torch.testing.assert_close(ours.codebook(), other._codebook.embed[0], rtol=1e-5, atol=1e-5)
        if metric == "euclidean":
            assert out.loss.item() == pytest.approx(loss.item(), rel=1e-5)
            assert_gradients_agree(gradients((out.vectors, out.loss), a), gradients((vectors, loss.sum()), b))


def test_simvq(z):
    """Theirs has no bias by default."""
    ours = create("simvq", codebook_size=64, bias=False)
    other = theirs.SimVQ(8, 64, rotation_trick=False)
    other.frozen_codebook.copy_(ours.basis)
    other.code_transform.weight.data.copy_(ours.projection.weight)
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    out, (vectors, indices, loss) = ours(a), other(b)
    torch.testing.assert_close(out.vectors, vectors, rtol=0, atol=1e-6)
    assert torch.equal(out.indices, indices)
    assert out.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    got = gradients((out.vectors, out.loss), a, ours.projection.weight)
    assert_gradients_agree(got, gradients((vectors, loss), b, other.code_transform.weight))


@pytest.mark.parametrize("levels", [[8, 6, 5], [8, 5, 5, 5], [7, 5, 5, 5, 5], [8, 8, 8, 6, 5], [3, 4]])
def test_fsq(levels):
    """Theirs shifts by atanh and has its bound a share 1e-3 OUTSIDE the outer levels; the paper has it inside."""
    z = 2 * torch.randn(3, 200, len(levels), generator=torch.Generator().manual_seed(0))
    ours = create("fsq", levels=levels, shift="atanh", eps=-1e-3)
    other = theirs.FSQ(levels)
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    out, (vectors, indices) = ours(a), other(b)
    torch.testing.assert_close(out.vectors, vectors, rtol=0, atol=1e-6)
    assert torch.equal(out.indices, indices.long())
    zero = torch.zeros(())
    assert_gradients_agree(gradients((out.vectors, zero), a), gradients((vectors, zero), b))
    some = torch.arange(0, ours.codebook_size, 7)
    torch.testing.assert_close(ours.decode(some), other.indices_to_codes(some[None])[0], rtol=0, atol=1e-6)


def test_fsq_conventions_differ_for_few_inputs():
    z = torch.randn(50_000, 4, generator=torch.Generator().manual_seed(0))
    levels = [8, 6, 5, 4]
    paper, port, other = (
        create("fsq", levels=levels, **parameters).encode_digits(z)
        for parameters in ({}, {"shift": "atanh"}, {"shift": "atanh", "eps": -1e-3})
    )
    assert 0 < (port != paper).float().mean(0).max() <= 0.0005
    assert 0.002 < (other != paper).float().mean(0).max() <= 0.009


@pytest.mark.parametrize(("inv_temperature", "tolerance"), [(1.0, 1e-4), (100.0, 2e-3)])
def test_lfq(inv_temperature, tolerance):
    """Theirs clamps probabilities at 1e-5 inside the logarithm, ours adds 1e-8: a few 1e-4 of the entropies."""
    z = torch.randn(4, 50, 6, generator=torch.Generator().manual_seed(0)) * (1.0 if inv_temperature == 1 else 0.05)
    ours = create("lfq", dim=6, inv_temperature=inv_temperature, gamma=0.8)
    other = theirs.LFQ(dim=6, codebook_size=64, commitment_loss_weight=0.25, diversity_gamma=0.8)
    other.train()
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    out = ours(a)
    (vectors, indices, loss), parts = other(b, inv_temperature=inv_temperature, return_loss_breakdown=True)
    torch.testing.assert_close(out.vectors, vectors, rtol=0, atol=1e-6)
    assert torch.equal(out.indices, indices.long())
    assert out.terms["sample_entropy_nats"].item() == pytest.approx(parts.per_sample_entropy.item(), rel=tolerance)
    assert out.terms["codebook_entropy_nats"].item() == pytest.approx(parts.batch_entropy.item(), rel=tolerance)
    assert out.terms["commitment"].item() == pytest.approx(parts.commitment.item(), rel=1e-6)
    assert out.loss.item() == pytest.approx(loss.item(), rel=tolerance, abs=1e-4)
    got, wanted = gradients((out.vectors, 100 * out.loss), a), gradients((vectors, 100 * loss), b)
    torch.testing.assert_close(got[0], wanted[0], rtol=tolerance, atol=tolerance)


def test_spherical_lfq_is_bsq_with_the_straight_through_gradient():
    """Theirs doesn't divide the entropies by s (so ζ = s here), takes one group, and passes g instead of g/√d."""
    d, s = 6, 3.0
    z = torch.randn(4, 50, d, generator=torch.Generator().manual_seed(0))
    ours = create(
        "bsq", dim=d, gradient="straight-through", entropy="group", group_size=d, inv_temperature=s, zeta=s,
        beta=2.5, entropy_weight=0.1, ramp=1.0,
    )  # fmt: skip
    other = theirs.LFQ(dim=d, codebook_size=2**d, spherical=True, commitment_loss_weight=0.25)
    other.train()
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    out = ours(a)
    (vectors, indices, loss), parts = other(b, inv_temperature=s, return_loss_breakdown=True)
    torch.testing.assert_close(out.vectors, vectors, rtol=0, atol=1e-6)
    assert torch.equal(out.indices, indices.long())
    assert out.terms["sample_entropy_nats"].item() == pytest.approx(parts.per_sample_entropy.item(), rel=1e-5)
    assert out.terms["codebook_entropy_nats"].item() == pytest.approx(parts.batch_entropy.item(), rel=1e-5)
    assert out.loss.item() == pytest.approx(loss.item(), rel=1e-4, abs=1e-6)
    assert_gradients_agree(gradients((out.vectors, out.loss), a), gradients((vectors, loss), b))
    authors = create("bsq", dim=d, beta=0.0, entropy_weight=0.0)
    c = z.clone().requires_grad_()
    zero = torch.zeros(())
    got = gradients((authors(c).vectors, zero), c)[0] * math.sqrt(d)
    torch.testing.assert_close(got, gradients((other(b)[0], zero), b)[0], rtol=1e-5, atol=1e-6)
