"""A configuration is refused with a message that names the key, the value and what is allowed."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from evaluation.cli.config import command, lacking
from latticebench import configuration
from latticebench.errors import BadInput

MINIMAL = {
    "name": "mini",
    "data": {"source": "bundled-photographs"},
    "quantizers": {"fsq": {"method": "fsq", "parameters": {"levels": [8, 8, 8, 8]}}, "none": {"method": "identity"}},
}


def load(tmp_path: Path, **changes: object) -> configuration.Configuration:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return configuration.load(path)


def test_defaults_are_filled_in(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.values["seed"] == 0
    assert config.values["data"]["size"] == 64
    assert [subject.seeds for subject in config.subjects()] == [(0, 1), (0, 1)]


def test_a_written_default_is_the_same_subject_as_an_omitted_one(tmp_path: Path) -> None:
    written = load(tmp_path, data={"source": "bundled-photographs", "size": 64})
    assert written.subject("fsq").id == load(tmp_path).subject("fsq").id
    assert written.data_hash == load(tmp_path).data_hash


def test_a_changed_parameter_moves_that_subject_alone(tmp_path: Path) -> None:
    changed = dict(MINIMAL["quantizers"], fsq={"method": "fsq", "parameters": {"levels": [7, 5, 5, 5, 5]}})
    before, after = load(tmp_path), load(tmp_path, quantizers=changed)
    assert before.subject("fsq").id != after.subject("fsq").id
    assert before.subject("none").id == after.subject("none").id


def test_a_tokenizer_override_is_merged_into_one_subject(tmp_path: Path) -> None:
    entries = dict(MINIMAL["quantizers"], wide={"method": "identity", "tokenizer": {"patch": 4}})
    config = load(tmp_path, quantizers=entries)
    spec = config.subject("wide").spec["tokenizer"]
    assert spec["patch"] == 4
    assert {**spec, "patch": None} == {**config.subject("none").spec["tokenizer"], "patch": None}


CONVOLUTIONAL = {"architecture": "multi-scale", "network": {"multipliers": [1, 1, 2]}}


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        ({"patch": 7}, ["tokenizer.patch: 7", "data.size = 64"]),
        ({"width": 10, "heads": 4}, ["tokenizer.width: 10", "heads = 4"]),
        ({"architecture": "paper-vit", "width": 10}, ["tokenizer.width: 10", "heads = 4"]),
        ({**CONVOLUTIONAL, "network": {"multipliers": [1] * 8}}, ["multipliers", "stride of 128"]),
        ({**CONVOLUTIONAL, "scales": {"sides": [1, 2, 8]}}, ["scales.sides", "end in 16"]),
        ({**CONVOLUTIONAL, "scales": {"sides": [4, 2, 16]}}, ["scales.sides", "must grow"]),
        (
            {"architecture": "convolutional", "network": {"latent": 16}},
            ["network.latent: 16", "dimension 4", "projection"],
        ),
        ({"training": {"batch_size": 10, "accumulate": 4}}, ["training.batch_size: 10", "accumulate 4"]),
        ({"training": {"batch_size": 7}}, ["training.batch_size: 7", "2 processes"]),
    ],
)
def test_keys_that_do_not_go_together_are_named(tmp_path: Path, tokenizer: dict, words: list[str]) -> None:
    """Before anything is prepared, at the top level and in one entry; and the modules agree."""
    entries = {"four": {**MINIMAL["quantizers"]["fsq"], "tokenizer": tokenizer}}
    jobs = {"gpus": 2} if tokenizer.get("training") == {"batch_size": 7} else {}
    for changes in ({"tokenizer": tokenizer}, {"quantizers": entries}):
        with pytest.raises(BadInput) as error:
            load(tmp_path, **changes, jobs=jobs)
        assert all(word in str(error.value) for word in ["quantizers.", *words]), error.value


@pytest.mark.parametrize("size", [48, 100, 4 * 17])
def test_a_discriminator_that_cannot_halve_the_images_is_named(tmp_path: Path, size: int) -> None:
    tokenizer = {"patch": 4, "losses": {"gan": {"weight": 0.1}}}
    data = {"source": "bundled-photographs", "size": size}
    with pytest.raises(BadInput, match=rf"gan.discriminator: stylegan2 .* data.size is {size}; use patchgan"):
        load(tmp_path, tokenizer=tokenizer, data=data)
    tokenizer["losses"]["gan"]["discriminator"] = {"architecture": "patchgan"}
    load(tmp_path, tokenizer=tokenizer, data=data)


def test_what_fits_is_built(tmp_path: Path) -> None:
    """What the check lets through, the modules take."""
    from latticebench.tokenizers.build import build

    multi = {**CONVOLUTIONAL, "network": {**CONVOLUTIONAL["network"], "base": 8}, "scales": {"sides": [1, 4, 16]}}
    for tokenizer in ({"patch": 16}, {"architecture": "paper-vit", "width": 16}, multi):
        config = load(tmp_path, tokenizer=tokenizer, quantizers={"bsq": {"method": "bsq", "parameters": {"dim": 4}}})
        spec = config.subject("bsq").spec
        assert build(spec["tokenizer"], spec["quantizer"], spec["data"]["size"], 0).image_size == 64


def test_a_network_prior_of_no_entry_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"compression.network: there is no quantizer entry 'fsk'; did you mean 'fsq'"):
        load(tmp_path, compression={"network": ["fsk"]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sed": 1}, ["sed", "did you mean 'seed'"]),
        ({"seed": "one"}, ["seed", "'one'", "integer"]),
        ({"data": {"source": "imagenet"}}, ["data.source", "'imagenet'", "'bundled-photographs'"]),
        ({"data": {"source": "parquet", "size": 4}}, ["data.size", "4", "minimum"]),
        ({"name": "../up"}, ["name", "../up"]),
        ({"quantizers": {}}, ["quantizers"]),
        ({"quantizers": {"a": {"method": "vqq"}}}, ["quantizers.a", "vqq", "fsq"]),
        ({"quantizers": {"a": {"method": "fsq", "parameters": {"level": [8]}}}}, ["quantizers.a", "level", "levels"]),
        (
            {"quantizers": {"a": {"method": "leech", "parameters": {"codebook_size": 200000}}}},
            ["quantizers.a", "200000"],
        ),
        ({"quantizers": {"a": {}}}, ["quantizers.a", "method", "module"]),
        ({"quantizers": {"a": {"module": "nowhere.py"}}}, ["quantizers.a", "nowhere.py"]),
    ],
)
def test_bad_values_are_named(tmp_path: Path, changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(BadInput) as error:
        load(tmp_path, **changes)
    assert all(word in str(error.value) for word in ["config.yaml", *words]), str(error.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name: [", "not valid YAML"),
        ("name: a\nname: b\n", "given twice"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("- 1\n", "object"),
    ],
)
def test_bad_yaml_is_refused(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=word):
        configuration.load(path)


def test_an_anchor_may_serve_two_sections(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "name: a\ndata: {source: bundled-photographs}\n"
        "tokenizer: {training: &recipe {steps: 5}}\n"
        "compression: {prior: {training: *recipe}}\n"
        "quantizers: {none: {method: identity}}\n"
    )
    config = configuration.load(path)
    assert config.values["tokenizer"]["training"]["steps"] == config.values["compression"]["prior"]["training"]["steps"]
    assert "flips" not in config.values["compression"]["prior"]["training"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.yaml"):
        configuration.load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("path", sorted(Path("config").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    assert configuration.load(path).subjects()


def test_the_command_names_what_a_run_would_stop_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = configuration.SCHEMA.parents[2] / "checkpoints" / "registry.yaml"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "registry.yaml").write_bytes(registry.read_bytes())
    monkeypatch.setenv("LATTICEBENCH_CHECKPOINTS", str(tmp_path / "checkpoints"))
    assert lacking(load(tmp_path)) == []
    changes = {
        "data": {"source": "flat-folder", "path": "photographs"},
        "tokenizer": {"losses": {"perceptual": {"weight": 0.1, "net": "alex"}}},
        "compression": {"images": "kodak"},
    }
    images, coded, network = lacking(load(tmp_path, **changes))
    assert images == f"data.path: {tmp_path / 'photographs'} does not exist"
    assert coded == f"compression.images: {tmp_path / 'kodak'} does not exist"
    assert network.endswith("fetch it: latticebench fetch lpips-alex-trunk")
    for name in ("photographs", "kodak"):
        (tmp_path / name).mkdir()
    assert len(lacking(load(tmp_path, **changes))) == 1
    shown = CliRunner().invoke(command, [str(tmp_path / "config.yaml")])
    assert shown.exit_code == 0 and "missing: a recipe's losses: " in shown.stderr


def test_a_command_goes_on_after_the_check(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(MINIMAL))
    asks = [sys.executable, "-c", f"import os; print(os.environ[{configuration.CHECKED!r}])"]
    words = [sys.executable, "-m", "evaluation.cli.main", "config", str(file), "--", *asks]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    said, fingerprint = done.stdout.splitlines()
    assert "2 quantizers" in said and fingerprint == configuration.fingerprint(file)


def test_no_command_goes_on_after_a_bad_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("name: 1\n")
    shown = CliRunner().invoke(command, [str(file), "--", "touch", str(tmp_path / "ran")])
    assert shown.exit_code != 0 and not (tmp_path / "ran").exists()
    file.write_text(yaml.safe_dump(MINIMAL))
    shown = CliRunner().invoke(command, [str(file), "--", "no-such-program"])
    assert shown.exit_code == 1 and "no-such-program: No such file" in shown.output
