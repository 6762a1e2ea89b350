"""Generator entries of a configuration: what is refused before anything runs, and what moves which path."""

from pathlib import Path

import pytest

from latticebench import configuration, generator_entries
from latticebench.errors import BadInput

QUANTIZERS = {
    "vq": {"method": "vq", "parameters": {"dim": 8, "codebook_size": 64}},
    "bsq": {"method": "bsq", "parameters": {"dim": 36}},
    "wide": {"method": "bsq", "parameters": {"dim": 64}},
    "none": {"method": "identity"},
}


def load(generation=None, **changes):
    values = {
        "name": "t",
        "data": {"source": "bundled-photographs"},
        "quantizers": QUANTIZERS,
        "generation": {"classes": "pixels"},
        "generators": {"g": {"tokenizer": "vq", "generation": generation or {}}},
    }
    return configuration.from_values({**values, **changes}, Path("c.yaml"))


@pytest.mark.parametrize(
    ("generation", "tokenizer", "words"),
    [
        ({}, "fsq", ["generators.g.tokenizer", "'fsq'", "vq, bsq, wide, none"]),
        ({}, "none", ["identity quantizes nothing"]),
        ({"head": {"kind": "digits"}}, "vq", ["head.kind digits", "vq has no digits"]),
        ({}, "bsq", ["K = 68719476736", "head.memory_mb", "digits"]),
        ({"head": {"memory_mb": 1}, "model": {"width": 2048, "heads": 4}}, "vq", ["K = 64", "2.097 MB"]),
        ({"classes": "data"}, "vq", ["bundled-photographs has no labels", "pixels or none"]),
        ({"model": {"class_drop": 0}, "sampling": {"guidance": [1, 3]}}, "vq", ["guidance [1, 3]", "class_drop"]),
        ({"model": {"class_drop": 0}, "sweep": {"guidance": [1, 2]}}, "vq", ["guidance 2", "class_drop"]),
        ({"classes": "none", "sampling": {"guidance": 2}}, "vq", ["guidance 2 without classes"]),
        ({"model": {"width": 30}}, "vq", ["model.width 30", "model.heads 4"]),
        ({"training": {"steps": 5, "snapshots": [5]}}, "vq", ["training.snapshots: 5"]),
        ({"head": {"kind": "digits"}}, "wide", ["generators.g.tokenizer", "K = 2^64", "below 2^62", "at most 62 bits"]),
        ({"model": {"classes": 99}}, "vq", ["model.classes is 99", "pixels has 12", "leave model.classes out"]),
        ({"classes": "none", "model": {"classes": 12}}, "vq", ["model.classes is 12", "none has 0"]),
        ({"sampling": {"top_k": [-5, 100]}}, "vq", ["generation.sampling.top_k.0: -5"]),
        ({"sampling": {"top_k": -5}}, "vq", ["generation.sampling.top_k: -5"]),
        ({"sampling": {"guidance": [-1, 3]}}, "vq", ["generation.sampling.guidance.0: -1"]),
        ({"sweep": {"guidance": [-1, 3]}}, "vq", ["generation.sweep.guidance.0: -1"]),
        ({"sampling": {"gudance": 2}}, "vq", ["generators.g.generation.sampling", "did you mean 'guidance'"]),
    ],
)
def test_bad_entries_name_the_key(generation, tokenizer, words):
    with pytest.raises(BadInput) as error:
        load(generators={"g": {"tokenizer": tokenizer, "generation": generation}})
    for word in words:
        assert word in str(error.value)


def test_the_number_of_classes_may_be_said_where_it_is_right():
    load({"model": {"classes": 12}})
    folder = {"source": "image-folder", "path": "pictures", "class_list": "ilsvrc"}
    load({"classes": "data", "model": {"classes": 1000}}, data=folder)
    with pytest.raises(BadInput, match=r"model\.classes is 12, generation\.classes data has 1000"):
        load({"classes": "data", "model": {"classes": 12}}, data=folder)
    load({"classes": "data", "model": {"classes": 12}}, data={**folder, "class_list": "auto"})


def test_generators_stand_beside_their_quantizers():
    suites = {"a": {"quantizers": {"vq": QUANTIZERS["vq"]}}}
    values = {"name": "t", "data": {"source": "bundled-photographs"}, "suites": suites}
    with pytest.raises(BadInput, match="generators need quantizers beside them"):
        configuration.from_values({**values, "generators": {"g": {"tokenizer": "vq"}}}, Path("c.yaml"))


def test_digits_lift_the_limit_of_a_full_head():
    config = load(generators={"g": {"tokenizer": "bsq", "generation": {"head": {"kind": "digits"}}}})
    assert [g.name for g in config.generators()] == ["g"]


def test_sampling_moves_samples_alone_and_training_moves_the_model():
    before = load().generator("g")
    guided = load({"sampling": {"guidance": 2}}).generator("g")
    longer = load({"training": {"steps": 7}}).generator("g")
    viewed = load({"tokens": {"views": 3}}).generator("g")
    assert guided.id != before.id
    assert generator_entries.training_of(guided).id == generator_entries.training_of(before).id
    assert generator_entries.training_of(longer).id != generator_entries.training_of(before).id
    assert generator_entries.tokens_of(longer).id == generator_entries.tokens_of(before).id
    assert generator_entries.tokens_of(viewed).id != generator_entries.tokens_of(before).id


def test_a_generator_knows_its_tokenizer_and_shares_it_between_seeds():
    config = load(generators={"g": {"tokenizer": "vq", "seeds": 3}})
    generator = config.generator("g")
    assert generator_entries.tokenizer_of(generator) == config.subject("vq")
    assert generator.seeds == (0, 1, 2)
    assert [generator_entries.tokenizer_seed(generator, seed) for seed in generator.seeds] == [0, 1, 0]


def test_a_suite_has_generators_over_its_own_entries():
    suites = {
        "small": {"quantizers": {"vq": QUANTIZERS["vq"]}, "generators": {"g": {"tokenizer": "vq"}}},
        "large": {
            "data": {"size": 128},
            "generation": {"training": {"steps": 9}},
            "quantizers": {"vq": QUANTIZERS["vq"]},
            "generators": {"g": {"tokenizer": "vq"}},
        },
    }
    config = configuration.from_values(
        {
            "name": "t",
            "data": {"source": "bundled-photographs"},
            "generation": {"classes": "pixels"},
            "suites": suites,
        },
        Path("c.yaml"),
    )
    small, large = (config.suite(name).generators[0] for name in suites)
    assert len(config.generators()) == 2
    assert large.spec["generation"]["training"]["steps"] == 9 != small.spec["generation"]["training"]["steps"]
    assert generator_entries.tokenizer_of(large).data_hash != generator_entries.tokenizer_of(small).data_hash
    with pytest.raises(BadInput, match="several suites"):
        config.generator("g")
