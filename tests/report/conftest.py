"""A made-up run, and the report built from it, once a session."""

import pytest

from tests.report.synthetic import SOME, THREE, configuration, fill


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """(configuration, root) of a whole made-up run."""
    config = configuration([*SOME, "leech-published"], generators=True)
    return config, fill(tmp_path_factory.mktemp("finished"), config)


@pytest.fixture(scope="session")
def made(finished):
    """(configuration, root) with tables, figures and the site built."""
    from evaluation.report import build

    config, root = finished
    build.build(config, root)
    return config, root


@pytest.fixture(scope="session")
def unfinished(tmp_path_factory):
    """(configuration, root) of a run without `lgq`, whose training began; one record holds a script in a note."""
    from evaluation.report import build

    config = configuration(["identity", "vq", "lgq"])
    root = fill(tmp_path_factory.mktemp("unfinished"), config, skip=frozenset({"lgq"}))
    (root / "running" / config.subject("lgq").id / "seed0").mkdir(parents=True)
    path = next(root.glob("records/vq-*/seed0/reconstruction.json"))
    path.write_text(path.read_text().replace('"notes": []', '"notes": ["<script>alert(1)</script>"]'))
    build.build(config, root)
    return config, root


@pytest.fixture(scope="session")
def three(tmp_path_factory):
    """(configuration, root) of three suites of ten quantizers, built."""
    from evaluation.report import build

    config = configuration(suites=THREE, generators=True)
    root = fill(tmp_path_factory.mktemp("three"), config)
    build.build(config, root)
    return config, root
