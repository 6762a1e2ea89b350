"""The committed results: their tables follow from their records, and the README shows them."""

import re
import shutil
from pathlib import Path

import pytest

from evaluation import reference
from latticebench import configuration
from latticebench.errors import BadInput, Missing

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "results" / "reference"
FOLDERS = sorted(path.parent for path in KEPT.glob("*/configuration.yaml"))


def test_there_are_committed_results() -> None:
    assert "embedded" in [folder.name for folder in FOLDERS]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tables_follow_from_records(folder: Path) -> None:
    assert reference.check(folder).tables >= 1


def test_the_geometry_stage_is_kept_alone(tmp_path: Path) -> None:
    config = configuration.load(ROOT / "config" / "geometry.yaml")
    with pytest.raises(Missing, match=r"made\.json does not exist"):
        reference.keep_geometry(config, tmp_path / "run", tmp_path / "kept")
    kept = tmp_path / "kept" / "geometry"
    shutil.copytree(KEPT / "embedded" / "records" / "geometry", tmp_path / "run" / "records" / "geometry")
    for _ in range(2):  # the second time it replaces the first
        reference.keep_geometry(config, tmp_path / "run", kept)
    assert reference.check(kept).tables == 1
    assert sorted(path.name for path in (kept / "figures").iterdir()) == ["smallest_distance.png"]


def test_a_changed_number_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "embedded"
    shutil.copytree(KEPT / "embedded", copy)
    table = copy / "tables" / "main.csv"
    text = table.read_text()
    digits = re.search(r"\d\d\.\d\d\d", text)
    assert digits
    table.write_text(text.replace(digits[0], "99.999", 1))
    with pytest.raises(BadInput, match=r"main\.csv does not follow"):
        reference.check(copy)


def test_the_readme_shows_the_committed_table() -> None:
    readme = (ROOT / "README.md").read_text()
    assert reference.summary(KEPT / "embedded") in readme, (
        "paste reference.summary() of the kept results into the README"
    )


def test_the_findings_show_the_committed_table_and_verdicts() -> None:
    findings = (ROOT / "docs" / "findings.md").read_text()
    assert reference.summary(KEPT / "tiny-imagenet", "reconstruction") in findings, (
        "paste reference.summary() of the kept results into docs/findings.md"
    )
    assert reference.verdicts(FOLDERS) in findings, "paste reference.verdicts() into docs/findings.md"
