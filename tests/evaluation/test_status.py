"""How far a run is, from a folder as runs leave it."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluation import status
from evaluation.cli.main import latticebench
from latticebench import joblist, locks
from latticebench.errors import BadInput, Missing
from latticebench.joblist import Job

NOW = 1_800_000_000.0
BAR = "vq seed 0:  {}%|████      | {}/100 [00:30<01:00,  1.1step/s]"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that began 1000 s ago: of tokenizers one is done, one runs, two stopped, one waits; no judge has ended."""
    monkeypatch.setattr(joblist.time, "time", lambda: NOW - 1000)
    folder = tmp_path / "results" / "mine"
    names = ["done", "runs", "warned", "broken", "waits", "old"]
    jobs = [Job("tokenizer", name, f"{folder}/{name}.json", f"{folder}/logs/{name}.log") for name in names]
    joblist.write(folder, [*jobs, Job("judge", "runs", f"{folder}/judged.json", f"{folder}/logs/judged.log")])

    def log(name: str, start: float, end: float, text: str) -> None:
        path = folder / "logs" / f"{name}.log"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"started {datetime.fromtimestamp(start, UTC):%Y-%m-%dT%H:%M:%SZ} process 7 on node7\n{text}")
        os.utime(path, (end, end))

    log("done", NOW - 900, NOW - 700, "all well\n")
    (folder / "done.json").touch()
    os.utime(folder / "done.json", (NOW - 700, NOW - 700))
    log("runs", NOW - 90, NOW - 5, "\r".join(BAR.format(n, n) for n in (10, 33)))
    log(
        "warned", NOW - 90, NOW - 50, "error: warned seed 0: stopped by SIGUSR1 at step 50 of 100; run again to go on\n"
    )
    log("broken", NOW - 90, NOW - 50, 'Traceback (most recent call last):\n  File "x.py"\nValueError: no such thing\n')
    log("old", NOW - 9000, NOW - 8000, "error: of a run before this one\n")
    monkeypatch.undo()
    return folder


def states(root: Path) -> dict[str, str]:
    return {f"{r.job.rule} {r.job.name}": r.state for r in status.status(root, now=NOW).reports}


def test_a_living_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with locks.hold(root / ".lock", "the folder"):
        os.utime(root / ".lock", (NOW - 3, NOW - 3))
        found = status.status(root, now=NOW)
        assert found.owner.pid == os.getpid()
        assert states(root) == {
            "tokenizer done": "done",
            "tokenizer runs": "running",
            "tokenizer warned": "interrupted",
            "tokenizer broken": "failed",
            "tokenizer waits": "waiting",
            "tokenizer old": "waiting",
            "judge runs": "waiting",
        }
    (running,) = found.of("running")
    assert (running.percent, running.left, running.where) == (33, 60, "process 7 on node7")
    assert running.seconds == 90 and running.silent == 5
    assert found.of("failed")[0].lines[-1] == "ValueError: no such thing"
    # Tokenizers take 200 s as the one that ended did: a minute of the running one, and four that have to start.
    assert found.work == 60 + 4 * 200
    assert found.hours == found.work / 3600
    assert found.unknown == ("judge",)


def test_a_run_that_nobody_runs(root: Path) -> None:
    found = status.status(root, now=NOW)
    assert found.owner is None and found.hours is None
    assert states(root)["tokenizer runs"] == "interrupted"


def test_the_command(root: Path) -> None:
    shown = CliRunner().invoke(latticebench, ["status", str(root)]).output
    assert "no workflow runs here now" in shown
    assert "ValueError: no such thing" in shown
    assert "no judge has ended yet" in shown


def test_a_configuration_means_its_results(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parents[1])
    file = Path("mine.yaml")
    file.write_text("name: mine\ndata: {source: bundled-photographs}\nquantizers: {none: {method: identity}}\n")
    shown = CliRunner().invoke(latticebench, ["status", str(file)]).output
    assert shown.startswith("results/mine: ") and "ValueError: no such thing" in shown


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="no workflow was started there"):
        status.status(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"began": 1, "jobs": [{"rule": "x"}]}'])
def test_a_damaged_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / joblist.FILE).write_text(text)
    with pytest.raises(BadInput, match="is damaged"):
        status.status(tmp_path)


def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<html>")
    result = CliRunner().invoke(latticebench, ["status", str(tmp_path / "page.html")])
    assert isinstance(result.exception, BadInput)
