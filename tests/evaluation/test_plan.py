"""What a configuration will take, before anything runs."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from evaluation import plan
from evaluation.cli.main import latticebench
from latticebench import configuration
from latticebench.errors import BadInput

VALUES = {
    "name": "t",
    "seeds": 2,
    "data": {"source": "bundled-photographs", "size": 32, "bundled": {"scene_images": 5}},
    "tokenizer": {"patch": 8, "width": 16, "layers": 1, "heads": 2, "training": {"steps": 100, "batch_size": 4}},
    "suites": {
        "one": {
            "quantizers": {
                "none": {"method": "identity"},
                "fsq": {"method": "fsq", "parameters": {"levels": [8, 8]}},
                "theirs": {"released": "var-tokenizer", "method": "vq", "parameters": {"dim": 32}},
            }
        },
        "two": {
            "tokenizer": {"width": 32},
            "quantizers": {
                "none": {"method": "identity", "seeds": 1},
                "longer": {"method": "identity", "tokenizer": {"training": {"steps": 200}}},
            },
        },
    },
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> configuration.Configuration:
    path = tmp_path_factory.mktemp("plan") / "c.yaml"
    path.write_text(yaml.safe_dump(VALUES, sort_keys=False))
    return configuration.load(path)


def rate(step: float = 2.0, note: str = "a note") -> plan.Rate:
    return plan.Rate(step=step, start=10.0, memory=10**9, state=10**6, device="here", note=note)


def test_hours_follow_from_the_rates(config: configuration.Configuration, tmp_path: Path) -> None:
    none, fsq, _ = config.suite("one").subjects
    assert plan.recipe(none) == plan.recipe(fsq) != plan.recipe(none, whole=True) != plan.recipe(fsq, whole=True)
    rates = {plan.recipe(none): rate(2.0), plan.recipe(fsq, whole=True): rate(4.0)}
    found = plan.plan(config, [config.suite("one")], rates, {}, tmp_path)
    by_name = {row.name: row for row in found.rows}
    assert by_name["none"].hours == pytest.approx(2 * (10 + 100 * 2.0) / 3600)
    assert by_name["fsq"].hours == pytest.approx(2 * (10 + 100 * 4.0) / 3600)
    assert by_name["theirs"].hours == 0 and "released" in by_name["theirs"].reason
    assert found.hours == pytest.approx(sum(row.hours for row in found.rows))
    assert (found.unit, found.memory) == ("core", 10**9)
    assert found.jobs["tokenizer"] == 5, "two entries of two seeds, and the released weights"
    assert by_name["fsq"].targets == tuple(f"results/t/records/{fsq.id}/made-{seed}.json" for seed in (0, 1))


def test_a_rate_does_not_depend_on_the_length(config: configuration.Configuration, tmp_path: Path) -> None:
    none, longer = config.suite("two").subjects
    assert plan.recipe(none, whole=True) == plan.recipe(longer, whole=True)
    found = plan.plan(config, [config.suite("two")], {plan.recipe(none): rate()}, {}, tmp_path)
    assert [row.hours for row in found.rows] == pytest.approx([210 / 3600, 2 * 410 / 3600])


def test_what_has_no_rate_has_no_hours_and_a_reason(config: configuration.Configuration, tmp_path: Path) -> None:
    none = config.suite("two").subjects[0]
    found = plan.plan(config, config.suites(), {plan.recipe(none): rate()}, {}, tmp_path)
    assert [row.hours is None for row in found.rows] == [True, True, False, False, False]
    assert "2 of 5 rows have no rate" in " ".join(found.assumed)
    text = "\n".join(plan.lines(found))
    assert "no rate: add --measure" in text and "a note (here): 2 s" in text
    unknown = plan.plan(config, config.suites()[:1], {}, {}, tmp_path)
    assert unknown.hours is None, "released weights alone make no sum"
    nothing = plan.plan(config, config.suites()[1:], {}, {plan.recipe(none): "weights are missing"}, tmp_path)
    assert nothing.hours is None and "weights are missing" in "\n".join(plan.lines(nothing))


def test_finished_trainings_give_their_rates(config: configuration.Configuration, tmp_path: Path) -> None:
    none = config.suite("two").subjects[0]
    folder = tmp_path / "tokenizers" / none.id / "seed0"
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps({"training_seconds": 50.0, "steps": 100}))
    (folder / "model.safetensors").write_bytes(bytes(1000))
    (found,) = plan.recorded([none], tmp_path).values()
    assert (found.step, found.state) == (0.5, 1000)


def test_measured_rates_are_saved_and_read(config: configuration.Configuration, tmp_path: Path) -> None:
    subjects = [subject for suite in config.suites() for subject in suite.subjects]
    rates, reasons = plan.measured(config, subjects, each=False)
    assert len(rates) == 2 and not reasons, "two widths"
    assert all(found.step > 0 and found.state and found.memory for found in rates.values())
    plan.save(rates, tmp_path / "rates.json")
    assert plan.load(tmp_path / "rates.json") == rates


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text("[]")
    for name in ("rates.json", "nowhere.json"):
        with pytest.raises(BadInput, match=name):
            plan.load(tmp_path / name)


def test_the_command(config: configuration.Configuration, tmp_path: Path) -> None:
    run = CliRunner().invoke(latticebench, ["plan", str(config.path), "--suite", "one", "--root", str(tmp_path)])
    assert run.exit_code == 0, run.output
    assert "results/t/records/" in run.output and "memory  unknown" in run.output and "training and" in run.output
    assert CliRunner().invoke(latticebench, ["plan", str(config.path), "--save", "x"]).exit_code == 2
