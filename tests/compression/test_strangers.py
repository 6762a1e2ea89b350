"""Priors from outside: refused by the path that was given, with the cure, whatever is wrong with them."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from evaluation import strangers
from evaluation.compression import network, priors
from evaluation.compression.codec import Coded
from latticebench.errors import BadInput, Missing
from latticebench.files import canonical_json
from tests.compression.fakes import TOKENIZER, draw, layout, raster

CODES = 200


@pytest.fixture(scope="module")
def made():
    """A whole prior of each kind."""
    return {
        "static": priors.fit_static(draw(CODES, (500,)), CODES, TOKENIZER),
        "network": network.export(raster(CODES), CODES),
    }


def opened(tmp_path, metadata, arrays):
    """The codec under a prior's file of these contents; metadata: a mapping, or the text itself."""
    text = metadata if isinstance(metadata, str) else canonical_json(metadata)
    save_file(arrays, tmp_path / "p.safetensors", {priors.METADATA: text})
    return strangers.codec(layout(CODES), tmp_path / "p.safetensors")


@pytest.mark.parametrize("kind", ["static", "network"])
def test_a_whole_prior_codes(tmp_path, made, kind):
    codec = opened(tmp_path, made[kind].metadata, made[kind].arrays)
    image = Coded(draw(CODES, (1, 16)), 16, 16)
    assert np.array_equal(codec.read(codec.write([image]))[0].tokens, image.tokens)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("heads", "0"), ("heads", "-2"), ("heads", "3"), ("layers", "0"), ("layers", "1000000000"), ("width", "-8")],
        *[("rows", "-4"), ("columns", "9" * 5000), ("codebook_size", "0"), ("codebook_size", "-1"), ("width", "x")],
        *[("codebook_size", str(2**63)), ("tokenizer", 7), ("kind", ["network"]), ("format", {})],
    ],
)
def test_metadata_that_no_prior_has(tmp_path, made, key, value):
    with pytest.raises(BadInput, match=r"prior .*p\.safetensors"):
        opened(tmp_path, {**made["network"].metadata, key: value}, made["network"].arrays)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "", "3", "null", '{"kind": "other"}'], ids=range(6))
def test_a_description_that_is_none(tmp_path, made, text):
    with pytest.raises(BadInput, match=r"prior .*p\.safetensors"):
        opened(tmp_path, text, made["static"].arrays)


@pytest.mark.parametrize(
    "table",
    [
        np.array([np.inf, 1.0]),
        np.array([np.nan, 1.0]),
        np.zeros((2, 2), np.int64),
        np.array(3),
        np.zeros(0, np.int64),
        np.full(5, 2**62),
        np.array([True, False]),
    ],
    ids=["infinite", "not-a-number", "matrix", "number", "empty", "overflow", "truth"],
)
def test_tables_that_no_prior_has(tmp_path, made, table):
    arrays = {"codes": np.arange(max(table.size - 1, 0)), "table": table}
    with pytest.raises(BadInput, match=r"prior .*p\.safetensors"):
        opened(tmp_path, made["static"].metadata, arrays)


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn"])
def test_types_that_numpy_lacks(tmp_path, made, name):
    import torch
    from safetensors.torch import save_file

    arrays = {key: torch.from_numpy(array) for key, array in made["network"].arrays.items()}
    arrays["place"] = arrays["place"].to(getattr(torch, name))
    save_file(arrays, tmp_path / "p", {priors.METADATA: canonical_json(made["network"].metadata)})
    with pytest.raises(
        BadInput, match=r"--prior .*p is damaged or no prior .*array place .*evaluation\.compression\.fit"
    ):
        strangers.codec(layout(CODES), tmp_path / "p")


def test_another_tokenizers_prior_is_named_with_the_cure(tmp_path, made):
    with pytest.raises(
        BadInput, match=r"--prior .*p\.safetensors: .*; give the prior that was fitted to this tokenizer"
    ):
        opened(tmp_path, {**made["static"].metadata, "tokenizer": "00" * 32}, made["static"].arrays)
    other = priors.fit_static(draw(CODES, (500,)), CODES + 1, TOKENIZER)
    with pytest.raises(BadInput, match=r"--prior .*p\.safetensors: the prior is for 201 codes.*python -m"):
        opened(tmp_path, other.metadata, other.arrays)


def test_no_prior_and_a_missing_one(tmp_path):
    assert strangers.codec(layout(CODES), None).prior.kind == "uniform"
    with pytest.raises(Missing, match="none does not exist"):
        strangers.codec(layout(CODES), tmp_path / "none")
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(BadInput, match=r"--prior .*junk is damaged or no prior"):
        strangers.codec(layout(CODES), tmp_path / "junk")
