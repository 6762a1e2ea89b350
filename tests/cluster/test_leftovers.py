"""What a killed run of the SLURM tests leaves behind is cleared by the next; what is not theirs is never touched."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import slurm


def configuration(etc: Path, owner: int, cluster: str | None = None) -> None:
    etc.mkdir()
    values = {"host": "here", "folder": etc / "gone", "cpus": 1, "gpus": 1, "port": 1, "first": 2, "last": 3}
    (etc / "slurm.conf").write_text(slurm.CONFIG.format(owner=owner, cluster=cluster or slurm.CLUSTER, **values))
    for name in slurm.FILES[1:]:
        (etc / name).write_text("\n")


@pytest.fixture(autouse=True)
def nothing_else_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No daemon or job of this machine's is this module's to end."""
    monkeypatch.setattr(slurm, "MUNGE", tmp_path)
    monkeypatch.setattr(slurm, "CLUSTER", "latticebench-of-no-machine")


@pytest.fixture
def ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_killed_run_s_files_are_cleared(tmp_path: Path, ended: int) -> None:
    configuration(tmp_path / "etc", ended)
    (tmp_path / "etc" / "plugstack.conf").write_text("the package's\n")
    slurm.clear_leftovers(tmp_path / "etc")
    assert [path.name for path in (tmp_path / "etc").iterdir()] == ["plugstack.conf"]


def test_nothing_there_is_nothing_to_do(tmp_path: Path) -> None:
    slurm.clear_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cluster", ["somebody-s", None])
def test_another_s_configuration_is_not_touched(tmp_path: Path, ended: int, cluster: str | None) -> None:
    configuration(tmp_path / "etc", ended, cluster)
    if cluster is None:
        (tmp_path / "etc" / "slurm.conf").unlink()
    before = {path.name: path.read_bytes() for path in (tmp_path / "etc").iterdir()}
    with pytest.raises(RuntimeError, match="will not touch it"):
        slurm.clear_leftovers(tmp_path / "etc")
    assert {path.name: path.read_bytes() for path in (tmp_path / "etc").iterdir()} == before


def test_a_run_that_goes_on_is_not_disturbed(tmp_path: Path) -> None:
    line = [sys.executable, "-c", "print(flush=True); input()", "pytest"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()  # the kernel shows a process's words a moment after it has started
        configuration(tmp_path / "etc", other.pid)
        with pytest.raises(RuntimeError, match="another run of these tests"):
            slurm.clear_leftovers(tmp_path / "etc")
        assert (tmp_path / "etc" / "slurm.conf").is_file()
        other.communicate(b"\n")
