"""Each loss against its formula, and the game as a whole."""

import types

import lpips
import pytest
import torch
import torchvision
from torch.nn import functional as F

from latticebench import configuration
from latticebench.errors import BadInput, Missing
from latticebench.nn import dinov2
from latticebench.tokenizers.losses import alignment, gan, objective, perceptual
from latticebench.tokenizers.losses.options import Alignment, Discriminator, Gan, Options, Perceptual
from latticebench.tokenizers.losses.patchgan import PatchDiscriminator
from latticebench.tokenizers.losses.stylegan2 import StyleGAN2Discriminator, minibatch_deviation
from latticebench.training import loop
from tests.tokenizers import helpers

SMALL = Discriminator(channel_base=128, minibatch_std=2)


def task(options, name="fsq", **changes):
    made = helpers.task(name, **changes)
    with_losses = objective.Objective(options, made.model, seed=5)
    made.objective, made.companions = with_losses, with_losses.companions
    return made


@pytest.mark.filterwarnings("ignore:.*weight")
@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_perceptual_is_lpips_with_the_same_trunk(net, monkeypatch):
    torch.manual_seed(3)
    vgg = torchvision.models.vgg
    # torchvision's layers without its classifier, whose hundred million weights take seconds to draw.
    bare = types.SimpleNamespace(features=vgg.make_layers(vgg.cfgs["D"], False))
    monkeypatch.setattr(torchvision.models, "vgg16", lambda pretrained: bare)
    theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = {"features." + key.split(".", 1)[1]: value for key, value in theirs.net.state_dict().items()}
    heads = torch.load(perceptual.heads_file(net), map_location="cpu", weights_only=True)
    ours = perceptual.Perceptual(net, state, heads)
    a, b = helpers.batch(2, 32, seed=1).requires_grad_(), helpers.batch(2, 32, seed=2)
    expected = theirs(a * 2 - 1, b * 2 - 1)
    actual = ours(a, b)
    torch.testing.assert_close(actual, expected.flatten(), rtol=1e-5, atol=1e-7)
    gradients = [torch.autograd.grad(value.sum(), a)[0] for value in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-7)
    assert not any(parameter.requires_grad for parameter in ours.parameters())
    black = torch.zeros(1, 3, 32, 32, requires_grad=True)
    assert torch.isfinite(torch.autograd.grad(ours(black, black.detach()).sum(), black)[0]).all()


def test_a_recipe_without_its_network_stops_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("LATTICEBENCH_CHECKPOINTS", str(tmp_path))
    registry = configuration.SCHEMA.parents[2] / "checkpoints" / "registry.yaml"
    (tmp_path / "registry.yaml").write_bytes(registry.read_bytes())
    with pytest.raises(Missing, match=r"alexnet-owt-7be5be79\.pth is missing; fetch it: latticebench fetch lpips-alex"):
        perceptual.load("alex", 32)
    with pytest.raises(BadInput, match="at least 32 px"):
        task(Options(perceptual=Perceptual(weight=1.0, net="alex")))
    with pytest.raises(Missing, match="fetch it: latticebench fetch lpips-vgg-trunk"):
        task(Options(perceptual=Perceptual(weight=1.0)))
    with pytest.raises(Missing, match="fetch it: latticebench fetch dinov2-vitl14"):
        task(Options(alignment=Alignment(weight=0.1)))
    foreign = tmp_path / "foreign.pth"
    torch.save({"a": torch.zeros(1)}, foreign)
    with pytest.raises(BadInput, match="sha256 begins with"):
        perceptual.load("vgg", 32, {"lpips-vgg": str(foreign)})


def test_schema_defaults_are_the_options_defaults():
    section = configuration.schema()["properties"]["tokenizer"]["properties"]["losses"]

    def defaults(node):
        return {
            key: defaults(part) if part.get("type") == "object" else part["default"]
            for key, part in node["properties"].items()
        }

    assert Options.of(defaults(section)) == Options() == Options.of({})


def test_minibatch_deviation_is_its_formula():
    x = torch.randn(6, 3, 2, 2, dtype=torch.float64)
    deviation = minibatch_deviation(x, 4)  # 4 does not divide 6: groups of 3, image i in group i mod 2
    for i in range(6):
        group = x[[j for j in range(6) if j % 2 == i % 2]]
        expected = (group.var(0, correction=0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(deviation[i], expected.expand(1, 2, 2))
    assert minibatch_deviation(x[:1], 4).abs().max() < 1e-3


def test_the_style_discriminators_shape():
    torch.manual_seed(0)
    network = StyleGAN2Discriminator(32, channel_base=512, channel_max=64)
    assert network(torch.randn(4, 3, 32, 32)).shape == (4,)
    assert [level.conv2.weight.shape[:2] for level in network.levels] == [(32, 16), (64, 32), (64, 64)]
    assert network.conv_out.weight.shape == (64, 65, 3, 3)
    halved = network.levels[0].conv2(torch.ones(1, 16, 32, 32))
    assert halved.shape[2:] == (16, 16)
    # The blur's taps add up to one, so inside a constant image halving is the convolution alone.
    direct = F.conv2d(torch.ones(1, 16, 3, 3), network.levels[0].conv2.weight * network.levels[0].conv2.scale)
    torch.testing.assert_close(halved[:, :, 8:9, 8:9], direct, rtol=1e-4, atol=1e-5)
    with torch.device("meta"):
        assert StyleGAN2Discriminator(256, channel_base=16384).from_rgb.weight.shape[0] == 64
    for side in (4, 24):
        with pytest.raises(BadInput, match="use patchgan"):
            StyleGAN2Discriminator(side)


def test_the_patch_discriminator_sees_patches():
    network = PatchDiscriminator(base=8, layers=3).eval()
    x = torch.randn(1, 3, 128, 128, requires_grad=True)
    verdicts = network(x)
    assert verdicts.shape == (1, 1, 14, 14)
    (seen,) = torch.autograd.grad(verdicts[0, 0, 7, 7], x)
    rows = seen.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == 70  # the paper's 70 x 70


def test_the_games_losses_are_their_formulas():
    f, r = torch.tensor([-2.0, 0.5, 3.0]), torch.tensor([0.2, -1.0, 2.0])
    torch.testing.assert_close(gan.generator_loss(f, "softplus"), torch.log1p(torch.exp(-f)).mean())
    torch.testing.assert_close(gan.generator_loss(f, "hinge"), -f.mean())
    softplus = 0.5 * (torch.log1p(torch.exp(-r)).mean() + torch.log1p(torch.exp(f)).mean())
    torch.testing.assert_close(gan.discriminator_loss(r, f, "softplus"), softplus)
    hinge = 0.5 * ((1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean())
    torch.testing.assert_close(gan.discriminator_loss(r, f, "hinge"), hinge)
    assert [gan.share(step, 10, 4) for step in (9, 10, 12, 14, 99)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert [gan.share(step, 10, 0) for step in (9, 10)] == [0.0, 1.0]


def test_r1_is_its_formula():
    weight = torch.randn(3, 8, 8, dtype=torch.float64)

    class Quadratic(torch.nn.Module):
        def forward(self, x):
            return (weight * x.square()).sum((1, 2, 3)) / 2

    images = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    expected = 10 / 2 * 16 * (weight * images).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(gan.gradient_penalty(Quadratic(), images, 10, 16), expected)


def test_the_adaptive_weight_is_the_ratio_of_gradients():
    layer = torch.randn(4, 3, requires_grad=True)
    x = torch.randn(3)
    loss, other = (layer @ x).square().sum(), 1e-2 * (layer @ x).sum()
    ratio = gan.adaptive_weight(loss, other, layer)
    first, second = (torch.autograd.grad(value, layer, retain_graph=True)[0].norm() for value in (loss, other))
    torch.testing.assert_close(ratio, first / (second + 1e-4))
    assert not ratio.requires_grad
    assert gan.adaptive_weight(loss, 0 * other, layer) == 1e4


def test_alignment_is_its_formula():
    torch.manual_seed(0)
    features = dinov2.Network(width=16, depth=1, heads=2, grid=4).requires_grad_(False)
    loss = alignment.Alignment(6, features, 0.5, 0.25)
    latents, images = torch.randn(2, 3, 3, 6, requires_grad=True), helpers.batch(2, 24)
    resized = F.interpolate(images, (42, 42), mode="bicubic", antialias=True).clamp(0, 1)
    f = features.patches(dinov2.normalised(resized))
    z = latents.detach().flatten(1, 2) @ loss.project.weight.detach().T
    total = 0.0
    for b in range(2):
        for i in range(9):
            cosine = F.cosine_similarity(z[b, i], f[b, i], dim=0)
            total += max(0.0, 1 - 0.5 - cosine.item()) / 18
            for j in range(9):
                pair = F.cosine_similarity(z[b, i], z[b, j], dim=0) - F.cosine_similarity(f[b, i], f[b, j], dim=0)
                total += max(0.0, abs(pair.item()) - 0.25) / 162
    value = loss(latents, images)
    assert value.item() == pytest.approx(total, rel=1e-4)
    assert torch.autograd.grad(value, latents)[0].abs().sum() > 0
    assert list(loss.state_dict()) == ["project.weight"]


def test_patch_features_come_row_by_row():
    network = dinov2.Network(width=8, depth=1, heads=2, grid=3).eval()
    images = torch.zeros(1, 3, 42, 28)
    images[:, :, 14:28, :14] = 1.0  # patch (1, 0)
    with torch.no_grad():
        assert network.patches(images).shape == (1, 6, 8)
        embedded = network.patch_embed(images)
    assert (embedded - embedded[:, :1]).abs().sum(-1).flatten().nonzero().tolist() == [[2]]


@pytest.mark.parametrize(
    "game",
    [
        Gan(weight=0.1, discriminator=SMALL),
        Gan(weight=0.1, loss="hinge", adaptive=True, start=2, ramp=2, discriminator=Discriminator("patchgan", base=8, layers=1)),
    ],
    ids=["stylegan2", "patchgan"],
)  # fmt: skip
def test_the_game_moves_both_players_and_resumes_with_the_same_bits(game, tmp_path):
    options = Options(clamp=True, gan=game)
    recipe, identity = helpers.options(steps=6), {"run": "a"}
    unbroken = task(options)
    before = {key: value.clone() for key, value in unbroken.companions["discriminator"].state_dict().items()}
    result = loop.train(unbroken, recipe, loop.Saving(tmp_path / "a", 1e9), identity)
    after = unbroken.companions["discriminator"].state_dict()
    assert all(not torch.equal(before[key], after[key]) for key, p in after.items() if p.is_floating_point())
    assert ("gan/generator" in result.rows[0]) == (game.start == 0)
    assert ["gan/r1" in row for row in result.rows] == [step == 0 and game.start == 0 for step in range(6)]
    assert all(row["gan/discriminator"] > 0 for row in result.rows[game.start :])

    broken = task(options)
    inner = broken.losses

    def losses(step, progress):
        if step == 4:
            raise KeyboardInterrupt
        return inner(step, progress)

    broken.losses = losses
    with pytest.raises(KeyboardInterrupt):
        loop.train(broken, recipe, loop.Saving(tmp_path / "b", 1e9, 3), identity)
    resumed = task(options)
    loop.train(resumed, recipe, loop.Saving(tmp_path / "b", 1e9), identity)
    pairs = [(unbroken.model, resumed.model)]
    pairs += zip(unbroken.companions.values(), resumed.companions.values(), strict=True)
    for one, other in pairs:
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def test_the_generators_gradient_does_not_reach_the_discriminator():
    made = task(Options(gan=Gan(weight=0.1, discriminator=SMALL)))
    made.initialize()
    discriminator = made.companions["discriminator"]
    made.losses(0, 0.0)["loss"].backward()
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    made.after_backward(0, 0.0, 0.5)
    halves = [parameter.grad.clone() for parameter in discriminator.parameters()]
    discriminator.zero_grad()
    made.losses(0, 0.0)
    made.after_backward(0, 0.0, 1.0)
    for half, whole in zip(halves, discriminator.parameters(), strict=True):
        torch.testing.assert_close(2 * half, whole.grad)
    assert not made.after_backward(0, 0.0, 1.0)  # a batch is judged once


def test_clamping_stops_the_gradient_outside_the_range():
    made = task(Options(clamp=True))
    images, output = helpers.batch(2), made.model(helpers.batch(2))
    outside = (output.images + 3.0).detach().requires_grad_()
    made.objective.losses(images, output._replace(images=outside), 0)["loss"].backward()
    assert not outside.grad.any()
