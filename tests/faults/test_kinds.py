"""What the fault suite takes for a full disk that was told."""

from pathlib import Path

import pytest

from tests.faults.kinds import FULL, full_disk_told

CODE = "returned non-zero exit status 1."
BUS = "died with <Signals.SIGBUS: 7>."
NO_ROOM = "bash: line 1: logs/a.log: No space left on device\n"
STARTED = "started 2026-01-01T00:00:00Z process 1 on here\n"


def failed(name: str, how: str) -> str:
    return f"Command 'set -euo pipefail;  exec python -m x > logs/{name}.log 2>&1' {how}\n"


@pytest.mark.parametrize(
    ("message", "log", "told"),
    [
        (failed("a", CODE), f"{STARTED}error: the disk is full while writing a.npy", (FULL,)),
        (failed("a", CODE), f"{STARTED}OSError: [Errno 28] No space left on device", (FULL,)),
        (failed("a", BUS), STARTED, ("SIGBUS",)),
        (failed("a", CODE), "", (r"logs/a\.log",)),
        (NO_ROOM + failed("a", CODE), None, (FULL,)),
        ("OSError: [Errno 28] No space left on device: 'results/x'", None, (FULL,)),
    ],
)
def test_a_full_disk_is_told(tmp_path: Path, message: str, log: str | None, told: tuple[str, ...]) -> None:
    (tmp_path / "logs").mkdir()
    if log is not None:
        (tmp_path / "logs/a.log").write_text(log)
    assert full_disk_told(tmp_path, message) == told


@pytest.mark.parametrize(
    ("message", "log"),
    [
        (failed("a", CODE), f"{STARTED}KeyError: 'x'"),
        (failed("a", "died with <Signals.SIGSEGV: 11>."), STARTED),
        (failed("a", CODE), None),
        ("WorkflowError: something else", None),
        # Another job's words are not its own.
        (failed("b", CODE) + failed("a", CODE), f"{STARTED}KeyError: 'x'"),
    ],
)
def test_a_failure_without_the_words_is_a_failure_of_the_suite(tmp_path: Path, message: str, log: str | None) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/b.log").write_text("error: the disk is full")
    if log is not None:
        (tmp_path / "logs/a.log").write_text(log)
    with pytest.raises(AssertionError, match="does not say so"):
        full_disk_told(tmp_path, message)
