import os
import sys

from latticebench import configuration, locks
from latticebench.commands import SCHEDULER
from latticebench.errors import LatticebenchError

# Only the first file counts: merging configurations would mix their quantizers.
CONFIG_FILE = str((workflow.configfiles or ["config/embedded.yaml"])[0])
try:
    CONFIG = configuration.load(CONFIG_FILE)
except LatticebenchError as error:
    raise WorkflowError(str(error))

ROOT = f"results/{CONFIG.name}"
DATA = f"{ROOT}/data/{CONFIG.data_hash}"
JOBS = CONFIG.values["jobs"]
# The interpreter that runs Snakemake runs the jobs, whatever the shell's PATH says. `exec` makes the
# job a direct child, so that it ends with the scheduler (latticebench/commands.py).
RUN = f"{SCHEDULER}={os.getpid()} exec {sys.executable} -m"


wildcard_constraints:
    seeds=r"\d+(-\d+)?",
    subject="[a-z0-9-]+",


def seed_groups(subject):
    """The seeds of a subject, as one job each trains them: "0-1", "2", …"""
    seeds, size = subject.seeds, JOBS["seeds_per_job"]
    groups = [seeds[start : start + size] for start in range(0, len(seeds), size)]
    return [
        str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}"
        for group in groups
    ]


def made(stage):
    """The manifests of a stage that has one job a subject and group of seeds."""
    return [
        f"{ROOT}/records/{subject.id}/{stage}-{seeds}.json"
        for subject in CONFIG.subjects()
        for seeds in seed_groups(subject)
    ]


onstart:
    global lock  # held until this process ends
    try:
        lock = locks.hold(f"{ROOT}/.lock", ROOT)
    except LatticebenchError as error:
        raise WorkflowError(str(error))


onsuccess:
    print(f"\nThe report is at {ROOT}/report/index.html")


onerror:
    print(
        f"\nSome jobs failed; their logs are under {ROOT}/logs. What is done stays done: the same command "
        f"goes on from there.\nA report of what there is: latticebench report {CONFIG_FILE}",
        file=sys.stderr,
    )
