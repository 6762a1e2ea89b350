"""Losses, schedules and updates against formulas written out independently in float64 numpy."""

import numpy as np
import pytest
import torch

from latticebench.quantizers import create


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("tile_mb", [256.0, 0.001])
def test_lgq(progress, tile_mb):
    z, K = draw(30, 5), 20
    quantizer = create(
        "lgq", dim=5, codebook_size=K, init="normal", tile_mb=tile_mb, lambda_floor=0.2, perplexity_floor=19.0
    ).double()
    quantizer.set_progress(progress)
    c = quantizer.codebook().numpy()
    tau = 1.0 + (0.1 - 1.0) * progress
    squared = ((z[:, None] - c[None]) ** 2).sum(-1)
    p = softmax(-squared / tau)
    hard = c[squared.argmin(-1)]
    mean = p.mean(0)
    mse = ((hard - z) ** 2).mean()
    peak = np.maximum(1 - (p**2).sum(-1), 0).mean()
    use = K * (mean**2).sum()
    floor = max(0.0, 19.0 - np.exp(-(mean * np.log(mean)).sum())) ** 2
    out = quantizer(torch.from_numpy(z))
    np.testing.assert_allclose(out.vectors.detach(), hard, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(out.indices, squared.argmin(-1))
    assert out.terms["mse"].item() == pytest.approx(mse, rel=1e-12)
    assert out.terms["peak"].item() == pytest.approx(peak, rel=1e-12)
    assert out.terms["use"].item() == pytest.approx(use, rel=1e-12)
    assert out.terms["floor"].item() == pytest.approx(floor, rel=1e-5)
    assert out.loss.item() == pytest.approx(mse + 0.005 * peak + 0.005 * use + 0.2 * floor, rel=1e-5)


def test_lgq_centres_start_as_tokens_of_the_first_batch():
    z = torch.randn(50, 5)
    enough = create("lgq", dim=5, codebook_size=20)
    enough.train()(z)
    owners = (enough.codebook()[:, None] == z[None]).all(-1)
    assert torch.equal(owners.sum(1), torch.ones(20, dtype=torch.int64)) and int(owners.sum(0).max()) == 1
    few = create("lgq", dim=5, codebook_size=200)
    few.train()(z)
    owner = torch.cdist(few.codebook(), z).argmin(1)
    assert torch.equal(owner.bincount(minlength=50), torch.full((50,), 4))
    noise = few.codebook() - z[owner]
    assert float(noise.std()) == pytest.approx(0.01, rel=0.1)
    kept = few.codebook().clone()
    few(z + 1)
    assert torch.equal(few.codebook(), kept)


def numpy_bsq_entropies(u, d, s, group):
    """(H_sample, H_codebook): softmax over the sign vectors of each group, or single bits for group 0."""

    def entropy(p):
        return -(p * np.log(p + 1e-8)).sum(-1)

    if group == 0:
        p = 1 / (1 + np.exp(-4 * u * s / np.sqrt(d)))
        p = np.stack([p, 1 - p], -1)
    else:
        signs = np.array(np.meshgrid(*[[-1, 1]] * group, indexing="ij")).reshape(group, -1).T / np.sqrt(d)
        p = softmax(2 * s * u.reshape(len(u), d // group, group) @ signs.T)
    return entropy(p).sum(-1).mean(), entropy(p.mean(0)).sum()


@pytest.mark.parametrize("s", [1.0, 20.0])
@pytest.mark.parametrize(("d", "group"), [(12, 0), (12, 4), (18, 9)])
def test_bsq_entropies(d, group, s):
    z = draw(25, d)
    u = z / np.linalg.norm(z, axis=-1, keepdims=True)
    sample, codebook = numpy_bsq_entropies(u, d, s, group)
    parameters = {"entropy": "group", "group_size": group} if group else {}
    quantizer = create("bsq", dim=d, inv_temperature=s, gamma0=1.2, gamma=0.7, zeta=0.9, beta=0.3, **parameters)
    quantizer.set_progress(1.0)
    out = quantizer(torch.from_numpy(z))
    assert out.terms["sample_entropy_nats"].item() == pytest.approx(sample, rel=1e-6)
    assert out.terms["codebook_entropy_nats"].item() == pytest.approx(codebook, rel=1e-6)
    commitment = ((np.sign(u) / np.sqrt(d) - u) ** 2).mean()
    expected = 0.1 * (0.3 * commitment + 0.9 * (1.2 * sample - 0.7 * codebook) / s)
    assert out.loss.item() == pytest.approx(expected, rel=1e-5)


def test_bsq_tiles_give_the_same_loss_and_gradient():
    z = torch.from_numpy(draw(64, 12)).requires_grad_()
    results = []
    for tile_mb in (256.0, 0.01):
        quantizer = create("bsq", dim=12, entropy="group", group_size=6, tile_mb=tile_mb)
        loss = quantizer(z).loss
        results.append((loss, *torch.autograd.grad(loss, z)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)


def test_bsq_weight_falls_from_three_times_to_once():
    quantizer = create("bsq", ramp_share=0.5)
    weights = []
    for fraction in (0.0, 0.25, 0.5, 1.0):
        quantizer.set_progress(fraction)
        weights.append(quantizer.weight)
    assert weights == pytest.approx([0.3, 0.2, 0.1, 0.1])


@pytest.mark.parametrize("group", [3, 6])
def test_lfq_entropies(group):
    """E[H(p)] − H(E[p]) by the full softmax over the sign vectors of a group."""
    d, inverse = 6, 5.0
    z = draw(30, d) * 0.2
    signs = np.array(np.meshgrid(*[[-1, 1]] * group, indexing="ij")).reshape(group, -1).T
    p = softmax(2 * inverse * z.reshape(30, d // group, group) @ signs.T)
    sample = -(p * np.log(p)).sum(-1).sum(-1).mean()
    codebook = -(p.mean(0) * np.log(p.mean(0))).sum()
    quantizer = create("lfq", dim=d, inv_temperature=inverse, group_size=group)
    out = quantizer(torch.from_numpy(z))
    assert out.terms["sample_entropy_nats"].item() == pytest.approx(sample, rel=1e-6)
    assert out.terms["codebook_entropy_nats"].item() == pytest.approx(codebook, rel=1e-5)
    commitment = ((np.where(z > 0, 1, -1) - z) ** 2).mean()
    assert out.loss.item() == pytest.approx(0.25 * commitment + 0.1 * (sample - codebook), rel=1e-5)


def test_vq_moving_averages_and_restart():
    """Trap of npq-vit: a restart must reset count and sum too, or the next update undoes it."""
    K, d, decay, eps, threshold = 12, 4, 0.8, 1e-5, 0.7
    quantizer = create(
        "vq", dim=d, codebook_size=K, update="ema", decay=decay, eps=eps, restart_threshold=threshold
    ).double().train()  # fmt: skip
    codes = quantizer.codebook().numpy().copy()
    np.testing.assert_allclose(quantizer.ema_count, threshold, rtol=1e-7)
    count, sums = quantizer.ema_count.numpy().copy(), quantizer.ema_sum.numpy().copy()
    np.testing.assert_allclose(sums, codes * threshold, rtol=1e-6)
    restarted = 0
    for step in range(4):
        z = draw(10, d, seed=step) * 0.3 + 1
        index = ((z[:, None] - codes[None]) ** 2).sum(-1).argmin(-1)
        onehot = np.eye(K)[index]
        count = decay * count + (1 - decay) * onehot.sum(0)
        sums = decay * sums + (1 - decay) * onehot.T @ z
        smoothed = (count + eps) / (count.sum() + K * eps) * count.sum()
        codes = sums / smoothed[:, None]
        out = quantizer(torch.from_numpy(z))
        np.testing.assert_array_equal(out.indices, index)
        dead = count < threshold
        got = quantizer.codebook().numpy()
        np.testing.assert_allclose(got[~dead], codes[~dead], rtol=1e-12)
        taken = got[dead]
        which = ((taken[:, None] - z[None]) ** 2).sum(-1).argmin(-1)
        np.testing.assert_array_equal(taken, z[which])
        assert len(set(which)) == min(len(which), len(z))
        codes, count = got.copy(), np.where(dead, threshold, count)
        sums = np.where(dead[:, None], codes * threshold, sums)
        np.testing.assert_allclose(quantizer.ema_count, count, rtol=1e-12)
        np.testing.assert_allclose(quantizer.ema_sum, sums, rtol=1e-12)
        restarted += dead.sum()
    assert restarted > 0


def test_restarts_revive_a_codebook():
    """With all tokens in one corner, a codebook without restarts uses few codes, one with them most."""
    used = {}
    for threshold in (0.0, 0.1):
        quantizer = create("vq", dim=4, codebook_size=64, update="ema", restart_threshold=threshold).train()
        for step in range(150):
            out = quantizer(torch.randn(256, 4, generator=torch.Generator().manual_seed(step)) * 0.1 + 3)
        used[threshold] = len(out.indices.unique())
    assert used[0.0] < 10 and used[0.1] > 40, used


@pytest.mark.parametrize("shift", ["tan", "atanh"])
def test_fsq_codes(shift):
    levels = [8, 5, 6]
    z = draw(200, 3) * 2
    vectors, index, place = np.empty_like(z), np.zeros(200, dtype=np.int64), 1
    for i, size in enumerate(levels):
        half, offset = (size - 1) * (1 - 1e-3) / 2, (size % 2 == 0) / 2
        moved = np.tan(offset / half) if shift == "tan" else np.arctanh(offset / half)
        level = np.round(np.tanh(z[:, i] + moved) * half - offset)
        vectors[:, i] = level / (size // 2)
        index += (level + size // 2).astype(np.int64) * place
        place *= size
    out = create("fsq", levels=levels, shift=shift)(torch.from_numpy(z))
    np.testing.assert_allclose(out.vectors, vectors, rtol=1e-6)
    np.testing.assert_array_equal(out.indices, index)
    codes = create("fsq", levels=levels, shift=shift).codebook()
    assert codes[:, 0].unique().tolist() == [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75]


def test_fsq_recommended_levels():
    sizes = {(8, 8, 8, 6, 5): 15_360, (8, 8, 8, 5, 5, 5): 64_000, (8, 8, 8, 8, 4): 2**14, (8, 8, 8, 8): 2**12}
    for levels, size in sizes.items():
        assert create("fsq", levels=list(levels)).codebook_size == size


def test_simvq_basis_is_frozen_with_the_authors_scale():
    quantizer = create("simvq", dim=16, codebook_size=4096)
    assert float(quantizer.basis.std()) == pytest.approx(16**-0.5, rel=0.02)
    assert quantizer.learnable == {"projection.weight", "projection.bias"}
