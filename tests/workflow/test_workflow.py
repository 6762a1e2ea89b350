"""The workflow's promises that need no training: what would run, and one run a folder."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from latticebench import configuration, locks
from latticebench.errors import BadInput
from latticebench.files import write_json
from tests.workflow.runs import SMOKE, snakemake


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Says of a configuration that its methods were asked about it, as `make run` does: that takes importing torch."""
    return lambda config: monkeypatch.setenv(configuration.CHECKED, configuration.fingerprint(config))


def plan(folder: Path, config: Path) -> dict[str, str]:
    """Every output of the configuration, and what the next run would do about it."""
    summary = snakemake(folder, config, "--summary")
    assert summary.returncode == 0, summary.stdout
    lines = [line.split("\t") for line in summary.stdout.splitlines() if "\t" in line]
    output, planned = lines[0].index("output_file"), lines[0].index("plan")
    return {line[output]: line[planned] for line in lines[1:]}


def test_only_the_changed_quantizer_would_run_again(tmp_path: Path, checked: Callable[[Path], None]) -> None:
    values = yaml.safe_load(SMOKE.read_text())
    values["quantizers"] = {
        "lgq": {"method": "lgq", "parameters": {"dim": 8, "codebook_size": 64}},
        "fsq": {"method": "fsq", "parameters": {"levels": [8, 8]}},
    }
    values["compression"], values["generators"] = {}, {}
    config_file = tmp_path / "config.yaml"
    config_file.write_text(yaml.safe_dump(values))
    checked(config_file)
    outputs = plan(tmp_path, config_file)
    assert outputs
    for output in outputs:
        if Path(output).suffix:
            (tmp_path / output).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / output).write_text("{}")
        else:
            (tmp_path / output).mkdir(parents=True)
    touched = snakemake(tmp_path, config_file, "--touch", "--cores", "1")
    assert touched.returncode == 0, touched.stdout
    assert set(plan(tmp_path, config_file).values()) == {"no update"}

    values["quantizers"]["lgq"]["parameters"]["tau_end"] = 0.2
    config_file.write_text(yaml.safe_dump(values))
    checked(config_file)
    again = {output for output, planned in plan(tmp_path, config_file).items() if planned != "no update"}
    report = {f"results/smoke/{name}" for name in ("report/index.html", "figures", "tables")}
    assert {name for name in again if "lgq-" not in name} == report
    assert len(again - report) == 3, "lgq's training, judging and coding"
    dry_run = snakemake(tmp_path, config_file, "--dry-run").stdout
    assert "Tokenizer lgq-" in dry_run and "fsq-" not in dry_run


def test_a_bad_configuration_stops_before_any_job(tmp_path: Path) -> None:
    config_file = tmp_path / "config.yaml"
    config_file.write_text("name: a\ndata: {source: bundled-photographs}\nquantizers: {x: {method: nope}}\n")
    result = snakemake(tmp_path, config_file)
    assert result.returncode != 0
    assert "unknown quantizer 'nope'" in result.stdout
    assert not (tmp_path / "results").exists()


def test_a_dry_run_names_damage_and_leaves_it(tmp_path: Path) -> None:
    folder = tmp_path / "results/smoke/data/abc"
    folder.mkdir(parents=True)
    (folder / "train.npy").write_text("changed")
    write_json(folder / "manifest.json", {"splits": {"train": {"files": {"train.npy": "0" * 64}}}})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")}
    result = snakemake(tmp_path, SMOKE, "--dry-run")
    assert result.returncode == 0, result.stdout
    assert "train.npy has changed since it was made; a run sets it aside" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*")} == before


def test_a_second_run_in_the_same_folder_is_refused_and_names_the_first(tmp_path: Path) -> None:
    config = configuration.load(SMOKE)
    with locks.hold(tmp_path / "results" / config.name / ".lock", "the test's folder"):
        result = snakemake(tmp_path, SMOKE, "--cores", "1")
    assert result.returncode != 0
    assert "is in use by process" in result.stdout
    assert not (tmp_path / "results" / config.name / "data").exists()


def test_a_lock_is_free_again_when_its_holder_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = f"import os; from latticebench import locks; f = locks.hold({str(path)!r}, 'x'); os._exit(9)"
    subprocess.run([sys.executable, "-c", script], check=False)
    first = locks.hold(path, "the folder")
    with pytest.raises(BadInput, match="the folder is in use by process"):
        locks.hold(path, "the folder")
    first.close()
