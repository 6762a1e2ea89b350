"""What `latticebench compare` says of two results folders."""

import csv
import shutil

import pytest
from click.testing import CliRunner

from evaluation import records
from evaluation.cli.compare import command
from evaluation.report import results, runs
from latticebench.errors import Missing
from tests.report.synthetic import configuration, fill, reconstruction


@pytest.fixture
def two(tmp_path):
    config = configuration(["identity", "vq", "fsq", "bsq"])
    first = fill(tmp_path / "a", config)
    second = tmp_path / "b"
    shutil.copytree(first, second)
    return config, first, second


def _change(changes, row, key, suite="reconstruction"):
    return next(c for c in changes if (c.row, c.key, c.suite) == (row, key, suite))


def _path(root, config, name, seed):
    return root / "records" / config.subject(name).id / f"seed{seed}" / "reconstruction.json"


def test_equal_runs_are_equal(two):
    _, first, second = two
    assert {change.verdict for change in runs.compare(first, second)} == {"equal", "no number"}


def test_what_a_killed_job_left_half_written_is_no_record(two):
    config, first, second = two
    seed, geometry = _path(second, config, "vq", 0).parent, second / "records" / "geometry"
    for name, text in ((".reconstruction.json.a1b2c3d4.json", '{"subject": "v'), (".made.json.a1b2c3d4.json", "{}")):
        for folder in (seed, geometry):
            (folder / name).write_text(text)
    assert {change.verdict for change in runs.compare(first, second)} == {"equal", "no number"}
    assert len(records.read_all(second)) == len(records.read_all(first))
    assert results.load(config, second).geometry


def test_a_real_change_and_noise_are_told_apart(two):
    config, first, second = two
    for seed in (0, 1):
        records.write(reconstruction(config.subject("vq"), seed, 1.0), _path(second, config, "vq", seed))
    noisy = reconstruction(config.subject("fsq"), 7).model_copy(update={"seed": 0})
    records.write(noisy, _path(second, config, "fsq", 0))
    changes = runs.compare(first, second)
    moved = _change(changes, "vq", "psnr")
    assert (moved.verdict, moved.how) == ("changed", "paired on the same images")
    assert moved.difference == pytest.approx(1.0) and moved.low <= 1.0 <= moved.high + 1e-9
    assert _change(changes, "fsq", "psnr").verdict == "within noise"
    assert _change(changes, "bsq", "psnr").verdict == "equal"
    assert changes[0].verdict == "changed"


def test_protocols_missing_rows_and_other_ids(two):
    config, first, second = two
    for seed in (0, 1):
        path = _path(second, config, "vq", seed)
        path.write_text(path.read_text().replace('"psnr-v1"', '"psnr-v2"'))
    shutil.rmtree(second / "records" / config.subject("bsq").id)
    old = config.subject("fsq").id
    for path in (second / "records" / old).rglob("*.json"):
        path.write_text(path.read_text().replace(old, "fsq-00000000"))
    changes = runs.compare(first, second)
    vq = _change(changes, "vq", "psnr")
    assert (vq.verdict, vq.difference) == ("other protocol", None)
    assert _change(changes, "bsq", "psnr").verdict == "only in A"
    assert _change(changes, "fsq", "psnr").verdict == "equal"


def test_machine_values_only_when_asked(two):
    _, first, second = two
    assert "training_seconds" not in {change.key for change in runs.compare(first, second)}
    assert "training_seconds" in {change.key for change in runs.compare(first, second, machine=True)}


def test_the_command(two, tmp_path):
    _, first, second = two
    done = CliRunner().invoke(command, [str(first), str(second), "--csv", str(tmp_path / "out.csv")])
    assert done.exit_code == 0 and "equal" in done.output
    with open(tmp_path / "out.csv", newline="") as file:
        assert {"row", "key", "verdict", "difference"} <= set(next(csv.DictReader(file)))


def test_a_folder_without_records_is_named(tmp_path):
    with pytest.raises(Missing, match="holds no record"):
        runs.compare(tmp_path, tmp_path)
