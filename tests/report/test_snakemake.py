"""`snakemake --report` of the report's rule: figures and tables under their categories, with captions."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_PROJECT = Path(__file__).resolve().parents[2]
_SNAKEFILE = """
import sys
CONFIG_FILE, ROOT = "{config}", "results/smoke"
RUN, JOBS = sys.executable + " -m", {{"threads": 1}}
class CONFIG: values = {{"report": {{}}}}
def made(stage): return []
def generated(): return []
def codecs(): return []
include: "{rule}"
"""


@pytest.mark.slow
def test_figures_and_tables_are_in_snakemakes_report(tmp_path):
    records = tmp_path / "results" / "smoke" / "records"
    shutil.copytree(_PROJECT / "results" / "reference" / "embedded" / "records" / "geometry", records / "geometry")
    config = _PROJECT / "config" / "smoke.yaml"
    text = _SNAKEFILE.format(config=config, rule=_PROJECT / "workflow" / "rules" / "report.smk")
    (tmp_path / "Snakefile").write_text(text)
    base = [sys.executable, "-m", "snakemake", "results/smoke/report/index.html", "--cores", "1"]
    for arguments in ([], ["--report", "out.html"]):
        command = [*base, *arguments, "--configfile", str(config)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    page = (tmp_path / "out.html").read_text()
    for word in ("Figures", "Tables", "smallest_distance.png", "geometry.csv", "made from records"):
        assert word in page
