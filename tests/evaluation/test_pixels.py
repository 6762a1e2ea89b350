"""Pixel metrics against scikit-image, against formulas written out, and the traps of published code."""

import numpy as np
import pytest
import torch

from evaluation import pixels


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    base = np.cumsum(np.cumsum(rng.normal(size=(6, 48, 40, 3)), axis=1), axis=2)
    base = (255 * (base - base.min()) / (base.max() - base.min())).astype(np.uint8)
    noisy = np.clip(base + rng.normal(0, 12, base.shape), 0, 255).astype(np.uint8)
    return base, noisy


def test_psnr_is_per_image_and_not_of_the_mean_error(pair):
    from skimage.metrics import peak_signal_noise_ratio

    a, b = pair
    b = b.copy()
    b[0] = a[0]
    b[0, 0, 0, 0] ^= 1
    expected = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(pixels.psnr(a, b), expected, rtol=1e-12)
    batch = 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))
    assert pixels.psnr(a, b).mean() > batch + 5


def test_identical_images_have_the_documented_finite_psnr(pair):
    a, _ = pair
    one_off = a.copy()
    one_off[:, 0, 0, 0] ^= 1
    np.testing.assert_array_equal(pixels.psnr(a, a), pixels.psnr(a, one_off))
    assert pixels.identical(a, a).all() and not pixels.identical(a, one_off).any()


def test_ssim_equals_scikit_image(pair):
    from skimage.metrics import structural_similarity

    a, b = pair
    expected = [
        structural_similarity(
            x, y, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(pixels.ssim(a, b), expected, rtol=1e-6)
    assert pixels.ssim(a, a) == pytest.approx(1.0)


def test_ms_ssim_equals_its_formula_in_scipy():
    from scipy.ndimage import correlate1d

    rng = np.random.default_rng(1)
    a = rng.integers(0, 256, size=(1, 176, 164, 3), dtype=np.uint8)
    b = np.clip(a + rng.normal(0, 30, a.shape), 0, 255).astype(np.uint8)
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(x):
        return correlate1d(correlate1d(x, window, axis=0), window, axis=1)[5:-5, 5:-5]

    channels = []
    for channel in range(3):
        x, y, product = a[0, ..., channel].astype(float), b[0, ..., channel].astype(float), 1.0
        for scale, weight in enumerate(pixels.MS_SSIM_WEIGHTS):
            mx, my = blur(x), blur(y)
            cs = (2 * (blur(x * y) - mx * my) + 58.5225) / (blur(x * x) - mx**2 + blur(y * y) - my**2 + 58.5225)
            if scale == 4:
                cs = cs * (2 * mx * my + 6.5025) / (mx**2 + my**2 + 6.5025)
            product *= max(cs.mean(), 0) ** weight
            if scale < 4:
                x, y = (np.pad(p, [(s % 2, s % 2) for s in p.shape]) for p in (x, y))
                x, y = (
                    sum(p[i : p.shape[0] // 2 * 2 : 2, j : p.shape[1] // 2 * 2 : 2] for i in (0, 1) for j in (0, 1)) / 4
                    for p in (x, y)
                )
        channels.append(product)
    assert pixels.ms_ssim(a, b)[0] == pytest.approx(np.mean(channels), rel=1e-9)


@pytest.mark.parametrize("metric, side", [(pixels.ssim, 10), (pixels.ms_ssim, 160)])
def test_too_small_images_are_refused_and_not_nan(metric, side):
    small = np.zeros((1, side, 200, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="px"):
        metric(small, small)


def test_the_door_rounds():
    levels = torch.arange(256, dtype=torch.float32) / 255
    images = levels.repeat(3).reshape(1, 3, 16, 16)
    assert (pixels.to_uint8(images)[0, ..., 0].ravel() == np.arange(256)).all()
    # Truncation loses levels already when the value went through [−1, 1]; rounding does not.
    there_and_back = ((levels * 2 - 1) + 1) / 2
    assert ((there_and_back * 255).to(torch.uint8) != torch.arange(256)).sum() > 20
    assert (pixels.to_uint8(there_and_back.repeat(3).reshape(1, 3, 16, 16))[0, ..., 0].ravel() == np.arange(256)).all()
    assert pixels.to_uint8(torch.tensor([-3.0, 7.0, 0.5]).reshape(1, 3, 1, 1)).ravel().tolist() == [0, 255, 128]
    with pytest.raises(ValueError, match="NaN"):
        pixels.to_uint8(torch.full((1, 3, 1, 1), float("nan")))


def test_mean_colour_is_each_images_own():
    images = np.random.default_rng(2).integers(0, 256, size=(3, 8, 8, 3), dtype=np.uint8)
    flat = pixels.mean_colour(images)
    assert flat.shape == images.shape and abs(flat[1, 0, 0] - images[1].mean(axis=(0, 1))).max() <= 0.5
