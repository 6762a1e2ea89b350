"""`latticebench status RUN`: what of a run is done, running and failed, and how long it will take."""

import collections
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from evaluation.status import Report, Status


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--lines", type=click.IntRange(0), default=3, show_default=True, help="Lines of each failed job's log.")
def command(run: Path, lines: int) -> None:
    """Say how far a RUN is: its jobs, the last lines of failed ones, the hours left.

    RUN is a results folder, or a configuration, which means results/<name>.
    """
    from evaluation.status import status
    from latticebench import configuration

    if run.is_file():
        run = Path("results") / configuration.load(run, methods=False).name
    click.echo(text(run, status(run, lines)))


def text(folder: Path, status: "Status") -> str:
    """The status as the command prints it."""
    from evaluation.status import STATES

    who = f"run by {status.owner}" if status.owner else "no workflow runs here now"
    parts = [f"{folder}: {who}", ""]
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for report in status.reports:
        counts[report.job.rule][report.state] += 1
        counts["all"][report.state] += 1
    counts["all"] = counts.pop("all")  # below the others
    width = max(len(rule) for rule in counts)
    parts.append(" " * width + "".join(f"{state:>13}" for state in STATES))
    parts += [f"{rule:<{width}}" + "".join(f"{counts[rule][state] or '':>13}" for state in STATES) for rule in counts]
    for state in ("running", "interrupted", "failed"):
        reports = status.of(state)
        parts += ["", f"{state}:"] if reports else []
        for report in reports:
            parts.append("  " + _line(report))
            parts += [f"      {line[-160:]}" for line in report.lines] if state != "running" else []
    return "\n".join([*parts, "", _left(status)])


def _line(report: "Report") -> str:
    facts = [
        report.where,
        None if report.percent is None else f"{report.percent}%",
        None if report.seconds is None else f"for {_time(report.seconds)}",
        f"log {report.log} silent for {_time(report.silent)}" if report.silent is not None else None,
    ]
    return f"{report.job.rule} {report.job.name}: " + ", ".join(fact for fact in facts if fact)


def _left(status: "Status") -> str:
    if len(status.of("done")) == len(status.reports):
        return "everything is done"
    at_once = len(status.of("running"))
    missing = f"; no {', '.join(status.unknown)} has ended yet, these are not counted" if status.unknown else ""
    if status.hours is None:
        return f"left: {_time(status.work)} of jobs{missing}; none runs now"
    return f"left: {_time(status.hours * 3600)} at the present rate of {at_once} jobs at once{missing}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
