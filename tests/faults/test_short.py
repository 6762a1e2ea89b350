"""Six faults, one of each family; `python -m tests.faults.long` injects them all."""

import sys

import pytest

from tests.faults.long import inject
from tests.faults.workspace import Unavailable, Workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform != "linux", reason="faults are injected through /proc and mounts of Linux"),
]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("faults"))
    workspace.prepare()
    return workspace


@pytest.mark.parametrize(
    "kind",
    [
        "SIGKILL of a job",
        "SIGKILL of the scheduler",
        pytest.param("full disk", marks=pytest.mark.mount),
        "damaged prepared pixels",
        "damaged weights",
        "damaged record",
    ],
)
def test_nothing_is_lost(work: Workspace, kind: str) -> None:
    try:
        outcome = inject(work, kind, kind.replace(" ", "-"))
    except Unavailable as error:
        pytest.skip(str(error))
    assert outcome.shown, "the fault did not hit"
    assert not outcome.wrong
