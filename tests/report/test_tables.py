import csv
import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluation import records
from evaluation.report import build, comparisons, figures, formats, papers, published, results, stability, tables
from evaluation.report.__main__ import command
from latticebench.configuration import load as load_configuration
from latticebench.errors import BadInput
from tests.report.synthetic import QUANTIZERS, SOME, THREE, configuration, fill, reconstruction


@pytest.fixture(scope="module")
def loaded(finished):
    return results.load(*finished)


def _csv(table):
    return {row[table.key_field]: row for row in csv.DictReader(io.StringIO(formats.to_csv(table)))}


def test_a_cell_is_the_mean_over_seeds_and_its_sources_say_so(loaded, finished):
    table = tables.main(loaded)
    row = _csv(table)["vq"]
    config, root = finished
    subject = config.subject("vq")
    values = [reconstruction(subject, seed).values["psnr"] for seed in (0, 1)]
    assert float(row["psnr"]) == pytest.approx(sum(v.value for v in values) / 2)
    assert float(row["psnr_low"]) == pytest.approx(sum(v.interval.low for v in values) / 2)
    assert float(row["psnr_sd"]) == pytest.approx(abs(values[0].value - values[1].value) / math.sqrt(2))
    assert (row["psnr_n"], row["K"]) == ("2", "4096")
    source = formats.sources(table)["rows"]["vq"]["psnr"]
    assert source["protocol"] == "psnr-v1"
    assert [records.read(root / path).values["psnr"].value for path in source["records"]] == [v.value for v in values]


def test_identity_leads_as_the_ceiling_and_unequal_sizes_stand_apart(loaded):
    table = tables.main(loaded)
    assert table.rows[0].key == "identity"
    groups = dict(table.groups)
    assert [group for group in groups][1] == "Equal codebook size: K = 4,096"
    assert {row.key for row in groups["Other codebook sizes: not at equal rate"]} == {
        name for name in (*SOME, "leech-published") if QUANTIZERS[name][2] not in (4096, math.inf)
    }


def test_an_empty_cell_keeps_its_reason(loaded):
    table = tables.main(loaded)
    row = _csv(table)["vq"]
    assert row["lpips_alex"] == ""
    assert "latticebench fetch" in row["lpips_alex_reason"]
    assert "LPIPS (AlexNet): not measured" in formats.to_markdown(table)
    assert "codes" in _csv(table)["identity"]["codes_used_reason"]


def test_two_protocols_never_share_a_column(tmp_path):
    config = configuration(["vq", "bsq"])
    root = fill(tmp_path, config)
    subject = config.subject("bsq")
    path = root / "records" / subject.id / "seed0" / "reconstruction.json"
    path.write_text(path.read_text().replace('"psnr-v1"', '"psnr-v2"'))
    with pytest.raises(BadInput, match=r"psnr-v[12].*psnr-v[12]"):
        tables.main(results.load(config, root))
    other = root / "records" / subject.id / "seed1" / "reconstruction.json"
    other.write_text(other.read_text().replace('"psnr-v1"', '"psnr-v2"'))
    with pytest.raises(BadInput, match=r"column 'psnr'.*psnr-v1.*psnr-v2"):
        tables.main(results.load(config, root))


def _two(tmp_path, lead):
    config = configuration(["vq", "fsq"])
    root = fill(tmp_path, config)
    for seed in (0, 1):
        level = QUANTIZERS["vq"][3] - QUANTIZERS["fsq"][3] + lead
        records.write(
            reconstruction(config.subject("fsq"), seed, level),
            root / "records" / config.subject("fsq").id / f"seed{seed}" / "reconstruction.json",
        )
    return results.load(config, root)


@pytest.mark.parametrize(("lead", "marked"), [(1.0, {("fsq", "psnr")}), (0.0, set())])
def test_best_is_marked_only_where_the_difference_is_real(tmp_path, lead, marked):
    loaded = _two(tmp_path, lead)
    found = tables.main(loaded).best
    assert {pair for pair in found if pair[1] == "psnr"} == marked
    difference = comparisons.difference(loaded.entry("fsq"), loaded.entry("vq"), "psnr")
    assert difference.real == bool(marked)
    assert difference.low < lead < difference.high or abs(difference.value - lead) < 0.2


def test_geometry_stands_beside_the_printed_numbers(loaded):
    row = _csv(tables.geometry(loaded))
    assert row["leech-published"]["delta_min_published"] == "0.866"
    assert abs(float(row["leech-published"]["delta_min_difference"])) < 5e-4
    assert abs(float(row["bsq-18"]["delta_min_difference"])) < 5e-4
    assert row["leech"]["delta_min_published"] == ""


def test_the_three_gfids_of_the_twelve_layer_model_name_each_other():
    rows = [*published.find("gfid", task="generation"), *published.find("gfid", task="generation-head")]
    seen = {row.value: set(row.conflicts) for row in rows if row.codebook_size == 196560 and row.conflicts}
    assert seen == {6.66: {8.7, 3.15}, 8.7: {6.66, 3.15}, 3.15: {6.66, 8.7}}


def test_published_numbers_keep_conflicts_and_huge_codebooks():
    twelve = published.find("gfid", method="infinity-cc-12layer leech-published")
    assert [number.value for number in twelve] == [3.15]
    assert max(number.codebook_size or 0 for number in published.numbers()) == 2**64
    assert all(number.protocol for number in published.numbers())
    authors_first = published._settle(
        [
            number.__class__(**{**number.__dict__, "confidence": confidence, "value": value})
            for number, confidence, value in [(twelve[0], "secondary", 1.0), (twelve[0], "authors", 2.0)]
        ]
    )
    assert (authors_first.value, authors_first.conflicts) == (2.0, (1.0,))


def test_an_unfinished_run_says_what_is_missing(unfinished):
    config, root = unfinished
    gaps = {gap.what: gap.why for gap in results.load(config, root).gaps}
    assert gaps["lgq, seed 0: reconstruction, codebook, rates, cost"] == "training began and did not end"
    assert gaps["lgq, seed 1: reconstruction, codebook, rates, cost"] == "training has not begun"
    page = (root / "report" / "index.html").read_text()
    assert "2 parts missing" in page
    assert "training began and did not end" in (root / "report" / "about.html").read_text()


def test_the_command_makes_a_page_of_an_empty_folder(tmp_path):
    config = Path(__file__).resolve().parents[2] / "config" / "smoke.yaml"
    done = CliRunner().invoke(command, ["--config", str(config), "--root", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "No record yet" in (tmp_path / "report" / "records.html").read_text()
    assert "parts missing" in (tmp_path / "report" / "index.html").read_text()


def test_files_are_the_same_every_time(unfinished):
    config, root = unfinished
    before = {
        path: path.read_bytes()
        for folder in ("tables", "figures", "report")
        for path in (root / folder).rglob("*")
        if path.is_file()
    }
    build.build(config, root)
    assert [path.name for path, text in before.items() if path.read_bytes() != text] == []


def test_the_sidecar_names_records_that_exist(made):
    root = made[1]
    sidecar = json.loads((root / "tables" / "main.sources.json").read_text())
    assert all(
        (root / path).is_file() for row in sidecar["rows"].values() for c in row.values() for path in c["records"]
    )


def test_latex_is_escaped():
    assert formats.latex_escape(r"50% of a_b & {x} \ ± √ 漢") == (
        r"50\% of a\_b \& \{x\} \textbackslash{} $\pm$ $\surd$ [U+6F22]"
    )


@pytest.mark.tex
def test_latex_compiles(made, tmp_path):
    _, root = made
    inputs = "\n".join(path.read_text() for path in sorted((root / "tables").glob("*.tex")))
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n" + inputs + "\\end{document}\n"
    )
    done = subprocess.run(
        [shutil.which("pdflatex"), "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_table_of_released_weights_names_the_baselines_that_have_none(tmp_path):
    config = load_configuration(Path(__file__).resolve().parents[2] / "config" / "imagenet.yaml")
    caption = tables.main(results.load(config, tmp_path)).caption
    assert "LGQ (its authors released code but no weights)" in caption
    assert "FSQ" in caption and "MAGVIT-v2" in caption


def _view(run):
    loaded_run = results.load(*run)
    return loaded_run.views[0]


def test_a_papers_table_keeps_its_order_and_marks_what_is_not_comparable(finished):
    table = papers.reconstruction(_view(finished))
    printed = [row.key for row in table.rows if row.printed]
    assert printed[:3] == ["sdxl-vae", "bsq, K = 262,144", "bsq-ema, K = 262,144"]
    assert table.rows[0].key == "identity" and table.rows[0].group == papers.CEILING
    row = _csv(table)["bsq, K = 262,144"]
    assert float(row["psnr_published"]) == 24.79
    assert float(row["psnr_difference"]) == pytest.approx(float(row["psnr"]) - 24.79)
    assert "64 px, in print 256 px" in row["psnr_not_comparable"]
    assert "images of bundled-photographs, in print imagenet-val" in row["psnr_not_comparable"]
    assert "\N{DAGGER}" in formats.to_markdown(table) and r"$^\dagger$" in formats.to_latex(table)


def test_heads_stand_beside_table_nine(finished):
    rows = _csv(papers.heads(_view(finished)))
    assert rows["full cross-entropy 196560-way, K = 196,560"]["ours"] == "direct"
    assert rows["factorised 24 x 9-way, K = 196,560"]["ours"] == "factorised"


def test_the_oracle_stands_beside_the_printed_one(finished):
    rows = _csv(papers.generation(_view(finished)))
    assert rows["validation-oracle"]["ours"] == "validation images"
    assert rows["validation-oracle"]["gfid_published"] == "1.78"


def test_use_holds_the_ratio_of_frequencies(finished):
    view = _view(finished)
    row = _csv(papers.use(view))["leech-published, K = 196,560"]
    values = view.entry("leech-published").sources["codebook"][0].record.values
    assert float(row["frequency_ratio"]) == pytest.approx(values["max_frequency"].value / values["min_frequency"].value)
    assert float(row["frequency_ratio_published"]) == 37


def test_suites_keep_their_rows_and_data_apart(tmp_path):
    config = configuration(suites=THREE)
    loaded_run = results.load(config, fill(tmp_path, config))
    tables_ = {table.name: table for table in build.all_tables(loaded_run)}
    assert {row.key for row in tables_["table-8-main"].rows} == {s.name for s in config.suite("table-8").subjects}
    assert loaded_run.views[0].data["size"] == 64 and loaded_run.views[2].data["size"] == 192


def test_stability_counts_divergence_and_spikes(finished):
    rows = {row.key: row.fields for row in stability.table(_view(finished)).rows}
    assert rows["generator plain"]["diverged"] == 1 and rows["generator direct"]["diverged"] == 0
    assert rows["generator plain"]["above_first"] > 0.03 > rows["generator direct"]["above_first"]
    assert rows["generator plain"]["largest_norm"] > 10 * rows["generator direct"]["largest_norm"]
    assert rows["vq"]["seeds"] == 2 and rows["vq"]["last_loss"] < rows["vq"]["first_loss"]


def test_a_training_that_stopped_at_once_is_counted(tmp_path):
    config = configuration([*SOME, "leech-published"], generators=True)
    root = fill(tmp_path, config)
    (plain,) = (one for one in config.generators() if one.name == "plain")
    for path in (root / "generators").glob("plain-*/seed*/log.parquet"):
        path.unlink()
    view = _view((config, root))
    (entry,) = (one for one in view.generators if one.id == plain.id)
    assert stability.stopped(entry) == set(plain.seeds)
    row = next(row for row in stability.table(view).rows if row.key == "generator plain")
    assert row.fields == {"seeds": len(plain.seeds), "diverged": len(plain.seeds)}
    assert formats.field(row.fields.get("last_loss")) == formats.EMPTY


def test_every_column_name_is_documented():
    page = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text()
    block = page.partition("<!-- columns: begin")[2].partition("-->")[2].partition("<!-- columns: end -->")[0]
    assert block.strip() == formats.column_names().strip(), (
        "paste the text of formats.column_names() into docs/report.md"
    )


def test_the_report_imports_no_torch(tmp_path):
    config = Path(__file__).resolve().parents[2] / "config" / "smoke.yaml"
    script = (
        "import sys\nfrom evaluation.report import build\nfrom latticebench import configuration\n"
        f"build.build(configuration.load({str(config)!r}, methods=False), {str(tmp_path)!r})\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_processes_draw_what_one_does(made, tmp_path):
    tasks = [(view, plan) for view in results.load(*made).views for plan in figures.SUITE[:3]]
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    with figures.drawing(tasks, tmp_path / "two", 2) as two, figures.drawing(tasks, tmp_path / "one") as one:
        assert list(two) == list(one)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
