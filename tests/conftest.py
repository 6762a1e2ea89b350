"""What tests may need beyond the lock file, and when its absence is a failure.

A test marked `data`, `chromium`, `tex`, `slurm` or `mount` skips with a reason where that is absent. The
environment variable LATTICEBENCH_REQUIRE (comma-separated) turns such a skip into a failure: CI sets
it to what it installed, so that a broken installation cannot look like a passing suite.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("LATTICEBENCH_DATA", ROOT.parent / "shared" / "data"))
REQUIRED = {word for word in os.environ.get("LATTICEBENCH_REQUIRE", "").replace(" ", "").split(",") if word}


def _mounts() -> bool:
    """Whether this process may mount a tmpfs; a container's root often may not."""
    if os.geteuid() or shutil.which("mount") is None or shutil.which("umount") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", "--lazy", folder], check=True)
    return True


NEEDS = {
    "data": (DATA.is_dir(), "photographs for trying the suite: set LATTICEBENCH_DATA to their folder"),
    "chromium": (
        shutil.which("chromium") is not None and shutil.which("chromedriver") is not None,
        "Debian's packages chromium and chromium-driver",
    ),
    "tex": (shutil.which("pdflatex") is not None, "pdflatex with the package booktabs"),
    "slurm": (shutil.which("slurmctld") is not None and os.geteuid() == 0, "slurmctld and slurmd, run as root"),
    "mount": (_mounts(), "root, and a system that lets it mount a tmpfs"),
}


def pytest_configure(config: pytest.Config) -> None:
    unknown = REQUIRED - NEEDS.keys()
    if unknown:
        raise pytest.UsageError(f"LATTICEBENCH_REQUIRE names {sorted(unknown)}; known: {sorted(NEEDS)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for need, (there, what) in NEEDS.items():
            if item.get_closest_marker(need) and not there and need not in REQUIRED:
                item.add_marker(pytest.mark.skip(reason=f"needs {what}"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, object, None]:
    outcome = yield
    report = outcome.get_result()
    needed = REQUIRED & {marker.name for marker in item.iter_markers()}
    if report.skipped and needed and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although LATTICEBENCH_REQUIRE names {sorted(needed)}"


@pytest.fixture
def data_folder() -> Path:
    """The folder of photographs; use it in tests marked `data`."""
    return DATA
