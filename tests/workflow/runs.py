"""Runs of the real workflow in a folder of their own."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

from evaluation import records

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "config" / "smoke.yaml"


LOCAL = ROOT / "workflow" / "profiles" / "default"


def command(folder: Path, config: Path, *arguments: str, profile: Path = LOCAL) -> list[str]:
    """The command line that runs `config` with its results below `folder`."""
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return [*line, "--workflow-profile", str(profile), "--configfile", str(config), *arguments]


def snakemake(folder: Path, config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs to the end; stdout holds both streams."""
    return subprocess.run(
        command(folder, config, *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def start(folder: Path, config: Path, *arguments: str, profile: Path = LOCAL) -> subprocess.Popen[str]:
    """Starts a run as the leader of a process group of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    log = open(folder / "snakemake.log", "w")  # noqa: SIM115 (the child writes to it)
    return subprocess.Popen(
        command(folder, config, *arguments, profile=profile),
        stdout=log,
        stderr=log,
        text=True,
        start_new_session=True,
        env=os.environ,
    )


def results(folder: Path) -> dict[str, dict[str, object]]:
    """Every record below `folder`, without the fields that depend on the machine."""
    paths = sorted(path for path in folder.glob("results/*/records/**/*.json") if records.is_record(path))
    return {str(path.relative_to(folder)): records.read(path).comparable() for path in paths}


def outputs(folder: Path, config: Path, **values: str) -> dict[str, str]:
    """Every output that a run in `folder` would make, with its rule; in this process.

    values: what `--config` would say. Raises snakemake's WorkflowError where the command would stop.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

    folder.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    settings = ConfigSettings(config=values, configfiles=[config.resolve()])
    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            workflow = api.workflow(ResourceSettings(cores=1), settings, snakefile=ROOT / "Snakefile", workdir=folder)
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                workflow.dag().summary()
    finally:
        os.chdir(before)
    lines = [line.split("\t") for line in text.getvalue().splitlines() if "\t" in line]
    return {line[0]: line[lines[0].index("rule")] for line in lines[1:]}
