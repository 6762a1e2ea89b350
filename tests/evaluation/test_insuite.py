"""The feature network behind fd-insuite: its file, its door, and that its distance means something."""

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch.nn import functional as F

from evaluation import frechet, insuite
from evaluation.insuite import train
from latticebench.data.bundled import scene_pixels
from latticebench.data.prepare import make_source
from latticebench.errors import BadInput, Missing
from latticebench.files import sha256
from latticebench.seeding import generator


@pytest.fixture(scope="module")
def network():
    return insuite.load()


@pytest.fixture(scope="module")
def crops():
    """Every second evaluation crop (N, 64, 64, 3) uint8 of the four held-out scenes."""
    result = [
        image[y : y + 64, x : x + 64]
        for name in train.HELD_OUT
        for image in scene_pixels(name)
        for y in range(0, image.shape[0] - 63, 64)
        for x in range(0, image.shape[1] - 63, 64)
    ]
    return np.stack(result[::2])


@pytest.fixture(scope="module")
def reference(network, crops):
    return features(network, crops)


def features(network, images: np.ndarray) -> frechet.Moments:
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return frechet.moments(torch.cat([network(part) for part in batch.split(64)]).numpy())


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def noisy(image: np.ndarray, sigma: float, index: int) -> np.ndarray:
    noise = np.random.default_rng(index).normal(0, sigma, image.shape)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, quality: float) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=int(quality))
    return np.asarray(Image.open(stream))


def averaged(image: np.ndarray, share: float) -> np.ndarray:
    """Mixes each 8 x 8 block with its mean."""
    blocks = image.reshape(8, 8, 8, 8, 3).astype(float)
    mean = blocks.mean(axis=(1, 3), keepdims=True)
    return np.round(blocks + share * (mean - blocks)).astype(np.uint8).reshape(64, 64, 3)


DEGRADATIONS = {
    "blur": (lambda image, strength, _: blurred(image, strength), (0.5, 1.0, 2.0, 4.0)),
    "noise": (noisy, (5, 10, 20, 40)),
    "jpeg": (lambda image, strength, _: jpeg(image, strength), (90, 50, 20, 5)),
    "block averages": (lambda image, strength, _: averaged(image, strength), (0.25, 0.5, 0.75, 1.0)),
}


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_the_distance_rises_with_every_degradation(network, crops, reference, name):
    degrade, strengths = DEGRADATIONS[name]
    distances = [frechet.between(reference, reference)]
    for strength in strengths:
        degraded = np.stack([degrade(image, strength, i) for i, image in enumerate(crops)])
        distances.append(frechet.between(reference, features(network, degraded)))
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert all(a < b for a, b in itertools.pairwise(distances)), distances
    assert distances[-1] > 1, "the strongest degradation is barely seen"


def test_the_committed_file_is_small_and_known():
    assert sha256(insuite.WEIGHTS) == insuite.SHA256
    assert insuite.WEIGHTS.stat().st_size <= 2**20


def test_another_file_is_refused(tmp_path):
    changed = bytearray(insuite.WEIGHTS.read_bytes())
    changed[-1] ^= 1
    (tmp_path / "w.safetensors").write_bytes(changed)
    with pytest.raises(BadInput, match="restore it"):
        insuite.load(tmp_path / "w.safetensors")
    with pytest.raises(Missing):
        insuite.load(tmp_path / "absent.safetensors")


def test_features_are_float32_of_any_size_and_independent_of_the_batch(network):
    images = torch.rand(5, 3, 80, 96, generator=torch.Generator().manual_seed(0))
    together = network(images)
    assert together.shape == (5, 64)
    assert together.dtype == torch.float32
    assert not together.requires_grad
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    resized = F.interpolate(images, (64, 64), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(network(resized), together)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network(images), together)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64)])
def test_wrong_shapes_are_refused(network, shape):
    with pytest.raises(ValueError, match="floating"):
        network(torch.zeros(shape))


def test_uint8_is_refused(network):
    with pytest.raises(ValueError, match="uint8"):
        network(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_training_sees_no_held_out_scene_and_agrees_with_the_default_split(tmp_path):
    from latticebench import configuration

    values = {"name": "t", "data": {"source": "bundled-photographs"}, "quantizers": {"i": {"method": "identity"}}}
    source = make_source(configuration.from_values(values, tmp_path / "c.yaml"))
    assert set(source.options["eval_scenes"]) == set(train.HELD_OUT)


def test_views_keep_the_degradation_and_are_seeded():
    scenes = train.training_scenes()[:2]
    results = []
    for _ in range(2):
        random = generator(0, "test")
        clean = train.tiles(scenes, 4, random)
        results.append(train.view(train.degrade(clean, random), random))
    assert torch.equal(*results)
    assert results[0].shape == (4, 3, 64, 64)
    assert results[0].min() >= 0
    assert results[0].max() <= 1


def test_contrast_is_simclr_s_loss():
    a, b = torch.randn(2, 3, 5, generator=generator(0, "test")).double()
    z = F.normalize(torch.cat([a, b]), dim=1)
    expected = 0.0
    for i in range(6):
        terms = [torch.exp(z[i] @ z[k] / 0.2) for k in range(6) if k != i]
        expected -= torch.log(torch.exp(z[i] @ z[(i + 3) % 6] / 0.2) / sum(terms)) / 6
    torch.testing.assert_close(train.contrast(a, b), expected)


@pytest.mark.slow
def test_training_runs_and_is_deterministic(monkeypatch):
    monkeypatch.setattr(train, "STANDARDISING", 1)
    first, losses = train.train(20, 4, 0)
    second, _ = train.train(20, 4, 0)
    assert np.isfinite(losses).all()
    for key, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[key]), key
