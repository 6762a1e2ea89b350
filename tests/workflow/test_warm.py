"""A warm job is a plain job that started faster: exit code, surroundings, signals, and an end with its run."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from latticebench import warm
from latticebench.warm.client import SOCKET
from tests.workflow.runs import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked from a warm process on Linux alone")

JOB = "tests.workflow.warm_job"
PLAIN = [sys.executable, "-m", JOB]


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[bytes]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SOCKET, "")
        process = warm.start(1)
        assert process is not None
        path = Path(os.environ[SOCKET])
        yield process
        process.stdin.close()
        assert process.wait(60) == 0
        assert not path.exists()


@pytest.fixture
def environment(server: subprocess.Popen[bytes]) -> dict[str, str]:
    return {**os.environ, **warm.thread_variables(1)}


def run(line: list[str], environment: dict[str, str], **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        line, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200, **more
    )


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(pid: int) -> bool:
    """Whether a process has ended; one that waits to be collected by its parent has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def waiting(pid_file: Path, environment: dict[str, str], *more: str) -> tuple[subprocess.Popen[bytes], int]:
    """A client whose job has begun to wait, and the job's process id."""
    client = subprocess.Popen(warm.command(JOB, "wait", str(pid_file), *more), env=environment, cwd=ROOT)
    until(lambda: pid_file.is_file() and pid_file.read_text() != "")
    return client, int(pid_file.read_text())


@pytest.mark.parametrize(
    "words",
    [
        ["exit", "0"],
        ["exit", "1"],
        ["exit", "2"],
        ["exit", "3"],
        ["say", "a reason"],
        ["raise", "a message"],
        ["kill", "9"],
        ["kill", "15"],
    ],
    ids="-".join,
)
def test_it_ends_as_a_plain_job_does(words: list[str], environment: dict[str, str]) -> None:
    mine, plain = run(warm.command(JOB, *words), environment), run([*PLAIN, *words], environment)
    assert mine.returncode == plain.returncode
    assert mine.stdout == plain.stdout
    assert mine.stderr.splitlines()[-1:] == plain.stderr.splitlines()[-1:]


def test_no_memory_for_a_library_is_told_as_that(environment: dict[str, str]) -> None:
    mine = run(warm.command(JOB, "raise", "lib.so: failed to map segment from shared object"), environment)
    assert mine.returncode == 1 and "Traceback" in mine.stderr
    assert mine.stderr.splitlines()[-1].startswith("error: out of memory (")


def test_it_sees_what_a_plain_job_sees(environment: dict[str, str]) -> None:
    environment |= {"WORDS": "with spaces\nand ü", "EMPTY": ""}
    words = ["state", "ä", "", "a b"]
    mine = run(warm.command(JOB, *words), environment, input="typed")
    plain = run([*PLAIN, *words], environment, input="typed")
    assert json.loads(mine.stdout) == json.loads(plain.stdout)


def test_it_is_forked_from_the_server(server: subprocess.Popen[bytes], environment: dict[str, str]) -> None:
    assert int(run(warm.command(JOB, "parent"), environment).stdout) == server.pid


@pytest.mark.parametrize("change", [{"OMP_NUM_THREADS": "2"}, {SOCKET: "/nowhere/jobs"}, {SOCKET: ""}])
def test_what_cannot_be_forked_starts_plainly(change: dict[str, str], environment: dict[str, str]) -> None:
    assert int(run(warm.command(JOB, "parent"), environment | change).stdout) == os.getpid()


def test_it_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(warm.SWITCH, "0")
    assert warm.start(1) is None


AHEAD = """
import os, subprocess, sys
from latticebench import warm
if sys.argv[1] == "before":
    warm.start_ahead(1)
    os.execv(sys.executable, [sys.executable, __file__, "after"])
server = warm.start(1)
job = subprocess.run(
    warm.command("tests.workflow.warm_job", "parent"),
    env={**os.environ, **warm.thread_variables(1)},
    stdout=subprocess.PIPE,
    text=True,
    check=True,
)
print(job.stdout.strip(), os.getpid(), server)
"""


def test_one_started_ahead_serves_the_command_that_follows(tmp_path: Path) -> None:
    script = tmp_path / "ahead.py"
    script.write_text(AHEAD)
    environment = {**os.environ, SOCKET: "", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    parent, command, server = run([sys.executable, str(script), "before"], environment).stdout.split()
    assert server == "None" and parent != command
    until(lambda: not list(tmp_path.glob("latticebench-*")))  # the server has ended with the command


@pytest.mark.parametrize("ahead", ["{process} 2", "1 1", ""])
def test_one_for_other_threads_or_another_process_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: str
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(warm.subprocess, "Popen", lambda line, **_: started.append(line))
    monkeypatch.setenv(warm.AHEAD, ahead.format(process=os.getpid()))
    monkeypatch.setenv(SOCKET, "")
    warm.start(1)
    assert len(started) == 1


def test_jobs_elsewhere_do_not_look_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SOCKET, "/tmp/jobs")
    warm.forget()
    assert SOCKET not in os.environ


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_are_passed_on(number: int, tmp_path: Path, environment: dict[str, str]) -> None:
    client, _ = waiting(tmp_path / "pid", environment, str(int(number)))
    client.send_signal(number)
    assert client.wait(60) == 50 + number


def test_it_ends_with_its_client(tmp_path: Path, environment: dict[str, str]) -> None:
    client, job = waiting(tmp_path / "pid", environment)
    client.kill()
    until(lambda: ended(job))


def test_all_end_with_the_scheduler(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\nfrom latticebench import warm\n"
        "server = warm.start(1)\nprint(server.pid, flush=True)\n"
        f"subprocess.Popen(warm.command({JOB!r}, 'wait', {str(tmp_path / 'pid')!r}),"
        " env={**__import__('os').environ, **warm.thread_variables(1)})\ntime.sleep(300)"
    )
    scheduler = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    server = int(scheduler.stdout.readline())
    until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text() != "")
    scheduler.kill()
    until(lambda: ended(server) and ended(int((tmp_path / "pid").read_text())))
    assert not list(tmp_path.glob("latticebench-*")), "the server's folder is left behind"


def test_a_server_that_dies_takes_its_jobs_along_and_later_ones_start_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SOCKET, "")
    environment = {**os.environ, **warm.thread_variables(1), "TMPDIR": str(tmp_path)}
    server = warm.start(1, environment)
    environment[SOCKET] = os.environ[SOCKET]
    client, job = waiting(tmp_path / "pid", environment)
    server.kill()
    assert client.wait(60) == 1
    until(lambda: ended(job))
    assert int(run(warm.command(JOB, "parent"), environment).stdout) == os.getpid()
    server.wait()
    server.stdin.close()
