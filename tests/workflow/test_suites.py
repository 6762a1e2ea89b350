"""A suite can be run alone; each of its subjects has the data that it asks for."""

import collections
from pathlib import Path

import pytest
import yaml
from snakemake.exceptions import WorkflowError

from evaluation import plan
from latticebench import configuration
from latticebench.generator_entries import training_of
from tests.workflow.runs import SMOKE, outputs, snakemake

ENTRIES = {"identity": {"method": "identity"}, "fsq": {"method": "fsq", "parameters": {"levels": [8, 8]}}}


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = yaml.safe_load(SMOKE.read_text()) | {"compression": {}, "generators": {}}
    values["suites"] = {
        "small": {"quantizers": {**ENTRIES, "lfq": values["quantizers"]["lfq"]}},
        "large": {"data": {"size": 64}, "quantizers": ENTRIES},
    }
    del values["quantizers"]
    path = tmp_path_factory.mktemp("suites") / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_all_suites_or_one(tmp_path: Path, config_file: Path) -> None:
    config = configuration.load(config_file)
    all_of_them = outputs(tmp_path, config_file)
    large = outputs(tmp_path, config_file, suite="large")
    tokenizers = {name for name, rule in all_of_them.items() if rule == "tokenizer"}
    assert tokenizers == {f"results/smoke/tokenizers/{s.id}/made-0.json" for s in config.subjects()}
    chosen = config.suite("large").subjects
    assert {name for name, rule in large.items() if rule == "tokenizer"} == {
        f"results/smoke/tokenizers/{s.id}/made-0.json" for s in chosen
    }
    folder = f"results/smoke/data/{chosen[0].data_hash}"
    assert {name for name, rule in large.items() if rule == "data"} == {f"{folder}/manifest.json", f"{folder}/eval.npy"}
    assert "codecs" not in large.values(), "they code the top level's images, which no entry of the suite has"
    assert "codecs" in all_of_them.values() and "results/smoke/report/index.html" in large


def test_one_suite_has_the_paths_of_a_file_without_suites(tmp_path: Path, config_file: Path) -> None:
    values = yaml.safe_load(config_file.read_text())
    values |= values.pop("suites")["small"]
    plain = tmp_path / "plain.yaml"
    plain.write_text(yaml.safe_dump(values))
    assert outputs(tmp_path, plain) == outputs(tmp_path, config_file, suite="small")


def test_an_unknown_suite_stops_before_any_job(tmp_path: Path, config_file: Path) -> None:
    with pytest.raises(WorkflowError, match=r"no suite 'larger'; there are large, small; did you mean 'large'"):
        outputs(tmp_path, config_file, suite="larger")
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_suites_run_one_after_the_other_and_share_their_trainings(tmp_path: Path, config_file: Path) -> None:
    values = yaml.safe_load(config_file.read_text())
    values["suites"] = {
        "small": {"quantizers": ENTRIES},
        "large": {"data": {"size": 64}, "quantizers": ENTRIES},
        "both": {
            "title": "Both",
            "quantizers": {"fsq": ENTRIES["fsq"], "lfq": {"method": "lfq", "parameters": {"dim": 8}}},
        },
    }
    values["compression"] = {"codecs": ["webp"]}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    config = configuration.load(path)
    for suite in ("large", "small", "both"):
        done = snakemake(tmp_path, path, "--config", f"suite={suite}")
        assert done.returncode == 0, done.stdout
        trained = len(list(tmp_path.glob("results/smoke/tokenizers/*/seed0/model.safetensors")))
        assert trained == {"large": 2, "small": 4, "both": 5}[suite]
    assert len(list(tmp_path.glob("results/smoke/data/*/manifest.json"))) == 2
    for subject in config.subjects():
        record = next(tmp_path.glob(f"results/smoke/records/{subject.id}/seed0/reconstruction.json"))
        manifest = tmp_path / "results" / "smoke" / "data" / subject.data_hash / "manifest.json"
        sha256 = yaml.safe_load(manifest.read_text())["splits"]["eval"]["sha256"]
        assert yaml.safe_load(record.read_text())["dataset"]["sha256"] == sha256
    left = snakemake(tmp_path, path, "--dry-run").stdout
    assert "Tokenizer " not in left and "Judging " not in left, "only the report has more to say"


IMAGENET = SMOKE.with_name("imagenet.yaml")
ROWS = {
    "table-5": 5,
    "table-8": 15,
    "lgq-sweep": 36,
    "lgq-sweep-released": 7,
    "as-released-256": 12,
    "as-released-128": 5,
}


@pytest.mark.parametrize("suite", ROWS)
def test_every_row_of_the_papers_tables_has_a_target(tmp_path: Path, suite: str) -> None:
    config = configuration.load(IMAGENET, methods=False)
    targets = outputs(tmp_path, IMAGENET, suite=suite)
    trained = {f"results/imagenet/tokenizers/{s.id}/made-0.json" for s in config.suite(suite).subjects}
    judged = {f"results/imagenet/records/{s.id}/made-0.json" for s in config.suite(suite).subjects}
    assert len({s.trained.id for s in config.suite(suite).subjects}) == ROWS[suite]
    assert {name for name, rule in targets.items() if rule == "tokenizer"} == trained
    assert {name for name, rule in targets.items() if rule == "judge"} == judged
    assert len([name for name, rule in targets.items() if rule == "data" and name.endswith("manifest.json")]) == 1


def test_the_plan_counts_the_jobs_that_the_workflow_has(tmp_path: Path) -> None:
    config = configuration.load(IMAGENET, methods=False)
    found = collections.Counter(outputs(tmp_path, IMAGENET).values())
    found["data"] //= 2  # a manifest and the evaluation images
    found["report"] //= 3  # the site, figures and tables
    assert plan.job_counts(config, config.subjects(), config.generators()) == found


def test_released_tokens_have_a_prior_of_as_many_images_as_ours() -> None:
    config = configuration.load(IMAGENET, methods=False)
    wanted = config.values["compression"]["prior_images"]
    for subject in config.subjects():
        own = subject.spec["data"]["train_images"]
        assert own is None or own >= wanted, f"{subject.id}: a static prior of {own} images says little"


def test_bsqs_ramp_lasts_the_authors_2000_steps() -> None:
    rows = [s.spec for s in configuration.load(IMAGENET, methods=False).subjects() if "released" not in s.spec]
    own = [spec for spec in rows if spec["quantizer"]["method"] == "bsq"]
    ramps = [
        spec["quantizer"]["parameters"].get("ramp_share", 0.1) * spec["tokenizer"]["training"]["steps"]
        for spec in own
        if spec["quantizer"]["parameters"].get("entropy_weight") != 0
    ]
    assert len(ramps) > 10 and all(1900 < steps < 2100 for steps in ramps), ramps


GENERATORS = {"table-7": 5, "table-9": 2, "figure-3": 4, "figure-4": 2, "figure-6": 2, "figure-7": 4, "figure-8": 1}


@pytest.mark.parametrize("suite", GENERATORS)
def test_every_generator_of_the_papers_has_a_target(tmp_path: Path, suite: str) -> None:
    config = configuration.load(IMAGENET, methods=False)
    targets = outputs(tmp_path, IMAGENET, suite=suite)
    generators = config.suite(suite).generators
    assert len({generator.id for generator in generators}) == GENERATORS[suite]
    pairs = [(generator, seed) for generator in generators for seed in generator.seeds]
    judged = {f"results/imagenet/records/{each.id}/made-generation-{seed}.json" for each, seed in pairs}
    trained = {f"results/imagenet/generators/{training_of(each).id}/made-{seed}.json" for each, seed in pairs}
    assert {name for name, rule in targets.items() if rule == "judge_generator"} == judged
    assert {name for name, rule in targets.items() if rule == "generator"} == trained


def test_suites_of_the_same_generator_train_it_once() -> None:
    config = configuration.load(IMAGENET, methods=False)
    chosen = [
        next(each for each in config.suite(suite).generators if each.name == "leech-12")
        for suite in ("table-7", "table-9", "figure-4", "figure-8")
    ]
    assert len({training_of(each).id for each in chosen}) == 1
    assert len({each.id for each in chosen}) == 2, "figure 8 draws further samples"


def test_the_equal_budget_comparison_is_equal() -> None:
    config = configuration.load(IMAGENET, methods=False)
    sweep, released = config.suite("lgq-sweep").subjects, config.suite("lgq-sweep-released").subjects
    assert len({yaml.safe_dump(subject.spec["tokenizer"]) for subject in sweep}) == 1
    assert {subject.id for subject in sweep} & {subject.id for subject in released} == {
        subject.id for subject in released if subject.name == "lgq-16384"
    }, "LGQ's own recipe is the one of the comparison"
