"""Killed in the middle of training, the next run goes on and ends with the same values."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from tests.workflow.runs import SMOKE, results, snakemake, start


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_ends_with_the_values_of_an_unbroken_one(tmp_path: Path) -> None:
    values = yaml.safe_load(SMOKE.read_text())
    values["quantizers"] = {
        "vq-ema": {"method": "vq", "parameters": {"dim": 8, "codebook_size": 64, "update": "ema"}},
        "fsq": {"method": "fsq", "parameters": {"levels": [8, 8]}},
    }
    # Long enough for a running checkpoint, which is written every five seconds, on any machine.
    values["tokenizer"]["training"]["steps"] = 2500
    values["compression"], values["generators"] = {"codecs": ["webp"]}, {}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))

    unbroken = snakemake(tmp_path / "unbroken", config)
    assert unbroken.returncode == 0, unbroken.stdout

    broken = tmp_path / "broken"
    process = start(broken, config)
    deadline = time.monotonic() + 300
    while not list(broken.glob("results/*/running/*/seed*/*")) and time.monotonic() < deadline:
        assert process.poll() is None, (broken / "snakemake.log").read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(broken.glob("results/*/report/index.html")), "the run ended before it could be killed"

    resumed = snakemake(broken, config)
    assert resumed.returncode == 0, resumed.stdout
    resumed_from = [json.loads(path.read_text())["resumed_from"] for path in broken.glob("results/*/**/tokenizer.json")]
    assert any(step is not None and step > 0 for step in resumed_from), resumed_from
    expected = results(tmp_path / "unbroken")
    assert expected
    assert results(broken) == expected
