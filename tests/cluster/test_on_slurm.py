"""The workflow on a real SLURM with stand-in GPUs: whole, interrupted in every way, and on several devices."""

import collections
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from latticebench import configuration
from latticebench.training import starts
from tests.cluster import slurm
from tests.workflow.runs import SMOKE, results, snakemake, start

STEPS = 10000
"""Of the interrupted trainings: over a minute and a half each, side by side on two idle cores."""

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1500), pytest.mark.usefixtures("cluster")]


@contextmanager
def run(folder: Path, config: Path, profile: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A workflow on the cluster; what is left of it at the end of the block is ended."""
    process = start(folder, config, *arguments, profile=profile)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        slurm.command("scancel", "--user=root")


def log_of(folder: Path) -> str:
    return (folder / "snakemake.log").read_text()


def write(path: Path, **changes: Any) -> Path:
    """config/smoke.yaml with changes of top-level sections; other quantizers come without what names its own."""
    values = yaml.safe_load(SMOKE.read_text())
    if "quantizers" in changes:
        values["generators"] = {}
        values["compression"]["network"] = []
    path.write_text(yaml.safe_dump(values | changes))
    return path


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str], folder: Path, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, log_of(folder)
        assert time.monotonic() < end, log_of(folder)
        time.sleep(0.2)


def submissions(rule: str, since: int) -> dict[str, list[str]]:
    """The states of the SLURM jobs of each job of a rule, in their order, from job number `since` on."""
    found = collections.defaultdict(list)
    for number, state, comment in slurm.jobs():
        if int(number) >= since and comment.startswith(f"rule_{rule}_"):
            found[comment.removeprefix(f"rule_{rule}_wildcards_")].append(state)
    return found


def next_number() -> int:
    return max((int(number) for number, _, _ in slurm.jobs()), default=0) + 1


def test_smoke_end_to_end_each_job_on_a_gpu_of_its_own(tmp_path: Path, profile: Path) -> None:
    config, since = write(tmp_path / "config.yaml", jobs={"gpus": 1}), next_number()
    most_at_once, began = 0, time.monotonic()
    with run(tmp_path / "run", config, profile) as process:
        while process.poll() is None:
            held = slurm.devices()
            places = [place for job in held.values() for place in job]
            assert len(places) == len(set(places)), f"one GPU was given to two jobs: {held}"
            assert all(len(job) <= 1 for job in held.values()), held  # preparing and geometry ask for none
            most_at_once = max(most_at_once, len(places))
            time.sleep(0.5)
    seconds = time.monotonic() - began
    assert process.returncode == 0, log_of(tmp_path / "run")
    assert most_at_once >= 2
    assert (tmp_path / "run" / "results" / "smoke" / "report" / "index.html").is_file()
    trainings = submissions("tokenizer", since)
    assert len(trainings) == len(yaml.safe_load(SMOKE.read_text())["quantizers"])
    assert set(map(tuple, trainings.values())) == {("COMPLETED",)}
    assert seconds < 360, f"the workflow took {seconds:.0f} s"


def test_cancelled_out_of_time_and_off_a_lost_node_it_ends_with_the_same_values(tmp_path: Path) -> None:
    config = write(
        tmp_path / "config.yaml",
        quantizers={
            "vq-ema": {"method": "vq", "parameters": {"dim": 8, "codebook_size": 64, "update": "ema"}},
            "fsq": {"method": "fsq", "parameters": {"levels": [8, 8]}},
        },
        tokenizer={
            **{"patch": 8, "width": 16, "layers": 1, "heads": 2, "linear_path": True},
            "training": {"steps": STEPS, "batch_size": 8, "learning_rate": 0.002, "warmup_steps": 2},
        },
        compression={"codecs": ["webp"]},
        generators={},
        jobs={"gpus": 1, "runtime": 2},
    )
    local = snakemake(tmp_path / "local", config, "--resources", "gpu=2")
    assert local.returncode == 0, local.stdout

    folder, since = tmp_path / "run", next_number()
    profile = slurm.profile(
        tmp_path, **{"default-resources": {"slurm_partition": "main", "slurm_extra": "'--signal=USR1@30'"}}
    )
    ids = {subject.name: subject.id for subject in configuration.load(config).subjects()}
    running = folder / "results" / "smoke" / "running"

    def started(name: str) -> int:
        return len(starts.read(running / ids[name] / "seed0.starts"))

    def saved(name: str, after: int = 0) -> bool:
        """Whether start number `after` + 1 or a later one has begun, and a checkpoint lies there."""
        return started(name) > after and any((running / ids[name] / "seed0").glob("*"))

    def job_of(name: str) -> str:
        return next(
            number
            for number, state, comment in slurm.jobs()
            if state == "RUNNING" and comment == f"rule_tokenizer_wildcards_{ids[name]}_0"
        )

    with run(folder, config, profile) as process:
        wait_for(lambda: saved("vq-ema"), process, folder)
        slurm.command("scancel", job_of("vq-ema"))

        before = started("vq-ema")
        wait_for(lambda: saved("vq-ema", before), process, folder)
        node = slurm.command("squeue", "--noheader", "--format=%N", f"--jobs={job_of('vq-ema')}")
        slurm.command("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
        slurm.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        time.sleep(5)
        slurm.command("scontrol", "update", f"nodename={node}", "state=resume")

        process.wait(900)
    assert process.returncode == 0, log_of(folder)

    log = log_of(folder)
    assert "stopped by SIGUSR1" in log, "no training ran out of time"
    attempts = submissions("tokenizer", since)
    for name, identity in ids.items():
        states = attempts[f"{identity}_0"]
        assert states.count("COMPLETED") == 1 and states[-1] == "COMPLETED", states
        assert started(name) == len(states), (states, starts.read(running / identity / "seed0.starts"))
    states = {state for each in attempts.values() for state in each}
    assert {"COMPLETED", "CANCELLED", "FAILED", "NODE_FAIL"} <= states, attempts
    assert results(folder) == results(tmp_path / "local")


@pytest.mark.parametrize(("nodes", "gpus"), [(1, 2), (2, 1), (2, 2)])
def test_training_on_several_devices_starts_once_with_a_process_for_each(
    tmp_path: Path, profile: Path, nodes: int, gpus: int
) -> None:
    config = write(
        tmp_path / "config.yaml",
        quantizers={"fsq": {"method": "fsq", "parameters": {"levels": [8, 8]}}},
        jobs={"gpus": gpus, "nodes": nodes},
    )
    folder, since = tmp_path / "run", next_number()
    (subject,) = configuration.load(config).subjects()
    held: set[str] = set()
    with run(folder, config, profile, "--until", "tokenizer") as process:
        while process.poll() is None:
            held |= {place for job in slurm.devices().values() for place in job}
            time.sleep(0.3)
    assert process.returncode == 0, log_of(folder)
    (line,) = starts.read(folder / "results" / "smoke" / "running" / subject.id / "seed0.starts")
    assert re.search(rf", of {gpus * nodes}, SLURM job \d+$", line)
    assert submissions("tokenizer", since) == {f"{subject.id}_0": ["COMPLETED"]}
    assert len(held) == gpus * nodes and len({place.split("/")[0] for place in held}) == nodes, held


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"default-resources": {"slurm_partition": "SET-ME"}}, "set default-resources: slurm_partition to one of"),
        ({"slurm-status-command": "sacct"}, "set it to squeue"),
    ],
)
def test_nothing_is_sent_before_the_site_s_values_are_set(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    since = next_number()
    with run(tmp_path / "run", SMOKE, slurm.profile(tmp_path, **change)) as process:
        assert process.wait(120) != 0
    assert message in log_of(tmp_path / "run")
    assert next_number() == since
