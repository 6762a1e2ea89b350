"""Runs of the real workflow in a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path

from evaluation import records

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "config" / "smoke.yaml"


def command(folder: Path, config: Path, *arguments: str) -> list[str]:
    """The command line that runs `config` with its results below `folder`."""
    profile = ROOT / "workflow" / "profiles" / "default"
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return [*line, "--workflow-profile", str(profile), "--configfile", str(config), *arguments]


def snakemake(folder: Path, config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs to the end; stdout holds both streams."""
    return subprocess.run(
        command(folder, config, *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def start(folder: Path, config: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts a run as the leader of a process group of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    log = open(folder / "snakemake.log", "w")  # noqa: SIM115 (the child writes to it)
    return subprocess.Popen(
        command(folder, config, *arguments), stdout=log, stderr=log, text=True, start_new_session=True, env=os.environ
    )


def results(folder: Path) -> dict[str, dict[str, object]]:
    """Every record below `folder`, without the fields that depend on the machine."""
    paths = sorted(path for path in folder.glob("results/*/records/**/*.json") if not path.name.startswith("made"))
    return {str(path.relative_to(folder)): records.read(path).comparable() for path in paths}
