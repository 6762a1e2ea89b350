"""Every released key is used, known to be needless, or an error that lists it; and what options change."""

import pytest
import torch

from latticebench import published
from latticebench.errors import BadInput
from tests.published.cases import CASES
from tests.published.test_replay import adapted, tensors

ONE_A_FAMILY = [
    "npq-vit bsq",
    "npq-vit leech",
    "var-tokenizer",
    "var-transformer",
    "infinitycc-tokenizer",
    "infinitycc-transformer shared",
    "infinity-tokenizer 16",
    "open-magvit2",
    "simvq",
    "llamagen",
]


def adapt(name, state, **options):
    case = CASES[name]
    tokenizer = adapted(case.tokenizer) if case.tokenizer else None
    return published.adapt(case.family, state, tokenizer=tokenizer, **{**case.architecture, **options})


def same(first, second):
    a, b = first.state_dict(), second.state_dict()
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


def test_families():
    assert published.families() == sorted({case.family for case in CASES.values()}, key=published.families().index)
    assert len(published.families()) == 9


def weights_of(state):
    """A released key whose absence must be noticed, from the middle of the file."""
    keys = [key for key in state if key.endswith("weight") and not key.startswith(("model_ema", "loss", "quant"))]
    return keys[len(keys) // 2]


@pytest.mark.parametrize("name", ONE_A_FAMILY)
def test_a_missing_a_misshaped_and_an_unknown_key(name):
    state = tensors(CASES[name].state())
    key = weights_of(state)
    without = {k: v for k, v in state.items() if k != key}
    with pytest.raises(BadInput, match=f"1 missing: {key}"):
        adapt(name, without)
    with pytest.raises(BadInput, match=f"misshaped: .*{key} is"):
        adapt(name, {**state, key: torch.zeros(3, *state[key].shape)})
    with pytest.raises(BadInput, match=r"1 unmapped: something\.else"):
        adapt(name, {**state, "something.else": torch.zeros(1)})


@pytest.mark.parametrize("name", ONE_A_FAMILY)
@pytest.mark.parametrize("prefix", ["module.", "module.module."])
def test_prefixes_of_wrappers(name, prefix):
    state = {prefix + key: value for key, value in tensors(CASES[name].state()).items()}
    assert same(adapt(name, state), adapted(name))


@pytest.mark.parametrize("name", ["infinitycc-tokenizer", "infinity-tokenizer 16"])
def test_either_alias_and_unwrapped_names(name):
    state = tensors(CASES[name].state())
    first = {key: value for key, value in state.items() if not key.startswith("quantize.")}
    second = {key: value for key, value in state.items() if not key.startswith("quantizer.")}
    plain = {key.replace(".conv.conv.", ".conv.").replace(".norm.", "."): value for key, value in state.items()}
    plain = {
        (key if ".downsample." in key or ".upsample." in key else key.replace(".conv.", ".")): value
        for key, value in plain.items()
    }
    assert "encoder.down.0.block.0.norm1.weight" in plain and "encoder.down.0.downsample.conv.weight" in plain
    for variant in (first, second, plain):
        assert same(adapt(name, variant), adapted(name))
    key = next(key for key in state if key.startswith("quantize."))
    with pytest.raises(BadInput, match="one tensor by name but differ"):
        adapt(name, {**state, key: state[key].flip(0)})


@pytest.mark.parametrize("name", ["npq-vit leech", "infinitycc-tokenizer"])
def test_another_leech_codebook_is_refused(name):
    state = tensors(CASES[name].state())
    for key in [key for key in state if key.endswith("embedding.weight")]:
        state[key] = state[key].clone()
        state[key][[5, 9]] = state[key][[9, 5]]
    with pytest.raises(BadInput, match=r"row 5 of .* \(and 1 more\)"):
        adapt(name, state)


def test_bits_in_another_order_are_refused():
    state = tensors(CASES["npq-vit bsq"].state())
    with pytest.raises(BadInput, match="most significant first"):
        adapt("npq-vit bsq", {**state, "quantize.basis": state["quantize.basis"].flip(0)})


@pytest.mark.parametrize("name", ["open-magvit2", "simvq"])
def test_raw_weights_and_files_without_an_average(name):
    state = tensors(CASES[name].state())
    raw_only = {key: value for key, value in state.items() if not key.startswith("model_ema.")}
    raw = adapt(name, state, weights="raw")
    assert same(raw, adapt(name, raw_only)) and not same(raw, adapted(name))
    assert same(adapt(name, state, weights="ema"), adapted(name))
    with pytest.raises(BadInput, match="no model_ema"):
        adapt(name, raw_only, weights="ema")


def test_options_must_fit_the_file():
    state = tensors(CASES["var-tokenizer"].state())
    with pytest.raises(BadInput, match="misshaped"):
        adapt("var-tokenizer", state, base=64)
    with pytest.raises(BadInput, match="unknown architecture option 'widht'; known: base"):
        adapt("var-tokenizer", state, widht=64)


def test_what_does_not_go_together():
    state = tensors(CASES["var-transformer"].state())
    with pytest.raises(BadInput, match="needs its tokenizer"):
        published.adapt("var-transformer", state)
    with pytest.raises(BadInput, match="is a tokenizer itself"):
        published.adapt("llamagen", {}, tokenizer=adapted("llamagen"))
    with pytest.raises(BadInput, match="unknown family 'vqgan'; known: npq-vit"):
        published.adapt("vqgan", {})
    with pytest.raises(BadInput, match="it is empty"):
        published.adapt("llamagen", {})
    with pytest.raises(BadInput, match="but model"):
        published.adapt("llamagen", {"model": {}})
    with pytest.raises(BadInput):
        published.adapt("var-transformer", state, tokenizer=adapted("infinitycc-tokenizer"))


def test_released_sizes_on_the_meta_device():
    """The parameter counts that the authors' code gives at the released configurations."""
    from latticebench.generators.next_scale import NextScaleParameters, NextScaleTransformer
    from latticebench.nn.convolutional import Convolutional, ConvolutionalDecoder, ConvolutionalEncoder

    magvit = {"decoder_blocks": 4, "middle": 4, "bias": False, "down": "centred", "up": "depth-to-space"}
    networks = {
        Convolutional(24, 128, (1, 2, 4, 4, 4)): 110_044_315,
        Convolutional(64, 128, (1, 2, 4, 4, 4)): 110_412_995,
        Convolutional(18, 128, (1, 1, 2, 2, 4), 4, latent_kernel=1, adaptive=True, **magvit): 115_127_829,
        Convolutional(18, 128, (1, 2, 2, 4), 4, latent_kernel=1, adaptive=True, **magvit): 112_021_653,
    }
    cc = {"latent": 24, "digit_sizes": (196_560,), "sides": (1, 2, 4, 6, 8, 12, 16), "levels": 15}
    var = {"latent": 32, "digit_sizes": (4096,), "sides": (1, 2, 3, 4, 5, 6, 8, 10, 13, 16), "positions": "learned"}
    transformers = {
        NextScaleParameters(**cc, width=768, layers=12, heads=8): 241_743_408,
        NextScaleParameters(**cc, width=1536, layers=24, heads=16, shared_norm=False): 1_328_167_248,
        NextScaleParameters(**cc, width=2080, layers=32, heads=20, shared_norm=False): 2_895_761_104,
        NextScaleParameters(**var, width=1024, layers=16, heads=16, shared_norm=False): 310_283_520,
        NextScaleParameters(**var, width=1920, layers=30, heads=30, shared_norm=False): 2_010_020_356,
    }
    with torch.device("meta"):
        for options, count in networks.items():
            found = sum(
                p.numel() for m in (ConvolutionalEncoder, ConvolutionalDecoder) for p in m(options).parameters()
            )
            assert found == count
        for options, count in transformers.items():
            assert sum(p.numel() for p in NextScaleTransformer(options).parameters()) == count
