import os
import shlex
import signal
import sys
from pathlib import Path

from latticebench import (
    commands,
    configuration,
    integrity,
    joblist,
    launch,
    locks,
    order,
    slurm,
    warm,
)
from latticebench.commands import SCHEDULER
from latticebench.configuration import parse_seeds
from latticebench.errors import LatticebenchError

# Only the first file counts: merging configurations would mix their quantizers.
CONFIG_FILE = str((workflow.configfiles or ["config/embedded.yaml"])[0])
try:
    CONFIG = configuration.load(CONFIG_FILE, methods=workflow.is_main_process)
    # `--config suite=NAME` makes that suite's targets alone.
    CHOSEN = (
        CONFIG.suite(str(config["suite"])).subjects
        if "suite" in config
        else CONFIG.subjects()
    )
except LatticebenchError as error:
    raise WorkflowError(str(error))
if workflow.is_main_process:
    os.environ[configuration.CHECKED] = configuration.fingerprint(CONFIG_FILE)

ROOT = f"results/{CONFIG.name}"
# Before Snakemake looks at what is there: damaged files are set aside, so that it makes them again. A dry run only
# names them. `--summary` and its like are not told from a run here: Snakemake decides about them after this.
if workflow.is_main_process:
    for line in integrity.sweep(ROOT, act=not workflow.output_settings.dryrun):
        print(f"warning: {line}", file=sys.stderr)
DATA = f"{ROOT}/data/{CONFIG.data_hash}"  # the top level's; subjects of suites may have others
JOBS = CONFIG.values["jobs"]
# The interpreter that runs Snakemake runs the jobs, whatever the shell's PATH says. `exec` makes the
# job a direct child, so that it ends with the scheduler (latticebench/commands.py). On this machine it
# is forked from the run's warm process (latticebench/warm), elsewhere it is `python -m` of the same words.
RUN = f"{SCHEDULER}={os.getpid()} exec {shlex.join(warm.command())}"
ALONE = f"{SCHEDULER}={os.getpid()} exec {shlex.join([sys.executable, '-m'])}"

TRAINING_RULES = ("tokenizer", "generator")
# Trainings on several devices are started through it, once.
LAUNCH = launch.prefix(JOBS)
# SLURM sends SIGUSR1 to all processes of a job before its time limit. Only trainings act on it; where it
# ended the Snakemake inside the job, the cluster would end the training before its checkpoint is written.
if not workflow.is_main_process:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


wildcard_constraints:
    seeds=r"\d+(-\d+)?",
    subject="[a-z0-9-]+",
    data="[0-9a-f]{8}",


def data_of(wildcards):
    """The folder of the prepared data of a subject."""
    return f"{ROOT}/data/{CONFIG.subject(wildcards.subject).data_hash}"


def made(stage):
    """The manifests of a stage that has one job a subject and group of seeds."""
    return [
        f"{ROOT}/records/{subject.id}/{stage}-{seeds}.json"
        for subject in CHOSEN
        for seeds in CONFIG.seed_groups(subject)
    ]


def priority(stage):
    """Which subject's job of a stage goes first."""
    return lambda wildcards: order.priority(
        CONFIG,
        CONFIG.subject(wildcards.subject),
        stage,
        len(parse_seeds(wildcards.seeds)),
    )


def codecs():
    """The manifest of the classical codecs, which code the top level's data: where a chosen subject has those."""
    used = any(subject.data_hash == CONFIG.data_hash for subject in CHOSEN)
    return [f"{ROOT}/records/codecs/made.json"] if used else []


def limit_retries():
    """Leaves the profile's `retries` to the trainings, which go on from their checkpoint; others get two at most.

    As a rule's own `retries` they would hold inside a cluster's job too, and a job that was warned of its
    time limit would start again in the same allocation.
    """
    for one in workflow.rules:
        if one.name not in TRAINING_RULES:
            one.restart_times = min(2, workflow.execution_settings.retries)


def check_cluster():
    """Raises WorkflowError on what would keep SLURM from starting a job, before the first one is sent."""
    jobs = {
        job.rule.name: job for job in workflow.dag.needrun_jobs() if not job.is_local
    }
    settings = workflow.executor_settings
    try:
        slurm.check(
            [
                slurm.request(name, job.resources, job.threads)
                for name, job in jobs.items()
            ],
            settings.no_account,
            settings.status_command,
            settings.init_seconds_before_status_checks,
        )
    except LatticebenchError as error:
        raise WorkflowError(str(error))


onstart:
    global lock, jobs_server  # held until this process ends
    jobs = [
        joblist.Job(
            job.rule.name,
            ", ".join(job.wildcards) or job.rule.name,
            str(job.output[0]),
            str(job.log[0]) if job.log else None,
        )
        for job in workflow.dag.jobs
        if job.output
    ]
    try:
        lock = locks.hold(f"{ROOT}/.lock", ROOT)
        joblist.write(Path(ROOT), jobs)
    except LatticebenchError as error:
        raise WorkflowError(str(error))
    except OSError as error:
        raise WorkflowError(
            commands.explain(error) or f"{ROOT} cannot be used: {error}"
        )
    limit_retries()
    jobs_server = (
        warm.start(JOBS["threads"]) if workflow.local_exec else warm.forget()
    )
    if workflow.executor_plugin.name == "slurm":
        check_cluster()


onsuccess:
    integrity.seal(ROOT)
    print(f"\nThe report is at {ROOT}/report/index.html")


onerror:
    integrity.seal(ROOT)
    print(
        f"\nSome jobs failed; their logs are under {ROOT}/logs. What is done stays done: the same command "
        f"goes on from there.\nA report of what there is: latticebench report {CONFIG_FILE}",
        file=sys.stderr,
    )
