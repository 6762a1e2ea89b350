"""What keeps SLURM from starting a job is said before the first one is sent, by the key to change."""

import dataclasses
import math
from collections.abc import Sequence

import pytest

from latticebench import slurm
from latticebench.errors import BadInput
from latticebench.slurm import Request

SINFO = "cpu|1-00:00:00|64000+|32|(null)|10\ngpu|2-00:00:00|500000|64|gpu:a100:4(S:0-1)|3\ngpu|2-00:00:00|500000|64|gpu:8|1\n"
CONFIG = "AccountingStorageType   = {}\nMinJobAge               = {} sec\n"
FITS = Request("tokenizer", "gpu", "project", 1440, 64000, 8, 8, 1)


def check(
    *requests: Request,
    no_account: bool = False,
    command: str = "sacct",
    storage: str = "accounting_storage/slurmdbd",
    age: int = 300,
    seconds: int = 20,
) -> None:
    def ask(line: Sequence[str]) -> str:
        return SINFO if line[0] == "sinfo" else CONFIG.format(storage, age)

    slurm.check(requests, no_account, command, seconds, ask)


def test_what_fits_passes() -> None:
    check(FITS, dataclasses.replace(FITS, rule="data", partition="cpu", gpus=0))
    check(dataclasses.replace(FITS, account=None), no_account=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"partition": "SET-ME"}, "set default-resources: slurm_partition to one of this cluster's: cpu, gpu"),
        ({"partition": None}, "set default-resources: slurm_partition to one of this cluster's: cpu, gpu"),
        ({"partition": "gpus"}, "rule tokenizer: slurm_partition is 'gpus'; this cluster has cpu, gpu"),
        ({"account": "SET-ME"}, "set default-resources: slurm_account to the account that pays"),
        ({"account": None}, "slurm-no-account: true"),
        ({"runtime": 3000}, "rule tokenizer asks for 3000 minutes, partition 'gpu' has at most 2880"),
        ({"mem_mb": 600_000}, r"at most 500000: its jobs would wait for ever. Change jobs\.mem_mb"),
        ({"threads": 65}, r"Change jobs\.threads"),
        ({"gpus": 9}, r"asks for 9 GPUs a node, partition 'gpu' has at most 8.*Change jobs\.gpus"),
        ({"partition": "cpu"}, "asks for 8 GPUs a node, partition 'cpu' has at most 0"),
        ({"nodes": 5}, r"Change jobs\.nodes"),
    ],
)
def test_a_site_s_value_or_a_limit_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check(dataclasses.replace(FITS, **change))


def test_a_status_command_that_answers_nothing_is_refused() -> None:
    with pytest.raises(BadInput, match="slurm-status-command is sacct, but this cluster keeps no accounts"):
        check(FITS, storage="accounting_storage/none")
    with pytest.raises(BadInput, match="forgets ended jobs after 30 s"):
        check(FITS, command="squeue", age=30)


def test_time_limits() -> None:
    assert slurm.minutes("infinite") == math.inf
    assert slurm.minutes("2-01:30:00") == 2970
    assert slurm.minutes("30:00") == 30


def test_a_job_s_resources_are_read() -> None:
    resources = {"slurm_partition": "gpu", "runtime": 60, "mem_mb": 100, "gres": "gpu:4", "nodes": 2}
    assert slurm.request("tokenizer", resources, 8) == Request("tokenizer", "gpu", None, 60, 100, 8, 4, 2)
    assert slurm.request("judge", {"slurm_partition": "gpu", "gpu": 1}, 1).gpus == 1
