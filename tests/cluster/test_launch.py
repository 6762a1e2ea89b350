"""A training is started once for every device, whatever the cluster has."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from latticebench import launch
from latticebench.errors import LatticebenchError

TRAIN = launch.DISTRIBUTED[0]
ONE_NODE = {"SLURM_JOB_ID": "17", "OMP_NUM_THREADS": "8"}
STEP = {**ONE_NODE, "SLURM_STEP_ID": "2", "SLURM_NODEID": "1", "SLURM_STEP_NODELIST": "gpu[3-4]"}


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        ("scontrol", "show", "hostnames", "gpu[3-4]"): "gpu3\ngpu4\n",
        ("scontrol", "show", "node", "gpu3"): "NodeName=gpu3 Arch=x86_64\n   NodeAddr=10.0.0.3 NodeHostName=gpu3\n",
        ("scontrol", "show", "node", "gpu4"): "NodeName=gpu4 Arch=x86_64\n   NodeAddr=10.0.0.4 NodeHostName=gpu4\n",
    }
    monkeypatch.setattr(launch, "_ask", lambda *line: answers[line])


@pytest.mark.parametrize("gpus", [0, 1])
def test_one_device_is_one_plain_process(gpus: int) -> None:
    line, environment = launch.plan(gpus, 1, TRAIN, ("--seeds", "0"), ONE_NODE)
    assert line == [sys.executable, "-m", TRAIN, "--seeds", "0"]
    assert environment == ONE_NODE
    assert launch.prefix({"gpus": gpus, "nodes": 1}) == ""


def test_a_module_that_does_not_share_its_work_is_started_once() -> None:
    line, _ = launch.plan(8, 2, "latticebench.published.make", ("--seeds", "0"), ONE_NODE)
    assert line == [sys.executable, "-m", "latticebench.published.make", "--seeds", "0"]


def test_several_devices_of_a_node_are_one_torchrun() -> None:
    line, environment = launch.plan(4, 1, TRAIN, ("--seeds", "0"), ONE_NODE)
    assert line[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    assert "--max-restarts=0" in line
    assert line[-4:] == ["-m", TRAIN, "--seeds", "0"]
    assert environment["OMP_NUM_THREADS"] == "2"


def test_several_nodes_are_one_task_each() -> None:
    line, _ = launch.plan(4, 2, TRAIN, ("--seeds", "0"), ONE_NODE)
    assert line[:6] == [
        "srun",
        "--nodes=2",
        "--ntasks=2",
        "--ntasks-per-node=1",
        "--gpus-per-node=4",
        "--cpus-per-task=8",
    ]
    assert line[-5:] == ["--gpus=4", "--nodes=2", TRAIN, "--seeds", "0"]


def test_nodes_without_gpus_ask_for_none() -> None:
    line, _ = launch.plan(0, 2, TRAIN, (), ONE_NODE)
    assert not any(word.startswith("--gpus-per-node") for word in line)


@pytest.mark.usefixtures("two_nodes")
def test_the_tasks_meet_at_the_first_node() -> None:
    first, _ = launch.plan(4, 2, TRAIN, (), {**STEP, "SLURM_NODEID": "0"})
    second, _ = launch.plan(4, 2, TRAIN, (), STEP)
    assert "--rdzv-endpoint=10.0.0.3:20017" in first and "--rdzv-endpoint=10.0.0.3:20017" in second
    assert "--rdzv-id=17.2" in first and "--rdzv-id=17.2" in second
    assert "--rdzv-conf=is_host=1" in first and "--rdzv-conf=is_host=0" in second
    assert "--local-addr=10.0.0.4" in second


def test_several_nodes_without_slurm_are_refused() -> None:
    with pytest.raises(LatticebenchError, match=r"jobs\.nodes is 2"):
        launch.plan(1, 2, TRAIN, (), {})


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ({"gpus": 0, "nodes": 1}, {"gpu": 0}),
        ({"gpus": 8, "nodes": 1}, {"gpu": 8}),
        ({"gpus": 8, "nodes": 2}, {"nodes": 2, "mpi": "srun", "tasks": 2, "tasks_per_gpu": 0, "gres": "gpu:8"}),
        ({"gpus": 0, "nodes": 2}, {"nodes": 2, "mpi": "srun", "tasks": 2, "tasks_per_gpu": 0}),
    ],
)
def test_what_the_cluster_is_asked_for(jobs: dict[str, int], expected: dict[str, Any]) -> None:
    assert launch.resources(jobs) == expected


def test_the_command_becomes_the_module_with_its_options(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "latticebench.launch", "--gpus", "1", "--nodes", "1", "json.tool", "--indent", "1"]
    done = subprocess.run(line, input="{}", capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (0, "{}\n"), done.stderr
