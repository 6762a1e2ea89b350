"""The committed results: their tables follow from their records, and the README shows them."""

import functools
import json
import re
import shutil
from pathlib import Path

import pytest

from evaluation import records, reference
from evaluation.compression.format import CHECKSUM_BYTES, HEADER_BYTES
from latticebench import configuration
from latticebench.errors import BadInput, Missing

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "results" / "reference"
FOLDERS = sorted(path.parent for path in KEPT.glob("*/configuration.yaml"))
EMBEDDED = configuration.load(KEPT / "embedded" / "configuration.yaml")
CODED = [subject for subject in EMBEDDED.subjects() if subject.spec["quantizer"]["method"] != "identity"]


@functools.cache
def kept_records() -> dict[tuple[str, str, int | None], records.Record]:
    """Those of the embedded configuration by subject, suite and seed."""
    return {(each.subject, each.suite, each.seed): each for each in records.read_all(KEPT / "embedded")}


def kept(subject: configuration.Subject, suite: str) -> list[records.Record]:
    """A subject's records of a suite, one a seed; KeyError where one is missing."""
    return [kept_records()[subject.id, suite, seed] for seed in subject.seeds]


def named(subject: configuration.Subject) -> str:
    return subject.name


def test_there_are_committed_results() -> None:
    assert "embedded" in [folder.name for folder in FOLDERS]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_tables_follow_from_records(folder: Path) -> None:
    assert reference.check(folder).tables >= 1


# The project's bars, which the committed results of the default configuration must clear. ------------------------


@pytest.mark.parametrize("generator", EMBEDDED.generators(), ids=named)
def test_a_generator_beats_the_static_prior_and_uses_its_classes(generator: configuration.Subject) -> None:
    for record in kept(generator, "generation"):
        told = record.values["bits_per_token"].value
        assert told < record.values["bits_per_token_static"].value
        assert told < record.values["bits_per_token_shuffled_labels"].value


@pytest.mark.parametrize("subject", CODED, ids=named)
def test_a_quantizer_beats_the_mean_colour_and_uses_its_codebook(subject: configuration.Subject) -> None:
    for record in kept(subject, "reconstruction"):
        assert record.values["psnr_gain"].value >= 1, f"dB above each image's mean colour, seed {record.seed}"
    for record in kept(subject, "codebook"):
        assert record.values["relative_usage"].value >= 0.02, f"of a uniform source's codes, seed {record.seed}"


@pytest.mark.parametrize("method", ["vq", "bsq", "leech"])
def test_the_network_prior_saves_bytes(method: str) -> None:
    for record in kept(EMBEDDED.subject(method), "compression"):
        assert record.values["bpp_network"].value <= 0.99 * record.values["bpp_static"].value, f"seed {record.seed}"


@pytest.mark.parametrize("subject", CODED, ids=named)
def test_coded_files_are_as_long_as_their_cross_entropy(subject: configuration.Subject) -> None:
    pixels_per_byte = 8 / subject.spec["data"]["size"] ** 2
    for record in kept(subject, "compression"):
        priors = [name.removeprefix("bpp_") for name in record.samples if name.startswith("bpp_")]
        assert {"uniform", "static"} <= set(priors)
        for prior in priors:
            files, entropies = record.samples[f"bpp_{prior}"], record.samples[f"prior_bpp_{prior}"]
            assert len(files) == record.dataset.samples
            for bpp, entropy in zip(files, entropies, strict=True):
                size, least = bpp / pixels_per_byte, entropy / pixels_per_byte
                assert abs(size - HEADER_BYTES - CHECKSUM_BYTES - least) <= 0.005 * least + 8, (
                    f"{prior}, seed {record.seed}"
                )


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


def test_records_of_other_code_are_counted_and_what_nobody_hashes_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "geometry"
    shutil.copytree(KEPT / "geometry", copy)
    path = next(path for path in sorted(copy.glob("records/**/*.json")) if records.is_record(path))
    values = json.loads(path.read_text())
    name = next(iter(values["code"]))
    values["code"][name] = "0" * 64
    path.write_text(json.dumps(values))
    before, after = reference.check(KEPT / "geometry"), reference.check(copy)
    assert set(after.older) - set(before.older) == {str(path.relative_to(copy))}
    assert "latticebench/training" in after.unhashed and name not in after.unhashed
