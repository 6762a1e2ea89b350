"""How far a run is: read from its list of jobs, its outputs and its logs, without the scheduler's help."""

import collections
import dataclasses
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from latticebench import joblist, locks
from latticebench.commands import STARTED
from latticebench.joblist import Job

STATES = ("done", "running", "interrupted", "failed", "waiting")
_TAIL_BYTES = 16384
_BAR = re.compile(r"(\d+)%\|[^|]*\| *\S+/\S+ \[[\d:]+<([\d:]+|\?)")
_FAILED = re.compile(r"^(error: |Traceback \(most recent call last\)|\S*Error: |srun: error: )", re.MULTILINE)
_STOPPED = "stopped by SIG"


@dataclasses.dataclass(frozen=True)
class Report:
    """state: one of STATES. lines: the last ones of the log. where: "process … on …" of a job that was started.

    seconds: from its start to its end, or to now. left: seconds until the end of the progress bar that it shows.
    silent: seconds since the log was written to. None is unknown.
    """

    job: Job
    state: str
    log: Path | None = None
    lines: tuple[str, ...] = ()
    where: str | None = None
    seconds: float | None = None
    percent: int | None = None
    left: float | None = None
    silent: float | None = None


@dataclasses.dataclass(frozen=True)
class Status:
    """owner: who runs the workflow, None where nobody does. unknown: rules of which no job has ended yet.

    work: seconds of jobs that are left, those of `unknown` rules not counted; at_once: jobs running now.
    """

    began: float
    owner: locks.Owner | None
    reports: list[Report]
    work: float
    unknown: tuple[str, ...]

    def of(self, state: str) -> list[Report]:
        """The jobs in a state."""
        return [report for report in self.reports if report.state == state]

    @property
    def hours(self) -> float | None:
        """Hours left at the present rate: the work left, shared by as many jobs as run now. None where none does."""
        at_once = len(self.of("running"))
        return self.work / at_once / 3600 if at_once else None


def status(root: Path, lines: int = 3, now: float | None = None) -> Status:
    """Looks at the results folder `root`, keeping the last `lines` of logs. Raises Missing where no run was started."""
    now = time.time() if now is None else now
    made = joblist.read(root)
    owner = locks.living(root / ".lock", now)
    reports = [_report(root, job, made.began, owner is not None, lines, now) for job in made.jobs]
    ended = collections.defaultdict(list)
    for report in reports:
        if report.state == "done" and report.seconds is not None:
            ended[report.job.rule].append(report.seconds)
    usual = {rule: sum(seconds) / len(seconds) for rule, seconds in ended.items()}
    work, unknown = 0.0, set()
    for report in reports:
        if report.state == "done":
            continue
        left = report.left
        if left is None and report.job.rule in usual:
            spent = report.seconds if report.state == "running" and report.seconds is not None else 0.0
            left = max(0.0, usual[report.job.rule] - spent)
        if left is None:
            unknown.add(report.job.rule)
        work += left or 0.0
    return Status(made.began, owner, reports, work, tuple(sorted(unknown)))


def _report(root: Path, job: Job, began: float, alive: bool, lines: int, now: float) -> Report:
    output, log = root / job.output, None if job.log is None else root / job.log
    done = output.exists()
    if log is None or not log.is_file():
        return Report(job, "done" if done else "waiting", log)
    written = log.stat().st_mtime
    head, tail = _ends(log)
    start = _started(head)
    if done:
        seconds = None if start is None else max(0.0, output.stat().st_mtime - start[0])
        return Report(job, "done", log, (), start and start[1], seconds)
    if alive and written < began:  # of an earlier run; this one has not come to it yet
        return Report(job, "waiting", log)
    last = tuple(line for line in re.split(r"[\r\n]+", tail) if line.strip())[-lines:]
    failed = _FAILED.search(tail) is not None
    state = "running" if alive and not failed else "interrupted" if _STOPPED in tail or not failed else "failed"
    bars = _BAR.findall(tail)
    return Report(
        job,
        state,
        log,
        last,
        start and start[1],
        None if start is None else (now if state == "running" else written) - start[0],
        int(bars[-1][0]) if bars else None,
        _seconds(bars[-1][1]) if bars and state == "running" else None,
        now - written,
    )


def _ends(log: Path) -> tuple[str, str]:
    with open(log, "rb") as file:
        head = file.read(1024)
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return head.decode(errors="replace"), file.read().decode(errors="replace")


def _started(head: str) -> tuple[float, str] | None:
    """When and where, from the line that every job begins with."""
    match = re.search(rf"^{STARTED} (\S+) (.+)$", head, re.MULTILINE)
    if not match:
        return None
    return datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp(), match[2]


def _seconds(clock: str) -> float | None:
    """Of tqdm's [hours:]minutes:seconds; None for its question mark."""
    if clock == "?":
        return None
    total = 0
    for part in clock.split(":"):
        total = total * 60 + int(part)
    return float(total)
