"""Geometry of codebooks: closed forms, bounds, and the records of the stage."""

import json
import math

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from evaluation import geometry as stage
from evaluation import records
from latticebench import configuration
from latticebench.errors import BadInput
from latticebench.lattices import cubic, e8, geometry, leech

SETTINGS = {"samples": 2048, "covering_steps": 30}


def test_smallest_distances_that_are_known():
    assert geometry.smallest_distance(e8.shell()) == pytest.approx(1)
    assert geometry.smallest_distance(cubic.hypercube(12)) == pytest.approx(2 / math.sqrt(12))
    assert geometry.smallest_distance(cubic.shell(5, 1)) == pytest.approx(math.sqrt(2))
    assert geometry.smallest_distance(cubic.shell(10, 2)) == pytest.approx(1)
    assert geometry.smallest_distance(leech.vectors(leech.subset(5000, "first"))) == pytest.approx(1)
    assert geometry.angle(1.0) == pytest.approx(60)


def test_all_pairs_are_seen_over_tiles(monkeypatch):
    points = geometry.uniform_directions(300, 24, 0)
    points[299] = points[3] + 1e-4 * torch.eye(24)[0]
    monkeypatch.setattr(geometry, "TILE", 64)
    expected = float((points[299].double() - points[3].double()).norm())
    assert geometry.smallest_distance(points) == pytest.approx(expected, rel=1e-12)


def test_released_codebook_reaches_20_of_32():
    x = torch.from_numpy(leech.released()).float()
    start = leech.CLASSES["class3"].start
    products = x[start : start + 64] @ x[:start].t()
    assert products.max() == 20
    row, octad = divmod(int(products.argmax()), start)
    pair = leech.vectors(torch.tensor([start + row, octad]), codebook="released")
    assert geometry.smallest_distance(pair) == pytest.approx(math.sqrt(24 / 32))


def test_caps():
    assert geometry.cap_share(math.pi / 2, 7) == pytest.approx(0.5)
    assert geometry.cap_share(math.pi / 3, 3) == pytest.approx(0.25)
    assert geometry.cap_angle(geometry.cap_share(0.4, 24), 24) == pytest.approx(0.4)


def test_bounds_hold_and_are_reached_by_antipodal_points():
    assert geometry.largest_distance_bound(2, 9) == pytest.approx(2)
    # Two half spheres: the mean height of S^2 above a plane is 1/2.
    assert geometry.smallest_error_bound(2, 3) == pytest.approx(1)
    assert geometry.largest_distance_bound(240, 8) > 1
    assert geometry.largest_distance_bound(196_560, 24) > 1
    assert 0.43 < geometry.smallest_error_bound(196_560, 24) < 0.4448


def test_entropy_of_a_uniform_source_is_unbiased():
    counts = np.random.default_rng(0).multinomial(4 * 4096, np.full(4096, 1 / 4096))
    assert geometry.entropy_bits(counts) == pytest.approx(12, abs=0.02)
    assert geometry.entropy_bits(np.array([7, 0])) == 0


def test_covering_angle_of_the_cross_polytope():
    points = cubic.shell(4, 1)
    found = geometry.worst_angle(
        geometry.uniform_directions(64, 4, 0), lambda z: points[(z @ points.t()).argmax(1)], steps=80
    )
    assert found == pytest.approx(60, abs=0.5) and found <= 60 + 1e-3


def test_leech_record():
    record = stage.subject("leech", {}, "leech", SETTINGS, 0)
    values = record.values
    assert values["delta_min"].value == 1.0
    assert values["mse_unit"].value == pytest.approx(0.4448, abs=5e-4)
    assert values["mse_best_radius"].value == pytest.approx(1 - 0.777601**2, abs=5e-4)
    assert values["mse_unit"].interval.low < 0.4448 < values["mse_unit"].interval.high
    assert 50 < values["covering_angle"].value < 52.3
    assert "too few" in values["use_entropy_bits"].reason
    assert any("exact" in note for note in record.notes)


def test_published_record_says_where_its_number_comes_from():
    record = stage.point("leech-published", {}, "leech-published", SETTINGS)
    assert record.values["delta_min"].value == pytest.approx(0.866, abs=5e-4)
    assert any("two different Golay codes" in note for note in record.notes)


@pytest.mark.parametrize(("method", "parameters", "mse"), [("bsq", {"dim": 14}, 0.3755), ("lfq", {"dim": 14}, 0.3755)])
def test_sign_codes(method, parameters, mse):
    values = stage.subject(method, parameters, "signs", SETTINGS, 0).values
    assert values["delta_min"].value == pytest.approx(2 / math.sqrt(14))
    assert values["mse_unit"].value == pytest.approx(mse, abs=1e-3)


def test_codes_of_several_lengths_leave_cells_empty():
    values = stage.subject("fsq", {"levels": [5, 5, 5]}, "fsq", SETTINGS, 0).values
    assert values["delta_min"].value == 0.5
    assert values["mse_unit"].value is None and values["mse_best_radius"].value > 0
    assert 0 < values["use_entropy_bits"].value < math.log2(125)


def test_learned_codebooks_are_refused():
    with pytest.raises(BadInput, match="no fixed codebook"):
        stage.subject("vq", {}, "vq", SETTINGS, 0)


def configured(tmp_path, section):
    path = tmp_path / "c.yaml"
    values = {"name": "c", "data": {"source": "bundled-photographs"}, "quantizers": {"bsq": {"method": "bsq"}}}
    path.write_text(yaml.safe_dump(values | {"geometry": section}))
    return path


def test_the_stage_writes_a_record_each_and_its_manifest(tmp_path):
    section = {
        "samples": 1024,
        "codebooks": {"e": {"method": "random", "parameters": {"dim": 24, "codebook_size": 64}}},
        "sweep_3": [16, 64],
        "sweep_24": [64],
    }
    result = CliRunner().invoke(
        stage.main, ["--config", str(configured(tmp_path, section)), "--out", str(tmp_path / "o")]
    )
    assert result.exit_code == 0, result.output
    made = json.loads((tmp_path / "o" / "made.json").read_text())["files"]
    assert sorted(made) == sorted(
        ["e.json", "leech-d24-64.json", "fibonacci-d24-64.json"]
        + [f"{method}-d3-{K}.json" for method in ("fibonacci", "random") for K in (16, 64)]
    )
    found = [records.read(tmp_path / "o" / name) for name in made]
    assert {record.suite for record in found} == {"geometry"}


def test_defaults_are_valid(tmp_path):
    settings = configuration.load(configured(tmp_path, {})).values["geometry"]
    names = [job[0] for job in stage.jobs(settings)]
    assert {"leech", "leech-published", "bsq-18"} <= set(names) and len(names) == len(set(names))
