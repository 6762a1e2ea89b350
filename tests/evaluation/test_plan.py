"""What a configuration will take, before anything runs."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from evaluation import plan, records, step_rates
from evaluation.cli.main import latticebench
from latticebench import configuration, generator_entries
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


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the tests the cutting up of the photographs."""
    monkeypatch.setattr(plan, "_counted", lambda config, folder: {"train": 5, "eval": 2})


def rate(step: float = 2.0, note: str = "a note") -> step_rates.Rate:
    return step_rates.Rate(step=step, start=10.0, memory=10**9, state=10**6, device="here", note=note)


@pytest.mark.usefixtures("counted")
def test_hours_follow_from_the_rates(config: configuration.Configuration, tmp_path: Path) -> None:
    none, fsq, _ = config.suite("one").subjects
    assert (
        step_rates.recipe(none)
        == step_rates.recipe(fsq)
        != step_rates.recipe(none, whole=True)
        != step_rates.recipe(fsq, whole=True)
    )
    rates = {step_rates.recipe(none): rate(2.0), step_rates.recipe(fsq, whole=True): rate(4.0)}
    found = plan.plan(config, [config.suite("one")], rates, {}, tmp_path)
    by_name = {row.name: row for row in found.rows}
    assert by_name["none"].hours == pytest.approx(2 * (10 + 100 * 2.0) / 3600)
    assert by_name["fsq"].hours == pytest.approx(2 * (10 + 100 * 4.0) / 3600)
    assert by_name["theirs"].hours == 0 and "released" in by_name["theirs"].reason
    assert found.hours == {"core": pytest.approx(sum(row.hours for row in found.rows))}
    assert (found.unit, found.memory, found.recorded, found.asked) == ("core", 10**9, None, 2 * 10**9)
    assert found.jobs["tokenizer"] == 5, "two entries of two seeds, and the released weights"
    assert by_name["fsq"].targets == tuple(f"results/t/records/{fsq.id}/made-{seed}.json" for seed in (0, 1))


@pytest.mark.usefixtures("counted")
def test_a_rate_does_not_depend_on_the_length(config: configuration.Configuration, tmp_path: Path) -> None:
    none, longer = config.suite("two").subjects
    assert step_rates.recipe(none, whole=True) == step_rates.recipe(longer, whole=True)
    found = plan.plan(config, [config.suite("two")], {step_rates.recipe(none): rate()}, {}, tmp_path)
    assert [row.hours for row in found.rows] == pytest.approx([210 / 3600, 2 * 410 / 3600])


@pytest.mark.usefixtures("counted")
def test_what_has_no_rate_has_no_hours_and_a_reason(config: configuration.Configuration, tmp_path: Path) -> None:
    none = config.suite("two").subjects[0]
    found = plan.plan(config, config.suites(), {step_rates.recipe(none): rate()}, {}, tmp_path)
    assert [row.hours is None for row in found.rows] == [True, True, False, False, False]
    assert "2 of 5 rows have no rate" in " ".join(found.assumed)
    text = "\n".join(plan.lines(found))
    assert "no rate: add --measure" in text and "a note (here): 2 s" in text
    unknown = plan.plan(config, config.suites()[:1], {}, {}, tmp_path)
    assert not unknown.hours, "released weights alone make no sum"
    nothing = plan.plan(config, config.suites()[1:], {}, {step_rates.recipe(none): "weights are missing"}, tmp_path)
    assert not nothing.hours and "weights are missing" in "\n".join(plan.lines(nothing))


def test_finished_trainings_give_their_rates(config: configuration.Configuration, tmp_path: Path) -> None:
    none = config.suite("two").subjects[0]
    folder = tmp_path / "tokenizers" / none.id / "seed0"
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(json.dumps({"training_seconds": 50.0, "steps": 100}))
    (folder / "model.safetensors").write_bytes(bytes(1000))
    (found,) = step_rates.recorded(config, [none], tmp_path).values()
    assert (found.step, found.state, found.unit, found.units) == (0.5, 1000, "core", 1)


def test_measured_rates_are_saved_and_read(config: configuration.Configuration, tmp_path: Path) -> None:
    subjects = config.subjects()
    rates, reasons = step_rates.measured(config, subjects, each=False)
    assert len(rates) == 2 and not reasons, "two widths"
    assert all(found.step > 0 and found.state and found.memory for found in rates.values())
    step_rates.save(rates, tmp_path / "rates.json")
    assert step_rates.load(tmp_path / "rates.json") == rates


MODELS = {
    "name": "m",
    "seeds": 1,
    "data": {"source": "bundled-photographs", "size": 32, "train_margin": 8, "bundled": {"scene_images": 5}},
    "tokenizer": {"patch": 8, "width": 16, "layers": 1, "heads": 2},
    "quantizers": {"fsq": {"method": "fsq", "parameters": {"levels": [8, 8]}}},
    "generation": {
        "classes": "pixels",
        "model": {"width": 16, "layers": 1, "heads": 2},
        "training": {"steps": 100, "batch_size": 4, "snapshots": [50]},
        "sampling": {"images": 32, "batch_size": 8, "guidance": 2.0},
        "sweep": {"images": 8, "guidance": [1, 3]},
    },
    "generators": {"small": {"tokenizer": "fsq", "seeds": 2}},
    "suites": {
        "released": {
            "data": {"size": 256},
            "quantizers": {"var": {"released": "var-tokenizer", "method": "vq", "parameters": {"dim": 32}}},
            "generation": {"model": {"family": "next-scale"}},
            "generators": {"scales": {"tokenizer": "var"}},
        },
        "unknown": {
            "quantizers": {"theirs": {"released": "bsqvit-256", "method": "bsq", "parameters": {"dim": 18}}},
            "generators": {"flat": {"tokenizer": "theirs"}},
        },
    },
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> configuration.Configuration:
    path = tmp_path_factory.mktemp("models") / "c.yaml"
    path.write_text(yaml.safe_dump(MODELS, sort_keys=False))
    return configuration.load(path)


@pytest.mark.usefixtures("counted")
def test_generators_are_rows_with_hours_disk_and_targets(models: configuration.Configuration, tmp_path: Path) -> None:
    (small,) = models.suite("main").generators
    one = step_rates.Rate(2.0, 10.0, 10**9, 10**6, "here", "a note", sample=0.5)
    bare = plan.plan(models, [models.suite("main")], {}, {}, tmp_path)
    found = plan.plan(models, [models.suite("main")], {step_rates.recipe(small): one}, {}, tmp_path)
    row = found.rows[-1]
    images = 32 + 2 * 8 + 8  # the samples, two settings of the sweep, a snapshot
    assert row.hours == pytest.approx(2 * (10 + 100 * 2.0 + images * 0.5) / 3600)
    assert row.targets == tuple(f"results/m/records/{small.id}/made-generation-{seed}.json" for seed in (0, 1))
    assert found.jobs["generator"] == found.jobs["samples"] == found.jobs["judge_generator"] == 2
    assert found.jobs["tokens"] == 1, "both seeds read the one tokenizer's"
    assert found.disk - bare.disk == 2 * 10**6 * 2 + 10**6 * 2 * 4 * 2
    assert "samples" in bare.uncounted and "samples" not in found.uncounted
    assert bare.rows[-1].reason == "no rate: add --measure"


def test_generators_are_measured_released_tokens_too(models: configuration.Configuration) -> None:
    rates, reasons = step_rates.measured(models, models.generators(), each=False)
    small, scales, flat = models.generators()
    for generator in (small, scales):
        rate = rates[step_rates.recipe(generator)]
        assert rate.step > 0 and rate.sample > 0 and rate.state and rate.memory
    assert "tokens of bsqvit-256 are not known" in reasons[step_rates.recipe(flat)]


def test_the_sweep_and_the_length_do_not_move_a_generators_rate(models: configuration.Configuration) -> None:
    values = json.loads(json.dumps(MODELS))
    values["generation"]["training"]["steps"] = 7000
    values["generation"]["sampling"]["images"] = 50000
    values["generation"]["sweep"]["guidance"] = [2]
    other = configuration.from_values(values, models.path)
    wider = json.loads(json.dumps(MODELS))
    wider["generation"]["model"]["width"] = 32
    assert step_rates.recipe(other.generator("small")) == step_rates.recipe(models.generator("small"))
    assert step_rates.recipe(configuration.from_values(wider, models.path).generator("small")) not in {
        step_rates.recipe(generator) for generator in models.generators()
    }


def test_finished_generators_give_their_rates(models: configuration.Configuration, tmp_path: Path) -> None:
    (small,) = models.suite("main").generators
    folder = tmp_path / "generators" / generator_entries.training_of(small).id / "seed1"
    folder.mkdir(parents=True)
    (folder / "generator.json").write_text(json.dumps({"training_seconds": 50.0, "steps": 100}))
    (folder / "model.safetensors").write_bytes(bytes(1000))
    (found,) = step_rates.recorded(models, [small], tmp_path).values()
    assert (found.step, found.state, found.sample) == (0.5, 1000, None)


@pytest.mark.usefixtures("counted")
def test_gpu_hours_are_those_of_all_gpus(tmp_path: Path) -> None:
    config = configuration.from_values({**VALUES, "jobs": {"gpus": 2, "nodes": 2}}, tmp_path / "c.yaml")
    none = config.suite("two").subjects[0]
    assert step_rates.processes(config) == 4
    shared = dataclasses.replace(rate(2.0), unit="GPU", units=4)
    alone = dataclasses.replace(rate(2.0), unit="core", units=2)
    key = step_rates.recipe(none)
    (row, _), hours = (found := plan.plan(config, [config.suite("two")], {key: shared}, {}, tmp_path)).rows, found.hours
    assert row.hours == pytest.approx(4 * (10 + 100 * 2.0) / 3600) and set(hours) == {"GPU"}
    cores = plan.plan(config, [config.suite("two")], {key: alone}, {}, tmp_path)
    assert cores.rows[0].hours == pytest.approx(2 * (10 + 100 * 2.0) / 3600) and set(cores.hours) == {"core"}
    assert "measured on a CPU" in " ".join(cores.assumed) and "core-hours" in "\n".join(plan.lines(cores))


@pytest.mark.usefixtures("counted")
def test_records_give_the_hours_of_other_jobs(config: configuration.Configuration, tmp_path: Path) -> None:
    suite = config.suite("one")
    folder = tmp_path / "records" / suite.subjects[0].id / "seed0"
    for suite_name, seconds in {"reconstruction": 36.0, "rates": 36.0, "compression": 72.0}.items():
        machine = records.Stopwatch().machine(seconds).model_copy(update={"peak_memory_bytes": 3 * 10**9})
        facts = {"subject": "none", "name": "none", "method": "identity", "seed": 0, "suite": suite_name}
        record = records.Record(**facts, parameters={}, dataset=None, values={}, code={}, machine=machine)
        records.write(record, folder / f"{suite_name}.json")
    found = plan.plan(config, [suite], {}, {}, tmp_path)
    assert found.others == pytest.approx(5 * (36 + 72) / 3600), "two entries of two seeds, and the released weights"
    assert found.recorded == 3 * 10**9 and found.uncounted == ("geometry",)
    assert "3.00 GB in the largest other job" in "\n".join(plan.lines(found))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text("[]")
    for name in ("rates.json", "nowhere.json"):
        with pytest.raises(BadInput, match=name):
            step_rates.load(tmp_path / name)


def test_the_command(config: configuration.Configuration, tmp_path: Path) -> None:
    run = CliRunner().invoke(latticebench, ["plan", str(config.path), "--suite", "one", "--root", str(tmp_path)])
    assert run.exit_code == 0, run.output
    assert (
        "results/t/records/" in run.output
        and "each job asks for 2.00 GB" in run.output
        and "training and" in run.output
    )
    assert CliRunner().invoke(latticebench, ["plan", str(config.path), "--save", "x"]).exit_code == 2
