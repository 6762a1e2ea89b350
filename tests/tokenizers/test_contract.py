import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latticebench.errors import BadInput
from latticebench.nn.vit import from_patches, to_patches
from latticebench.tokenizers import cost
from latticebench.tokenizers.build import build, resolve_quantizer
from tests.tokenizers import helpers


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_patches_and_back(b, h, w, patch):
    images = torch.randn(b, 3, h * patch, w * patch)
    patches = to_patches(images, patch)
    assert patches.shape == (b, h * w, 3 * patch * patch)
    assert torch.equal(from_patches(patches, patch, h, w), images)
    assert torch.equal(patches[0, 0], images[0, :, :patch, :patch].flatten())


@pytest.mark.parametrize("linear_path", [True, False])
@pytest.mark.parametrize("name", [n for n in helpers.QUANTIZERS if n != "identity"])
def test_reconstruct_is_decode_of_encode(name, linear_path):
    tokenizer = helpers.tokenizer(name, linear_path=linear_path)
    tokenizer.initialize(helpers.batch(8), 8)
    tokenizer.eval()
    images = helpers.batch()
    with torch.no_grad():
        indices = tokenizer.encode(images)
        assert [i.shape for i in indices] == [(5, 4, 4)]
        assert indices[0].dtype == torch.int64
        decoded = tokenizer.decode(indices)
        assert torch.equal(tokenizer.reconstruct(images), decoded)
        # The training path gives the same pixels.
        assert torch.equal(tokenizer(images).images.clamp(0, 1), decoded)
    assert decoded.shape == images.shape
    assert decoded.min() >= 0 and decoded.max() <= 1


def test_other_sizes_than_the_trained_one():
    tokenizer = helpers.tokenizer("fsq").eval()
    images = torch.rand(2, 3, 24, 32)
    with torch.no_grad():
        (indices,) = tokenizer.encode(images)
        assert indices.shape == (2, 6, 8)
        assert tokenizer.decode([indices]).shape == images.shape
    assert tokenizer.bits_per_image(24, 32) == 6 * 8 * 6
    assert tokenizer.scales == (4,)


def test_identity_has_no_codes():
    tokenizer = helpers.tokenizer("identity").eval()
    images = helpers.batch()
    with torch.no_grad():
        assert tokenizer.reconstruct(images).shape == images.shape
    with pytest.raises(TypeError):
        tokenizer.encode(images)
    assert tokenizer.bits_per_image(16, 16) == math.inf


@pytest.mark.parametrize(
    "images", [torch.zeros(1, 3, 16, 15), torch.zeros(3, 16, 16), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)]
)
def test_images_at_the_door(images):
    with pytest.raises(ValueError):
        helpers.tokenizer("fsq").encode(images)


def test_single_scale_room_for_more():
    tokenizer = helpers.tokenizer("fsq")
    indices = torch.zeros(1, 4, 4, dtype=torch.int64)
    assert torch.equal(tokenizer.partial_sums([indices])[0], tokenizer.quantizer.decode(indices))
    with pytest.raises(ValueError, match="one index map"):
        tokenizer.decode([indices, indices])
    with pytest.raises(TypeError, match="single scale"):
        tokenizer.next_input(torch.zeros(1, 4, 4, 3), 1)


@pytest.mark.parametrize(("change", "key"), [({"patch": 5}, "tokenizer.patch"), ({"heads": 3}, "tokenizer.width")])
def test_sizes_that_do_not_fit(change, key):
    with pytest.raises(BadInput, match=key):
        build({**helpers.ARCHITECTURE, **change}, helpers.QUANTIZERS["fsq"], helpers.SIZE, 0)


def test_the_linear_path_starts_far_above_the_mean_colour():
    tokenizer = helpers.tokenizer("random")
    train = torch.from_numpy(helpers.pictures(64, helpers.SIZE)).permute(0, 3, 1, 2).float() / 255
    tokenizer.initialize(train, 64)
    images = helpers.batch(32)
    with torch.no_grad():
        error = (tokenizer.eval().reconstruct(images) - images).square().mean()
    mean_colour = (images - images.mean((2, 3), keepdim=True)).square().mean()
    assert error < mean_colour


def test_equal_patches_get_unequal_codes():
    # The dither: without it a flat image is one code, and quantization errors never average out.
    tokenizer = helpers.tokenizer("random")
    tokenizer.initialize(helpers.batch(24), 24)
    (indices,) = tokenizer.eval().encode(torch.full((1, 3, 16, 16), 0.4))
    assert len(indices.unique()) > 4


def test_drawn_points_follow_the_training_seed(tmp_path):
    entry = {"method": "random", "parameters": {"dim": 6, "codebook_size": 64}}
    seeds = [resolve_quantizer(entry, tmp_path, seed)["parameters"]["seed"] for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2]
    fixed = {"method": "random", "parameters": {"seed": 7}}
    assert resolve_quantizer(fixed, tmp_path, 1)["parameters"]["seed"] == 7
    assert "seed" not in resolve_quantizer(helpers.QUANTIZERS["fsq"], tmp_path, 1)["parameters"]


def test_parameters():
    tokenizer = helpers.tokenizer("random")
    numbers = cost.parameters(tokenizer)
    assert numbers["trained"] == sum(p.numel() for p in tokenizer.parameters())
    assert numbers["quantizer"] == 64 * 6
    assert numbers["total"] > numbers["trained"] + numbers["quantizer"]


@pytest.mark.parametrize("name", ["identity", "fsq", "vq", "random"])
def test_flops_are_those_of_torch(name):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    tokenizer = helpers.tokenizer(name).eval()
    images = torch.zeros(1, 3, 32, 32)
    # The plain attention is made of products that torch's counter knows on every device.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        tokenizer.reconstruct(images)
    counted = cost.flops(tokenizer, 32, 32)
    assert counted["encode"] + counted["decode"] == counter.get_total_flops()
    assert min(counted.values()) > 0
