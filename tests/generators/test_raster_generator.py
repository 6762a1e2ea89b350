"""The raster generator: causality, the cache, guidance, determinism, learning."""

import pytest
import torch

from latticebench.errors import BadInput
from latticebench.generators.raster_generator import RasterGenerator, TokenRasterParameters, TokenRasterTransformer
from latticebench.generators.roles import roles
from latticebench.quantizers import create
from latticebench.training.optimizers import groups

SIDE = 4
KINDS = {
    "vq": ("vq", {"codebook_size": 64, "dim": 8}),
    "leech": ("leech", {"codebook_size": 300}),
    "bsq": ("bsq", {"dim": 8}),
}


class Tokens:
    """As much of a tokenizer as a generator reads."""

    scales = (SIDE,)

    def __init__(self, kind):
        name, parameters = KINDS[kind]
        torch.manual_seed(0)
        self.quantizer = create(name, **parameters)


def generator(kind, digits=False, **options):
    under = Tokens(kind)
    sizes = tuple(under.quantizer.digit_sizes) if digits else (under.quantizer.codebook_size,)
    options = {"classes": 3} | options
    torch.manual_seed(1)
    model = TokenRasterTransformer(TokenRasterParameters(under.quantizer.dim, sizes, SIDE, 32, 2, 4, **options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return RasterGenerator(model, under).eval()


@pytest.mark.parametrize(("kind", "digits"), [("vq", False), ("leech", True), ("bsq", True)])
def test_cache_gives_the_same_tokens(kind, digits):
    made = generator(kind, digits).double()
    classes, seeds = torch.tensor([0, 1, 2, 2]), torch.arange(4)
    options = {"guidance": (1.0, 2.0), "top_k": 40, "top_p": 0.95, "temperature": 0.9, "at_once": 4}
    (cached,), (plain,) = (made.sample(classes, seeds, cache=way, **options) for way in (True, False))
    assert torch.equal(cached, plain) and cached.shape == (4, SIDE, SIDE) and len(cached.unique()) > 10


def test_in_float32_the_cache_gives_999_of_1000_tokens():
    made = generator("vq")
    seeds = torch.arange(160)
    (cached,), (plain,) = (made.sample(seeds % 3, seeds, cache=way, at_once=32) for way in (True, False))
    assert (cached == plain).float().mean() >= 0.999


@pytest.mark.parametrize("kind", ["vq", "leech"])
def test_a_sample_depends_on_its_class_and_seed_alone(kind):
    made = generator(kind)
    classes, seeds = torch.arange(7) % 3, torch.arange(7) + 10
    (whole,) = made.sample(classes, seeds, top_p=0.9, at_once=4)
    for rows in (slice(0, 1), slice(3, 6)):
        assert torch.equal(made.sample(classes[rows], seeds[rows], top_p=0.9, at_once=4)[0], whole[rows])
    (back,) = made.sample(classes.flip(0), seeds.flip(0), top_p=0.9, at_once=4)
    assert torch.equal(back.flip(0), whole)


def test_logits_see_earlier_tokens_only():
    made = generator("vq")
    tokens = torch.randint(64, (2, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 1, 2] = (changed[:, 1, 2] + 1) % 64
    with torch.no_grad():
        before, after = (made.logits(torch.tensor([0, 1]), [t]) for t in (tokens, changed))
    at = SIDE + 2
    assert torch.equal(before[:, : at + 1], after[:, : at + 1])
    moved = (before != after).any(dim=-1).all(dim=0)
    assert bool(moved[at + 1]) and bool(moved[at + SIDE])


def test_the_loss_is_that_of_the_logits():
    for kind, digits in (("vq", False), ("leech", True), ("bsq", True)):
        made = generator(kind, digits)
        tokens = torch.randint(made.tokenizer.quantizer.codebook_size, (3, SIDE, SIDE))
        classes, drop = torch.tensor([0, 1, 2]), torch.tensor([False, True, False])
        loss = made.loss(classes, [tokens], drop=drop)
        free = made.loss(None, [tokens[1:2]])["cross_entropy"]
        told = made.loss(classes[[0, 2]], [tokens[[0, 2]]])["cross_entropy"]
        assert torch.allclose(loss["cross_entropy"], (free + 2 * told) / 3, atol=1e-5)
        if digits:
            parts = made.digit_logits(classes, [tokens])
            targets = made.codes.targets(tokens.flatten(1)).unbind(-1)
            nats = sum(torch.nn.functional.cross_entropy(p.mT, t) for p, t in zip(parts, targets, strict=True))
            with pytest.raises(ValueError, match="digit_logits"):
                made.logits(classes, [tokens])
        else:
            nats = torch.nn.functional.cross_entropy(made.logits(classes, [tokens]).mT, tokens.flatten(1))
        assert torch.allclose(made.loss(classes, [tokens])["loss"], nats, atol=1e-4)
        assert made.loss(classes, [tokens], z_weight=0.1)["loss"] > nats


@pytest.mark.parametrize("matrices", ["adamw", "dion", "muon"])
def test_it_learns_a_class(matrices):
    made = generator("vq", classes=2).train()
    optimizer = groups.make(
        dict(made.named_parameters()), roles(made), groups.Recipe(matrices, "adamw", scaled_head=False)
    )
    rows = torch.arange(16).view(1, SIDE, SIDE)
    tokens, classes = torch.cat([rows, rows + 40]), torch.tensor([0, 1])
    made.start_from([tokens])
    optimizer.rate = 0.01
    for _ in range(60):
        optimizer.zero_grad()
        loss = made.loss(classes, [tokens])["loss"]
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3
    (drawn,) = made.eval().sample(torch.tensor([1]), torch.tensor([5]), top_k=1)
    assert torch.equal(drawn, tokens[1:])


def test_without_classes():
    made = generator("vq", classes=0, class_drop=0.0)
    assert made.sample(None, torch.tensor([1, 2]))[0].shape == (2, SIDE, SIDE)
    with pytest.raises(BadInput, match="no classes"):
        made.sample(None, torch.tensor([1]), guidance=2.0)


def test_what_it_refuses():
    with pytest.raises(BadInput, match="class_drop 0"):
        generator("vq", class_drop=0.0).sample(torch.tensor([1]), torch.tensor([1]), guidance=1.5)
    made = generator("vq")
    for options, message in (({"temperature": 0.0}, "temperature"), ({"top_p": 1.5}, "top_p")):
        with pytest.raises(BadInput, match=message):
            made.sample(torch.tensor([1]), torch.tensor([1]), **options)
    with pytest.raises(IndexError, match=r"\[0, 3\)"):
        made.sample(torch.tensor([3]), torch.tensor([1]))
    with pytest.raises(BadInput, match="multiple of heads"):
        TokenRasterParameters(8, (4,), 4, width=30, heads=4)
    with pytest.raises(BadInput, match="class_drop"):
        TokenRasterParameters(8, (4,), 4, class_drop=1.0)
    with pytest.raises(BadInput, match="one scale"):
        RasterGenerator(TokenRasterTransformer(TokenRasterParameters(8, (64,), 5, 32, 1, 4)), Tokens("vq"))
    with pytest.raises(BadInput, match="dimensions"):
        RasterGenerator(TokenRasterTransformer(TokenRasterParameters(7, (64,), 4, 32, 1, 4)), Tokens("vq"))
