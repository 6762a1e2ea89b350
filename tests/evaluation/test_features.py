"""The feature stage: preprocessing written out, stored features, several processes, foreign weights."""

import numpy as np
import pytest
import torch

from evaluation import features, perceptual, weights
from evaluation.images import from_array
from latticebench.errors import BadInput, Missing


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Random weights of the right shape: they drive the real network."""
    from unittest import mock

    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.manual_seed(0)

    class Stop(Exception):
        pass

    kept = {}

    def keep(self, state):
        kept["state"] = self.state_dict()
        raise Stop

    with (
        mock.patch.object(theirs.FeatureExtractorInceptionV3, "load_state_dict", keep),
        mock.patch.object(theirs, "load_state_dict_from_url", lambda *a, **k: None),
        pytest.raises(Stop),
    ):
        theirs.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    torch.save(kept["state"], path)
    return path


@pytest.fixture
def photographs():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, size=(3, 40, 56, 3), dtype=np.uint8)


def test_tf1_door_equals_torch_fidelitys_own_network(inception_file, photographs):
    network = features.inception_network(inception_file)
    network.features_list = ["2048", "logits_unbiased"]
    x = torch.from_numpy(photographs).permute(0, 3, 1, 2).contiguous()
    with torch.inference_mode():
        pool, logits = network(x)
        ours = features.inception_heads(network, features.resize_tf1(x.float() / 255))
    torch.testing.assert_close(ours["pool"], pool, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours["logits"], logits, rtol=1e-4, atol=1e-5)
    assert ours["spatial"].shape == (3, 7 * 17 * 17)


def test_pytorch_fid_resize_is_half_pixel_bilinear_written_out(photographs):
    x = photographs.astype(np.float64) / 255

    def weights_of(size):
        position = np.clip((np.arange(299) + 0.5) * size / 299 - 0.5, 0, size - 1)
        low = np.minimum(position.astype(int), size - 1)
        high = np.minimum(low + 1, size - 1)
        matrix = np.zeros((299, size))
        np.add.at(matrix, (np.arange(299), low), 1 - (position - low))
        np.add.at(matrix, (np.arange(299), high), position - low)
        return matrix

    expected = 2 * np.einsum("ia,nabc,jb->ncij", weights_of(40), x, weights_of(56), optimize=True) - 1
    images = torch.from_numpy(photographs).permute(0, 3, 1, 2).float() / 255
    ours = features.resize_pytorch_fid(images).numpy()
    assert np.abs(ours - expected).max() < 1e-4
    assert np.abs(features.resize_tf1(images).numpy() - expected).mean() > 1e-3  # another metric, not rounding


def test_weights_are_checked(tmp_path, inception_file, monkeypatch):
    with pytest.raises(Missing, match=r"^none\.pth is missing; fetch it: latticebench fetch inception-torch-fidelity$"):
        weights.find("inception", {"inception": str(tmp_path / "none.pth")})
    with pytest.raises(BadInput, match="6726825d"):
        weights.find("inception", {"inception": str(inception_file)})
    state = torch.load(inception_file, weights_only=True)
    state["fc.weight"] = state["fc.weight"][:10]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(BadInput, match="FID Inception"):
        features.inception_network(tmp_path / "short.pth")


def _moving_average(x):
    return torch.from_numpy(x.reshape(len(x), -1)[:, :6].astype(np.float32))


@pytest.fixture
def fake(monkeypatch):
    calls = []

    def build(paths, device):
        def run(x):
            calls.append(len(x))
            return {"features": _moving_average(x)}

        return features.Extractor("fake", "f" * 64, run)

    features._built.cache_clear()
    monkeypatch.setitem(features.EXTRACTORS, "fake", build)
    yield calls
    features._built.cache_clear()


def test_features_are_computed_once_and_keyed_by_content(tmp_path, fake):
    images = np.random.default_rng(1).integers(0, 256, size=(70, 8, 8, 3), dtype=np.uint8)
    first = features.of(from_array(images), "fake", store=tmp_path)["features"]
    assert fake == [32, 32, 6]
    again = features.of(from_array(images.copy()), "fake", store=tmp_path)["features"]
    assert fake == [32, 32, 6]
    np.testing.assert_array_equal(first, again)
    images[0, 0, 0, 0] ^= 1
    features.of(from_array(images), "fake", store=tmp_path)
    assert len(fake) == 6


def test_other_code_does_not_meet_stored_features(tmp_path, fake, monkeypatch):
    images = from_array(np.zeros((3, 8, 8, 3), np.uint8))
    features.of(images, "fake", store=tmp_path)
    hashed = features.records.code_hashes
    monkeypatch.setattr(features.records, "code_hashes", lambda paths: {**hashed(paths), "evaluation/pixels.py": "0"})
    features.of(images, "fake", store=tmp_path)
    monkeypatch.setattr(features.torch, "__version__", "0.0")
    features.of(images, "fake", store=tmp_path)
    assert len(list(tmp_path.glob("fake-ffffffff-cpu-*/*/features.npy"))) == 3


def test_nan_features_name_the_image(monkeypatch, fake):
    monkeypatch.setitem(
        features.EXTRACTORS,
        "broken",
        lambda paths, device: features.Extractor(
            "broken", "0" * 64, lambda x: {"features": torch.full((len(x), 2), float("nan"))}
        ),
    )
    with pytest.raises(BadInput, match=r"array\[0\]"):
        features.of(from_array(np.zeros((2, 8, 8, 3), np.uint8)), "broken")


def test_lpips_equals_its_formula(photographs):
    """Eq. 1 of the paper in numpy: unit-normalised activations, squared differences, weighted by the heads."""
    torch.manual_seed(1)
    network = perceptual.network("alex", None)
    x, y = (
        torch.from_numpy(np.ascontiguousarray(s)).permute(0, 3, 1, 2).float() / 127.5 - 1
        for s in (photographs, photographs[::-1])
    )
    with torch.inference_mode():
        ours = network(x, y).flatten().numpy()
        shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
        activations = []
        for side in (x, y):
            centred = (side.numpy() - shift[None, :, None, None]) / scale[None, :, None, None]
            activations.append([a.numpy() for a in network.net(torch.from_numpy(centred).float())])
    expected = np.zeros(len(ours))
    for level, (a, b) in enumerate(zip(*activations, strict=True)):
        a, b = (s / (np.sqrt((s**2).sum(axis=1, keepdims=True)) + 1e-10) for s in (a, b))
        head = network.lins[level].model[-1].weight.detach().numpy()
        expected += ((a - b) ** 2 * head).sum(axis=1).mean(axis=(1, 2))
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_lpips_is_built_once_and_sees_minus_one_to_one(monkeypatch):
    built, seen = [], []

    class Network(torch.nn.Module):
        def forward(self, x, y):
            seen.append((x.min().item(), y.max().item()))
            return (x - y).abs().mean(dim=(1, 2, 3), keepdim=True)

    monkeypatch.setattr(perceptual, "network", lambda trunk, path: built.append(trunk) or Network())
    monkeypatch.setattr(perceptual.weights, "find", lambda name, paths: weights.File(None, "0" * 64))
    perceptual._built.cache_clear()
    try:
        black, white = np.zeros((2, 32, 32, 3), np.uint8), np.full((2, 32, 32, 3), 255, np.uint8)
        for _ in range(3):
            assert perceptual.distances("lpips_alex", black, white, {}, "cpu").tolist() == [2.0, 2.0]
        perceptual.distances("lpips_vgg", black, white, {}, "cpu")
    finally:
        perceptual._built.cache_clear()
    assert built == ["alex", "vgg"], "one network for all batches, and another trunk is another network"
    assert set(seen) == {(-1.0, 1.0)}


def test_lpips_trunk_weights_land_where_they_belong(tmp_path):
    import torchvision

    torch.manual_seed(2)
    trunk = torchvision.models.alexnet(weights=None)
    torch.save(trunk.state_dict(), tmp_path / "alex.pth")
    network = perceptual.network("alex", tmp_path / "alex.pth")
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network.net(x).relu1, trunk.features[:2](x))
    torch.testing.assert_close(network.net(x).relu5, trunk.features[:12](x))
    torch.save({"nothing": torch.zeros(1)}, tmp_path / "foreign.pth")
    with pytest.raises(BadInput, match=r"foreign\.pth"):
        perceptual.network("alex", tmp_path / "foreign.pth")
