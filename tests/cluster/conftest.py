from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import slurm


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """SLURM on two nodes of two GPUs; use it in tests marked `slurm`."""
    with slurm.running(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """The shipped profile with this cluster's values."""
    return slurm.profile(tmp_path)
