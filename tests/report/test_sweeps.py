"""Settings of sampling in a table and two figures."""

import dataclasses
import json

import pytest

from evaluation.report import formats, results, sweeps
from evaluation.report.figures import NothingToDraw
from tests.report.synthetic import SOME, configuration, fill


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A run whose generator `direct` was sampled at two temperatures and two values of top-p, and at two steps."""
    config = configuration([*SOME, "leech-published"], generators=True)
    root = fill(tmp_path_factory.mktemp("swept"), config)
    (path,) = root.glob("records/direct-*/seed0/generation.json")
    record = json.loads(path.read_text())
    base = {"guidance": 1.5, "images": 50, "top_k": 0, "batch_size": 8}
    rows = [
        {**base, "step": None, "temperature": t, "top_p": p, "fd_insuite_generation": 20 + t, "precision_insuite": 0.5,
         "recall_insuite": 0.1 * t + p / 10}
        for t in (0.8, 1.0) for p in (0.9, 1.0)
    ]  # fmt: skip
    early = {**base, "temperature": 1.0, "top_p": 0.0, "precision_insuite": 0.4, "recall_insuite": 0.1}
    rows += [{**early, "step": step, "fd_insuite_generation": 90.0 - step} for step in (20, 10)]
    record["arrays"]["sweep"] = rows
    path.write_text(json.dumps(record))
    return results.load(config, root).views[0]


def own(points):
    return [point for point in points if point.entry.name == "direct"]


def test_off_is_off_however_it_is_written(swept):
    found = own(sweeps.points(swept))
    assert [point.settings.top_p for point in found] == [0.9, None, 0.9, None, None, None]
    assert {point.settings.top_k for point in found} == {None}
    assert [point.trained for point in found] == [True] * 4 + [False] * 2


def test_the_table_has_a_row_for_each_setting_and_step(swept):
    table = sweeps.table(swept)
    rows = [row.fields for row in table.rows if row.entry.name == "direct"]
    last = own(sweeps.points(swept))[0].step
    assert [row["step"] for row in rows] == [last] * 4 + [20, 10]
    assert len({row.key for row in table.rows}) == len(table.rows)
    text = formats.to_markdown(table)
    assert "70.00" in text and "80.00" in text
    assert all(
        source.path.endswith("generation.json") for row in table.rows for s in row.origins.values() for source in s
    )


def test_points_say_which_settings_differ(swept):
    drawn, used = sweeps.frontier(swept)
    labels = [text.get_text() for text in drawn.axes[0].texts]
    assert {"τ 0.8, p 0.9", "τ 1, p 1"} <= {", ".join(label.split(", ")[-2:]) for label in labels}
    assert len(labels) == sum(point.trained for point in sweeps.points(swept))
    assert any(path.startswith("records/direct-") for path in used)


def test_over_training_joins_equal_settings_in_order(swept):
    drawn, _ = sweeps.over_training(swept)
    (line,) = drawn.axes[0].get_lines()
    last = own(sweeps.points(swept))[0].step
    assert list(line.get_xdata()) == [10, 20, last]
    assert list(line.get_ydata()) == [80, 70, 21.0]


def test_without_snapshots_there_is_no_curve(finished):
    with pytest.raises(NothingToDraw):
        sweeps.over_training(results.load(*finished).views[0])
    bare = dataclasses.replace(results.load(*finished).views[0], generators=())
    assert not sweeps.table(bare).rows


def test_a_setting_may_be_one_for_each_scale():
    row = {"guidance": [1.0, 1.5, 2.0], "temperature": 1.0, "top_k": [0, 0, 0], "top_p": [0.0, 0.9, 1.0], "images": 8}
    settings = sweeps.Settings.of(row)
    assert settings.top_k is None and len({settings, sweeps.Settings.of(row)}) == 1
    assert settings.text(frozenset({"guidance", "top_k", "top_p"})) == "g 1 to 2, k all, p 0 to 1"
    assert settings.cells()["guidance"] == "1 to 2" and settings.cells()["temperature"] == 1.0
