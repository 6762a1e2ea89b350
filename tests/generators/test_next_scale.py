"""Next-scale transformers: the cache, guidance, determinism, the heads and the released order of filters."""

import pytest
import torch
from torch.nn import functional as F

from latticebench.errors import BadInput
from latticebench.generators import sampling
from latticebench.generators.next_scale import (
    NextScaleGenerator,
    NextScaleParameters,
    NextScaleTransformer,
    rotary_angles,
)
from latticebench.nn.convolutional import Convolutional
from latticebench.quantizers import create
from latticebench.tokenizers.convolutional import Architecture, build
from latticebench.tokenizers.residual_scales import Scales

SIDES = (1, 2, 4)
KINDS = {
    "infinity-cc": {"positions": "rotary", "shared_norm": True, "levels": 15},
    "var": {"positions": "learned", "shared_norm": False, "no_class": "last"},
}


def tokenizer(method="leech-published", **parameters):
    torch.manual_seed(0)
    quantizer = create(method, **(parameters or {"codebook_size": 1518, "normalize": False}))
    network = Convolutional(quantizer.dim, 32, (1, 2))
    return build(quantizer, 8, Architecture(network, scales=Scales(SIDES))).eval()


def generator(kind, under, digit_sizes=None, spread=True):
    torch.manual_seed(1)
    sizes = digit_sizes or (under.quantizer.codebook_size,)
    parameters = NextScaleParameters(
        under.quantizer.dim, sizes, SIDES, width=64, layers=2, heads=4, classes=5, **KINDS[kind]
    )
    transformer = NextScaleTransformer(parameters)
    if spread:  # at the start residual branches are near zero, so that a wrong one would not show
        with torch.no_grad():
            for parameter in transformer.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return NextScaleGenerator(transformer, under).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_cache_gives_the_same_tokens(kind):
    made = generator(kind, tokenizer()).double()
    classes, seeds = torch.tensor([1, 4, 1]), torch.tensor([5, 6, 7])
    options = {"guidance": (1.0, 2.0), "top_k": (200, 50), "top_p": 0.95}
    cached, plain = (made.sample(classes, seeds, cache=way, **options) for way in (True, False))
    assert all(torch.equal(a, b) for a, b in zip(cached, plain, strict=True))
    assert [tuple(tokens.shape) for tokens in cached] == [(3, side, side) for side in SIDES]
    assert len(cached[2].unique()) > 8


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_depends_on_its_class_and_seed_alone(kind):
    made = generator(kind, tokenizer()).double()
    both = made.sample(torch.tensor([1, 4]), torch.tensor([5, 6]), top_p=0.9)
    alone = made.sample(torch.tensor([4]), torch.tensor([6]), top_p=0.9)
    assert all(torch.equal(a[1:], b) for a, b in zip(both, alone, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_see_earlier_scales_only(kind):
    under = tokenizer()
    made = generator(kind, under)
    indices = under.encode(torch.rand(2, 3, 8, 8))
    changed = [*indices[:1], (indices[1] + 1) % under.quantizer.codebook_size, indices[2]]
    with torch.no_grad():
        before, after = (made.logits(torch.tensor([0, 3]), maps) for maps in (indices, changed))
        free = made.logits(None, indices)
    assert before.shape == (2, 21, 1518)
    assert torch.equal(before[:, :5], after[:, :5]) and not torch.allclose(before[:, 5:], after[:, 5:])
    assert not torch.allclose(before, free)


@pytest.mark.parametrize("kind", KINDS)
def test_the_class_that_is_none(kind):
    transformer = generator(kind, tokenizer()).transformer
    assert transformer.rows(None, 2).tolist() == ([0, 0] if kind == "infinity-cc" else [5, 5])
    assert transformer.rows(torch.tensor([0, 4]), 2).tolist() == ([1, 5] if kind == "infinity-cc" else [0, 4])
    with pytest.raises(IndexError, match=r"\[0, 5\)"):
        transformer.rows(torch.tensor([5]), 1)
    rows = transformer.rows(torch.tensor([3, 3]), 2, torch.tensor([True, False]))
    assert rows[:1].equal(transformer.rows(None, 1)) and rows[1:].equal(transformer.rows(torch.tensor([3]), 1))


def test_digits_of_a_product_and_of_a_constrained_code():
    product = tokenizer("bsq", dim=8, normalize=False)
    made = generator("infinity-cc", product, (2,) * 8)
    classes, seeds = torch.tensor([1]), torch.tensor([2])
    tokens = made.sample(classes, seeds)
    assert all(bool((t < 256).all()) for t in tokens)
    with pytest.raises(ValueError, match="digit_logits"):
        made.logits(classes, tokens)
    assert [part.shape[-1] for part in made.digit_logits(classes, tokens)] == [2] * 8
    leech = tokenizer()
    sizes = tuple(leech.quantizer.digit_sizes)
    if len(sizes) > 1:
        tokens = generator("infinity-cc", leech, sizes).sample(classes, seeds, top_k=20, top_p=0.9)
        assert all(bool(((t >= 0) & (t < 1518)).all()) for t in tokens)


def test_what_does_not_fit():
    under = tokenizer()
    with pytest.raises(BadInput, match="scales"):
        other = NextScaleParameters(24, (1518,), (1, 4), width=64, layers=1, heads=4)
        NextScaleGenerator(NextScaleTransformer(other), under)
    with pytest.raises(BadInput, match="codes"):
        other = NextScaleParameters(24, (7,), SIDES, width=64, layers=1, heads=4)
        NextScaleGenerator(NextScaleTransformer(other), under)
    with pytest.raises(BadInput, match="multiple of heads"):
        NextScaleParameters(24, (7,), SIDES, width=64, heads=5)
    with pytest.raises(BadInput, match="4 divides"):
        NextScaleParameters(24, (7,), SIDES, width=60, heads=6)


def test_rotary_positions_share_a_grid():
    by_cell = rotary_angles((6, 12), 64, 8)
    rows = by_cell[:36].reshape(6, 6, 4)[:, 0, 0]
    assert rows.round().int().tolist() == [0, 11, 21, 32, 43, 53]
    columns = by_cell[36:].reshape(12, 12, 4)[0, :, 2]
    assert columns.round().int().tolist() == [0, 5, 11, 16, 21, 27, 32, 37, 43, 48, 53, 59]


def test_filters_in_the_released_order():
    logits = torch.log(torch.tensor([[0.4, 0.2, 0.2, 0.15, 0.05]]))
    kept = sampling.filtered(logits, top_k=2)[0].isfinite().tolist()
    assert kept == [True, True, True, False, False]  # ties with the second are kept
    kept = sampling.filtered(logits, top_k=2, top_p=0.6)[0].isfinite().tolist()
    assert kept[0] and sum(kept) == 2  # of .5 .25 .25 the first to fall below .4 goes
    assert sampling.filtered(logits, top_p=1e-6)[0].isfinite().tolist() == [True, False, False, False, False]
    assert torch.equal(sampling.filtered(logits), logits)


def test_draws_follow_the_probabilities():
    logits = torch.log(torch.tensor([0.5, 0.0, 0.3, 0.2])).expand(1, 20000, 4)
    tokens = sampling.draw(logits, sampling.generators(torch.tensor([3])))
    counts = tokens.flatten().bincount(minlength=4) / tokens.numel()
    assert counts[1] == 0
    assert torch.allclose(counts, torch.tensor([0.5, 0.0, 0.3, 0.2]), atol=0.015)


def test_settings_over_scales():
    assert [sampling.linear((1.0, 3.0), i, 3) for i in range(3)] == [1, 2, 3]
    assert sampling.linear(2, 1, 3) == 2 and sampling.linear((1.0, 3.0), 0, 1) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_the_logits_over_all_scales(kind):
    under = tokenizer()
    made = generator(kind, under)
    tokens = under.encode(torch.rand(3, 3, 8, 8))
    classes, drop = torch.tensor([0, 3, 1]), torch.tensor([False, True, False])
    loss = made.loss(classes, tokens, drop=drop, z_weight=0.01)
    with torch.no_grad():
        told, free = made.logits(classes, tokens), made.logits(None, tokens)
    logits = torch.where(drop[:, None, None], free, told)
    nats = F.cross_entropy(logits.mT, torch.cat([t.flatten(1) for t in tokens], dim=1), reduction="none")
    log_z = logits.logsumexp(dim=-1)
    assert torch.allclose(loss["cross_entropy"], nats.mean(), atol=1e-5)
    assert torch.allclose(loss["log_z"], log_z.abs().mean(), atol=1e-5)
    assert torch.allclose(loss["loss"], nats.mean() + 0.01 * log_z.square().mean(), atol=1e-4)
    for scale, part in enumerate(nats.split([side * side for side in SIDES], dim=1)):
        assert torch.allclose(loss[f"cross_entropy_{scale}"], part.mean(), atol=1e-5)
    loss["loss"].backward()
    without = {name for name, p in made.named_parameters() if p.grad is None}
    assert not without


def test_the_loss_of_digits():
    under = tokenizer()
    made = generator("infinity-cc", under, tuple(under.quantizer.digit_sizes))
    tokens = under.encode(torch.rand(2, 3, 8, 8))
    classes = torch.tensor([0, 3])
    with torch.no_grad():
        parts = made.digit_logits(classes, tokens)
        flat = torch.cat([t.flatten(1) for t in tokens], dim=1)
        targets = under.quantizer.to_digits(flat).unbind(-1)
        wanted = sum(F.cross_entropy(part.mT, t) for part, t in zip(parts, targets, strict=True))
        assert torch.allclose(made.loss(classes, tokens)["loss"], wanted, rtol=1e-5)
    before = float(made.loss(classes, tokens)["loss"].detach())
    made.start_from(tokens)
    assert float(made.loss(classes, tokens)["loss"].detach()) < before


def test_nats_of_a_constrained_code_are_those_of_the_distribution_that_is_drawn_from():
    under = tokenizer()
    made = generator("infinity-cc", under, tuple(under.quantizer.digit_sizes))
    tokens = under.encode(torch.rand(2, 3, 8, 8))
    classes = torch.tensor([0, 3])
    flat = torch.cat([t.flatten(1) for t in tokens], dim=1)
    with torch.no_grad():
        joint = made.codes.joint(torch.cat(made.digit_logits(classes, tokens), dim=-1))
    found = made.nats(classes, tokens)
    assert torch.allclose(found, F.cross_entropy(joint.mT, flat, reduction="none"), atol=1e-4)
    assert found.mean() < made.loss(classes, tokens)["cross_entropy"]


@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_a_sample_does_not_depend_on_its_batch(kind):
    made = generator(kind, tokenizer())
    classes, seeds = torch.arange(6) % 5, torch.arange(6)
    options = {"top_k": (300, 100), "top_p": 0.95, "guidance": (1.0, 2.0), "at_once": 4}
    whole = made.sample(classes, seeds, **options)
    part = made.sample(classes[3:5], seeds[3:5], **options)
    assert all(torch.equal(a[3:5], b) for a, b in zip(whole, part, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_in_float32_the_cache_gives_999_of_1000_tokens(kind):
    made = generator(kind, tokenizer())
    classes, seeds = torch.arange(96) % 5, torch.arange(96)
    ways = (made.sample(classes, seeds, top_p=0.95, cache=way, at_once=32) for way in (True, False))
    cached, plain = (torch.cat([tokens.flatten() for tokens in maps]) for maps in ways)
    assert (cached == plain).float().mean() >= 0.999


def test_guidance_without_dropout():
    under = tokenizer()
    parameters = NextScaleParameters(24, (1518,), SIDES, 32, 1, 2, classes=5, class_drop=0.0)
    made = NextScaleGenerator(NextScaleTransformer(parameters), under).eval()
    assert len(made.sample(torch.tensor([1]), torch.tensor([1]), at_once=1)) == 3
    with pytest.raises(BadInput, match="class_drop 0"):
        made.sample(torch.tensor([1]), torch.tensor([1]), guidance=(1.0, 3.0))
