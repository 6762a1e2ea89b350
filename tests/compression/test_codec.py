"""What is written is read back, at the price that the prior says, and anything else is refused."""

import contextlib
import hashlib
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.compression import digits, format, priors
from evaluation.compression.codec import Coded, TokenCodec
from evaluation.compression.layout import Layout, coding_order, cut, from_coding_order, paste
from latticebench.errors import BadInput, Missing
from tests.compression.fakes import SIZES, TOKENIZER, all_priors, draw, images, layout


@pytest.mark.parametrize("codebook_size", SIZES)
def test_round_trip_at_the_priors_price(codebook_size: int) -> None:
    where = layout(codebook_size)
    coded = images(where)
    for prior in all_priors(codebook_size):
        # Large tables are slow: the last image, with more tiles than a group, is left to a small codebook.
        chosen = coded[:3] if prior.kind == "network" and codebook_size > 17 else coded
        codec = TokenCodec(where, prior)
        files = codec.write(chosen)
        for image, again in zip(chosen, codec.read(files), strict=True):
            assert (image.height, image.width) == (again.height, again.width)
            np.testing.assert_array_equal(image.tokens, again.tokens)
        for data, bits in zip(files, prior.bits([image.tokens for image in chosen]), strict=True):
            assert len(data) <= 1.005 * bits / 8 + 8 + format.HEADER_BYTES


@given(st.integers(1, 2**62), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_digits_hold_any_codebook(codebook_size: int, seed: int) -> None:
    sizes = digits.digit_sizes(codebook_size)
    assert codebook_size <= math.prod(sizes) < 2**63
    assert all(size <= 2**16 for size in sizes)
    assert len(sizes) <= 4
    codes = draw(codebook_size, (50,), seed)
    codes[0] = codebook_size - 1
    split = digits.split(codes, sizes)
    assert (split < np.array(sizes or [1])).all() if sizes else True
    np.testing.assert_array_equal(digits.join(split, codebook_size), codes)


def test_digits_waste_little_and_none_for_the_leech_shell() -> None:
    assert digits.digit_sizes(196_560) == (432, 455)
    assert digits.digit_sizes(2**18) == (512, 512)
    assert digits.bits(196_560) == pytest.approx(17.58461, abs=1e-5)
    for codebook_size in (2**16 + 1, 2**40 + 1, 2**62 - 1):
        assert digits.bits(codebook_size) / math.log2(codebook_size) < 1.0002


def test_a_digit_string_that_is_no_code_is_refused() -> None:
    assert math.prod(digits.digit_sizes(65_537)) > 65_537
    with pytest.raises(BadInput, match="outside the codebook"):
        digits.join(np.array([[197, 330]]), 65_537)


def test_leech_tokens_cost_17_585_bits() -> None:
    tokens = np.random.default_rng(0).integers(0, 196_560, (500, 16))
    (data,) = priors.UniformPrior(196_560).encode([tokens])
    assert len(data) * 8 / tokens.size == pytest.approx(17.585, abs=0.005)


@pytest.mark.parametrize("size", [(1, 1), (15, 16), (16, 17), (512, 768), (768, 512), (1, 333)])
def test_tiles_give_any_size_back(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    tiles = cut(image, 16)
    assert tiles.shape == (math.prod(Layout(TOKENIZER, 2, 16, ((4, 4),)).tiles(*size)), 16, 16, 3)
    np.testing.assert_array_equal(paste(tiles, *size), image)


def test_coding_order_is_group_position_tile() -> None:
    tokens = np.arange(600 * 3).reshape(600, 3)
    flat = coding_order(tokens)
    assert flat[:3].tolist() == [0, 3, 6] and flat[64] == 1 and flat[64 * 3] == 64 * 3
    np.testing.assert_array_equal(from_coding_order(flat, 600, 3), tokens)


# The bytes are the format: a change of these hashes needs a new format version.
GOLDEN = {
    (4096, "uniform"): "0437e03b19025e56",
    (4096, "static"): "223c85272c30f450",
    (4096, "network"): "a67affeafd4a7acb",
    (196_560, "uniform"): "631a335a94d736dc",
    (196_560, "static"): "8603c5d052444370",
    (196_560, "network"): "e625215cf5e24d14",
}


@pytest.mark.parametrize("codebook_size", [4096, 196_560])
def test_golden_bitstreams(codebook_size: int) -> None:
    where = layout(codebook_size)
    fixed = [
        priors.UniformPrior(codebook_size),
        priors.fit_static(_formula(codebook_size, 4000), codebook_size, TOKENIZER),
        formula_network(codebook_size),
    ]
    tokens = _formula(codebook_size, 12 * 16).reshape(12, 16)
    found = {}
    for prior in fixed:
        (data,) = TokenCodec(where, prior).write([Coded(tokens, 33, 63)])
        found[codebook_size, prior.kind] = hashlib.sha256(data).hexdigest()[:16]
    assert found == {key: value for key, value in GOLDEN.items() if key[0] == codebook_size}


def _formula(codebook_size: int, count: int) -> np.ndarray:
    """Tokens from integer arithmetic alone: no generator whose stream may change with a release."""
    i = np.arange(count, dtype=np.int64)
    return (i * i * 7919 + i * 104_729) % 1_000_003 % np.minimum(codebook_size, 50 + i * 37 % codebook_size)


def formula_network(codebook_size: int) -> priors.Prior:
    from evaluation.compression import exact, network
    from latticebench.generators.raster import RasterParameters

    sizes = digits.digit_sizes(codebook_size)
    parameters = RasterParameters(sizes, (4, 4), width=16, layers=1, heads=2)
    arrays = {}
    for number, (name, shape) in enumerate(sorted(exact.shapes(parameters).items())):
        values = _formula(4001, math.prod(shape)) * (2 * number + 3) % 4001 - 2000
        arrays[name] = values.astype(np.int32 if name.startswith("bias") else np.int16).reshape(shape)
    metadata = {"kind": "network", "format": "1", "codebook_size": str(codebook_size), "tokenizer": TOKENIZER}
    metadata |= {"rows": "4", "columns": "4", "width": "16", "layers": "1", "heads": "2"}
    return network.NetworkPrior(metadata, arrays)


def test_header_is_24_bytes_and_says_everything() -> None:
    prior = priors.fit_static(draw(4096, (100,)), 4096, TOKENIZER)
    where = layout(4096)
    (data,) = TokenCodec(where, prior).write([images(where)[2]])
    assert format.HEADER_BYTES == 24
    head = format.unpack(data, "x").header
    assert head == format.Header("static", TOKENIZER[:16], prior.fingerprint[:16], 33, 47)


def test_one_pixel_costs_a_few_bytes_more_than_the_header() -> None:
    where = layout(4096)
    (data,) = TokenCodec(where).write(images(where)[:1])
    assert len(data) <= format.HEADER_BYTES + 8 + 16 * 12 / 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: b"", "not a token file"),
        (lambda data: b"\x89PNG" + data, "not a token file"),
        (lambda data: data[:20], "truncated"),
        (lambda data: data[:2] + bytes([0x20]) + data[3:], "version 2"),
        (lambda data: data[:2] + b"\0" + data[3:], "no version"),
        (lambda data: data[:5] + b"\xff" + data[6:], "header fails its check"),
        (lambda data: data[:24] + b"\xff\xff" + data[26:], "checksum"),
        (lambda data: data[:-9], "truncated"),
        (lambda data: data + b"\0", "damaged"),
        (lambda data: data + b"more", "damaged"),
        (lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:], "damaged"),
    ],
)
def test_damaged_files_are_refused(change: object, says: str) -> None:
    where = layout(4096)
    codec = TokenCodec(where)
    files = codec.write(images(where)[1:3])
    with pytest.raises(BadInput, match=f"second.*{says}|second.*damaged"):
        codec.read([files[0], change(files[1])], ["first", "second"])  # type: ignore[operator]


def test_another_size_with_as_many_tokens_is_refused() -> None:
    where = layout(4096)
    codec = TokenCodec(where)
    (data,) = codec.write(images(where)[2:3])
    head = bytearray(data)
    head[20] += 1
    head[23] = format.header_check(bytes(head))
    with pytest.raises(BadInput, match="checksum"):
        codec.read([bytes(head)])


def test_a_size_that_overflows_is_refused_both_ways() -> None:
    where = layout(4096)
    with pytest.raises(BadInput, match="does not fit"):
        TokenCodec(where).write([Coded(np.zeros((1, 16), np.int64), 70_000, 1)])
    for kind in all_priors(4096):
        codec = TokenCodec(where, kind)
        (data,) = codec.write(images(where)[2:3])
        for height, width in ((65_535, 65_535), (8192, 8192), (0, 5)):
            head = bytearray(data)
            head[19:23] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
            head[23] = format.header_check(bytes(head))
            start = time.perf_counter()
            with pytest.raises(BadInput, match=r"damaged|truncated"):
                codec.read([bytes(head)])
            assert time.perf_counter() - start < 30


def test_wrong_tokenizer_and_wrong_prior_are_refused() -> None:
    where, other = layout(4096), Layout("66" * 32, 4096, 16, ((4, 4),))
    (data,) = TokenCodec(where).write(images(where)[:1])
    with pytest.raises(BadInput, match="tokenizer"):
        TokenCodec(other).read([data])
    prior = priors.fit_static(draw(4096, (100,)), 4096, TOKENIZER)
    with pytest.raises(BadInput, match="prior"):
        TokenCodec(where, prior).read([data])
    with pytest.raises(BadInput, match="made for the tokenizer"):
        TokenCodec(other, prior)
    with pytest.raises(BadInput, match="4096 codes"):
        TokenCodec(layout(17), prior)


def test_tokens_outside_the_codebook_are_refused() -> None:
    where = layout(17)
    for tokens in (np.full((1, 16), 17), np.full((1, 16), -1), np.zeros((2, 16), np.int64), np.zeros((1, 16))):
        with pytest.raises(BadInput):
            TokenCodec(where).write([Coded(tokens, 16, 16)])


def test_priors_are_files(tmp_path: Path) -> None:
    for prior in all_priors(4096)[1:]:
        path = tmp_path / f"{prior.kind}.safetensors"
        priors.save(prior, path)
        assert priors.load(path).fingerprint == prior.fingerprint
        damaged = bytearray(path.read_bytes())
        damaged[-1] ^= 64
        path.write_bytes(damaged)
        with contextlib.suppress(BadInput):
            assert priors.load(path).fingerprint != prior.fingerprint
    with pytest.raises(Missing):
        priors.load(tmp_path / "none")
    (tmp_path / "foreign").write_bytes(b"x" * 100)
    with pytest.raises(BadInput, match="safetensors"):
        priors.load(tmp_path / "foreign")


def test_static_prior_is_near_the_entropy_and_pays_for_surprises() -> None:
    tokens = np.random.default_rng(0).geometric(0.05, 200_000) - 1
    prior = priors.fit_static(tokens, 2**40, TOKENIZER)
    counts = np.bincount(tokens)
    counts = counts[counts > 0]
    entropy = -(counts / tokens.size * np.log2(counts / tokens.size)).sum()
    assert prior.bits([tokens[None]])[0] / tokens.size == pytest.approx(entropy, rel=1e-3)
    surprise = prior.bits([np.array([[2**39]])])[0]
    assert 40 < surprise < 40 + 24.1
