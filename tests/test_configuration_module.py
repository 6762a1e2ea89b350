"""Subjects are named by what they depend on: method files by content; suites name and share them."""

import pytest

from latticebench import configuration
from latticebench.errors import BadInput

METHOD = """
from latticebench.quantizers.identity import Identity
from latticebench.quantizers import register

@register
class Own(Identity):
    name = "own-{stem}"
"""


def test_an_edited_method_file_is_another_subject(tmp_path):
    (tmp_path / "own.py").write_text(METHOD.format(stem=tmp_path.name))
    (tmp_path / "c.yaml").write_text(
        "name: t\ndata: {source: bundled-photographs}\nquantizers:\n  own: {module: own.py}\n  i: {method: identity}\n"
    )
    own, other = configuration.load(tmp_path / "c.yaml").subjects()
    (tmp_path / "own.py").write_text((tmp_path / "own.py").read_text() + "# edited\n")
    edited, unmoved = configuration.load(tmp_path / "c.yaml").subjects()
    assert own.id != edited.id
    assert other.id == unmoved.id


TOP = """
name: t
data: {source: bundled-photographs}
quantizers:
  a: {method: identity}
"""
SUITES = """
name: t
data: {source: bundled-photographs}
suites:
  main: {quantizers: {a: {method: identity}}}
  large:
    title: Large pictures
    table: table 8
    data: {size: 128}
    tokenizer: {patch: 16}
    quantizers: {a: {method: identity}, b: {method: fsq, parameters: {levels: [8, 8]}}}
  shared:
    quantizers: {a: {method: identity, seeds: 3}}
"""


def load(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    return configuration.load(tmp_path / "c.yaml")


def test_a_file_without_suites_has_one():
    config = configuration.load("config/embedded.yaml")
    (suite,) = config.suites()
    assert (suite.name, suite.table) == ("main", None)
    assert list(suite.subjects) == config.subjects()
    assert {subject.data_hash for subject in config.subjects()} == {config.data_hash}


def test_a_suite_moves_no_entry(tmp_path):
    alone, suites = load(tmp_path, TOP), load(tmp_path, SUITES)
    assert suites.suite("main").subjects[0].id == alone.subjects()[0].id
    assert suites.suite("main").subjects[0].spec == alone.subjects()[0].spec


def test_suites_override_sections_and_share_equal_entries(tmp_path):
    config = load(tmp_path, SUITES)
    main, large, shared = config.suites()
    assert (large.title, large.table, main.title) == ("Large pictures", "table 8", "main")
    assert large.subjects[0].spec["data"]["size"] == 128
    assert large.subjects[0].spec["tokenizer"] == {**main.subjects[0].spec["tokenizer"], "patch": 16}
    assert large.subjects[0].data_hash != main.subjects[0].data_hash == config.data_hash
    assert main.subjects == shared.subjects
    assert main.subjects[0].seeds == (0, 1, 2), "the most that any suite asks"
    assert [subject.name for subject in config.subjects()] == ["a", "a", "b"]


def test_the_configuration_of_one_data_set(tmp_path):
    config = load(tmp_path, SUITES)
    large = config.suite("large").subjects[0]
    assert config.with_data(large.data_hash).values["data"] == large.spec["data"]
    assert config.with_data(config.data_hash).values["data"] == config.values["data"]
    with pytest.raises(BadInput, match="no suite has data"):
        config.with_data("00000000")


def test_a_name_of_several_suites_needs_its_id(tmp_path):
    config = load(tmp_path, SUITES)
    with pytest.raises(BadInput, match="several suites") as error:
        config.subject("a")
    assert all(s.id in str(error.value) for s in config.suite("large").subjects[:1] + config.suite("main").subjects)
    assert config.subject("b").name == "b"


def test_an_unknown_suite_names_the_known_ones(tmp_path):
    with pytest.raises(BadInput, match=r"no suite 'larg'; there are main, large, shared; did you mean 'large'"):
        load(tmp_path, SUITES).suite("larg")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("size: 128", "size: 4"), ["suites.large.data.size", "4"]),
        (("size: 128", "sise: 128"), ["suites.large.data", "'sise'", "did you mean 'size'"]),
        (("patch: 16", "patch: 0"), ["suites.large.tokenizer.patch", "0"]),
        (("levels: [8, 8]", "level: [8, 8]"), ["suites.large.quantizers.b", "level"]),
        (("table: table 8", "tabel: table 8"), ["suites.large", "'tabel'", "did you mean 'table'"]),
        (("{a: {method: identity, seeds: 3}}", "{}"), ["suites.shared.quantizers"]),
        (("suites:", "suits:"), ["suits", "did you mean 'suites'"]),
    ],
)
def test_what_is_wrong_in_a_suite_is_named(tmp_path, change, words):
    with pytest.raises(BadInput) as error:
        load(tmp_path, SUITES.replace(*change))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_quantizers_or_suites_are_needed(tmp_path):
    with pytest.raises(BadInput, match="quantizers"):
        load(tmp_path, "name: t\ndata: {source: bundled-photographs}\n")


def test_merge_keys_share_parts_of_a_file(tmp_path):
    config = load(
        tmp_path,
        "name: t\ndata: {source: bundled-photographs}\nsuites:\n"
        "  one: {quantizers: &one {a: {method: identity}}}\n"
        "  two: {quantizers: {<<: *one, b: {method: lfq, parameters: {dim: 8}}}}\n",
    )
    assert [subject.name for subject in config.suite("two").subjects] == ["a", "b"]


def test_methods_are_asked_once_a_run(tmp_path, monkeypatch):
    file = tmp_path / "c.yaml"
    file.write_text(
        "name: t\ndata: {source: bundled-photographs}\nquantizers:\n  f: {method: fsq, parameters: {levels: [1]}}\n"
    )
    with pytest.raises(BadInput, match="levels"):
        configuration.load(file)
    monkeypatch.setenv(configuration.CHECKED, configuration.fingerprint(file))
    assert [subject.name for subject in configuration.load(file).subjects()] == ["f"]
    file.write_text(file.read_text() + "# edited\n")
    with pytest.raises(BadInput, match="levels"):
        configuration.load(file)
    assert configuration.fingerprint(tmp_path / "none.yaml") is None
