"""Convolutional and multi-scale tokenizers around any quantizer, and the ViT of the papers."""

import pytest
import torch

from latticebench.errors import BadInput
from latticebench.nn.checkpointing import set_gradient_checkpointing
from latticebench.nn.convolutional import Convolutional, ConvolutionalDecoder, ConvolutionalEncoder, depth_to_space
from latticebench.quantizers import create
from latticebench.tokenizers.convolutional import (
    Architecture,
    ConvolutionalTokenizer,
    MultiScaleTokenizer,
    build,
)
from latticebench.tokenizers.paper_vit import Architecture as ViT
from latticebench.tokenizers.paper_vit import PaperViTTokenizer
from latticebench.tokenizers.residual_scales import ResidualScales, Scales, resize

METHODS = {
    "vq": {"dim": 8, "codebook_size": 32},
    "simvq": {"dim": 8, "codebook_size": 32},
    "lfq": {"dim": 8},
    "bsq": {"dim": 8, "normalize": False},
    "leech": {"normalize": False},
    "random": {"dim": 8, "codebook_size": 64},
}


def tokenizer(method, scales=None, **options):
    torch.manual_seed(0)
    quantizer = create(method, **METHODS[method])
    network = Convolutional(quantizer.dim, 32, (1, 2), **options)
    return build(quantizer, 8, Architecture(network, scales=scales))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scales", [None, Scales((1, 2, 4)), Scales((1, 3, 4), "bicubic", "area", 2)])
def test_codes_and_the_training_path_agree(method, scales):
    made = tokenizer(method, scales).eval()
    assert isinstance(made, MultiScaleTokenizer if scales else ConvolutionalTokenizer)
    pictures = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        indices = made.encode(pictures)
        output = made(pictures)
        assert torch.equal(made.decode(indices), made.reconstruct(pictures))
        assert torch.allclose(output.images.clamp(0, 1), made.reconstruct(pictures), atol=1e-6)
        digits = made.encode_digits(pictures)
        assert torch.allclose(made.decode_digits(digits), made.decode(indices), atol=1e-6)
    sides = [tuple(tokens.shape[1:]) for tokens in indices]
    assert sides == [(side, side) for side in made.scales]
    assert made.bits_per_image(8, 8) == pytest.approx(sum(a * b for a, b in sides) * made.quantizer.bits)
    if scales:
        flat = torch.cat([tokens.flatten(1) for tokens in indices], dim=1)
        assert torch.equal(output.quantized.indices, flat)


def test_the_gradient_is_the_sum_over_scales():
    residual = ResidualScales(create("lfq", dim=4), Scales((1, 2, 4)))
    z = torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(1, 4, 4, 4, dtype=torch.float64)
    (residual(z).vectors * weight).sum().backward()
    expected = torch.zeros_like(weight)
    for side in ((1, 1), (2, 2), (4, 4)):
        x = torch.zeros(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
        (resize(resize(x, side, "area"), (4, 4), "trilinear") * weight).sum().backward()
        expected += x.grad
    assert torch.allclose(z.grad, expected)


def test_partial_sums_and_next_inputs():
    made = tokenizer("bsq", Scales((1, 2, 4), "trilinear", "trilinear")).eval()
    with torch.no_grad():
        indices = made.encode(torch.rand(1, 3, 8, 8))
        sums = made.partial_sums(indices)
        assert [tuple(total.shape) for total in sums] == [(1, 4, 4, 8)] * 3
        assert all(torch.equal(a, b) for a, b in zip(made.partial_sums(indices[:2]), sums, strict=False))
        assert torch.equal(made.decode_features(sums[-1]), made.decode(indices))
        assert made.next_input(sums[0], 1).shape == (1, 2, 2, 8)
        # A single vector spread over the square comes back as it was, whichever way.
        assert torch.allclose(made.next_input(sums[0], 1), sums[0][:, :2, :2])


def test_trilinear_is_what_torch_calls_it():
    x = torch.randn(2, 3, 5, 5)
    volume = torch.nn.functional.interpolate(x.unsqueeze(2), size=(1, 7, 7), mode="trilinear")
    assert torch.allclose(resize(x, (7, 7), "trilinear"), volume.squeeze(2), atol=1e-6)


def test_area_and_trilinear_differ_as_the_papers_do():
    x = torch.randn(1, 24, 16, 16)
    assert (resize(x, (6, 6), "area") - resize(x, (6, 6), "trilinear")).std() > 0.1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": True},
        {"bias": False, "down": "centred", "up": "depth-to-space", "latent_kernel": 1, "middle": 3, "adaptive": True},
    ],
)
def test_every_parameter_of_a_network_learns(options):
    torch.manual_seed(0)
    network = Convolutional(4, 32, (1, 2), **options)
    encoder, decoder = ConvolutionalEncoder(network), ConvolutionalDecoder(network)
    features = encoder(torch.randn(1, 3, 8, 8))
    assert features.shape == (1, 4, 4, 4)
    decoder(features).square().sum().backward()
    silent = [n for m in (encoder, decoder) for n, p in m.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_gradient_checkpointing_changes_nothing():
    made = tokenizer("lfq").train()
    pictures = torch.rand(1, 3, 8, 8)
    gradients = []
    for on in (False, True):
        set_gradient_checkpointing(made, on)
        made.zero_grad()
        made(pictures).images.sum().backward()
        gradients.append([p.grad.clone() for p in made.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_depth_to_space_order():
    x = torch.arange(8.0).reshape(1, 8, 1, 1)  # row, column, channel
    assert depth_to_space(x)[0].tolist() == [[[0, 2], [4, 6]], [[1, 3], [5, 7]]]


def test_what_does_not_fit():
    quantizer = create("vq", dim=8, codebook_size=4)
    with pytest.raises(BadInput, match="latent 4 differs"):
        build(quantizer, 8, Architecture(Convolutional(4, 32, (1, 2))))
    with pytest.raises(BadInput, match="no multiple of 2"):
        build(quantizer, 9, Architecture(Convolutional(8, 32, (1, 2))))
    with pytest.raises(BadInput, match="last scale has side 2"):
        build(quantizer, 8, Architecture(Convolutional(8, 32, (1, 2)), scales=Scales((1, 2))))
    with pytest.raises(BadInput, match="grow from coarse to fine"):
        Scales((2, 1))
    made = tokenizer("vq", Scales((1, 2, 4)))
    with pytest.raises(ValueError, match="index maps of sides"):
        made.decode([torch.zeros(1, 2, 2, dtype=torch.int64)])
    with pytest.raises(ValueError, match="8 px squares"):
        made.bits_per_image(16, 16)


def test_definitions_come_back():
    for made in (tokenizer("vq"), tokenizer("vq", Scales((1, 2, 4), "bicubic", "area", 1))):
        assert Architecture.from_definition(made.definition()) == made.options


def test_the_papers_vit():
    torch.manual_seed(0)
    made = PaperViTTokenizer(create("bsq", dim=6), 16, ViT(patch=4, width=32, layers=1, heads=4, head_width=64)).eval()
    pictures = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(made(pictures).images.clamp(0, 1), made.reconstruct(pictures), atol=1e-6)
    assert made.encoder.embed.bias is None and made.scales == (4,)
    quantizer = create("bsq", dim=18)
    with torch.device("meta"):
        whole = PaperViTTokenizer(quantizer, 256, ViT())
    assert sum(p.numel() for p in whole.parameters()) == 174_816_229 - 18 - 1  # less the two bases of the file
