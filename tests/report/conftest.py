"""A made-up run, and the report built from it, once a session."""

import pytest

from tests.report.synthetic import SOME, configuration, fill


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """(configuration, root) of a whole made-up run."""
    config = configuration(SOME)
    return config, fill(tmp_path_factory.mktemp("finished"), config)


@pytest.fixture(scope="session")
def made(finished):
    """(configuration, root) with tables, figures and the page built."""
    from evaluation.report import build

    config, root = finished
    build.build(config, root)
    return config, root
