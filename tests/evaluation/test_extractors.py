"""Networks of other people's metrics: torch-fidelity's door to ours, and DINOv2's written out."""

import numpy as np
import pytest
import torch

from evaluation import dinov2, features, fidelity, frechet, sets, weights
from evaluation.images import from_array, from_floats
from latticebench.errors import BadInput, Missing


class Pictures(torch.utils.data.Dataset):
    def __init__(self, array):
        self.images = torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def test_torch_fidelity_computes_our_distance_with_our_network():
    import torch_fidelity

    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, size=(128, 1, 1, 3), dtype=np.uint8).repeat(64, 1).repeat(64, 2)
    a = np.clip(a + rng.normal(0, 20, a.shape), 0, 255).astype(np.uint8)
    b = np.clip(a + rng.normal(0, 20, a.shape), 0, 255).astype(np.uint8)
    theirs = torch_fidelity.calculate_metrics(
        input1=Pictures(b),
        input2=Pictures(a),
        feature_extractor=fidelity.register(),
        fid=True,
        prc=True,
        kid=True,
        kid_subset_size=100,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
    )
    x, y = (features.of(from_array(side), "insuite")["features"] for side in (a, b))
    ours = frechet.between(frechet.moments(x), frechet.moments(y))
    # torch-fidelity takes the square root of eigenvalues of a product in float64, and features in its own batches.
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    values = sets.precision_recall(y, x, None)
    assert values["precision"].value == theirs["precision"] and values["recall"].value == theirs["recall"]
    assert fidelity.register() == fidelity.NAME


def test_dinov2_equals_torchvisions_vision_transformer_where_both_have_the_same_layers():
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    theirs = VisionTransformer(28, 14, 2, 2, 16, 64).eval()
    ours = dinov2.Network(width=16, depth=2, heads=2, grid=2).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state = {"cls_token": theirs.class_token, "pos_embed": theirs.encoder.pos_embedding}
    state |= {f"patch_embed.proj.{k}": v for k, v in theirs.conv_proj.state_dict().items()}
    state |= {f"norm.{k}": v for k, v in theirs.encoder.ln.state_dict().items()}
    renamed = {"ln_1": "norm1", "ln_2": "norm2", "self_attention.in_proj_": "attn.qkv.", "mlp.0": "mlp.fc1"}
    renamed |= {"self_attention.out_proj": "attn.proj", "mlp.3": "mlp.fc2"}
    for number, layer in enumerate(theirs.encoder.layers):
        for key, value in layer.state_dict().items():
            for old, new in renamed.items():
                key = key.replace(old, new)
            state[f"blocks.{number}.{key}"] = value
    left = ours.load_state_dict(state, strict=False)
    assert not left.unexpected_keys and all("ls" in key or "mask" in key for key in left.missing_keys)
    theirs.heads = torch.nn.Identity()
    x = torch.randn(3, 3, 28, 28)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_dinov2_has_the_released_models_shape_and_checks_it(tmp_path):
    with torch.device("meta"):
        network = dinov2.Network()
    assert sum(p.numel() for p in network.parameters()) == 304_368_640
    assert network.pos_embed.shape == (1, 1370, 1024)
    torch.save({"nothing": torch.zeros(1)}, tmp_path / "foreign.pth")
    with pytest.raises(BadInput, match=r"foreign\.pth does not hold DINOv2"):
        features.build("dinov2", {"dinov2": str(tmp_path / "foreign.pth")})
    with pytest.raises(Missing, match="latticebench fetch dinov2-vitl14"):
        weights.find("dinov2")


def test_dinov2s_positions_of_another_size_and_its_pictures():
    network = dinov2.Network(width=8, depth=1, heads=2, grid=37)
    torch.nn.init.normal_(network.pos_embed)
    assert network._positions(16, 16).shape == (1, 257, 8)
    flat = dinov2.prepare(np.full((2, 40, 56, 3), 255, np.uint8))
    assert flat.shape == (2, 3, 224, 224)
    torch.testing.assert_close(
        flat[0, :, 0, 0], torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, 0.594 / 0.225])
    )


def test_floats_come_as_they_are_but_clamped():
    x = np.array([-0.2, 0.3333, 1.2], np.float32).reshape(1, 1, 1, 3)
    assert from_floats(x).read((0, 1)).ravel().tolist() == [0.0, np.float32(0.3333), 1.0]
    with pytest.raises(BadInput, match="floats in"):
        from_floats(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(BadInput, match=r"array\[0\] contains NaN"):
        from_floats(x * np.nan).read((0, 1))
