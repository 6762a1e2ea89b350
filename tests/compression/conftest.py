"""One thread: the coder's many small operations wait for each other on a busy machine otherwise."""

from collections.abc import Generator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Generator[None, None, None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
