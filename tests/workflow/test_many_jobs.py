"""Planning stays quick where a configuration has hundreds of jobs."""

import re
import time
from pathlib import Path

import pytest
import yaml

from tests.workflow.runs import SMOKE, snakemake


@pytest.mark.slow
def test_dry_run_of_500_jobs(tmp_path: Path) -> None:
    values = yaml.safe_load(SMOKE.read_text())
    values["quantizers"] = {
        f"fsq-{i}": {"method": "fsq", "parameters": {"levels": [4 + i % 12, 4 + i // 12, 4]}} for i in range(170)
    }
    values["generators"] = {}
    values["compression"] = {"codecs": ["webp"]}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    before = time.monotonic()
    done = snakemake(tmp_path / "run", config, "--dry-run", "--quiet", "rules")
    seconds = time.monotonic() - before
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"^total +(\d+)$", done.stdout, re.MULTILINE)[1]) >= 500
    assert seconds < 20
