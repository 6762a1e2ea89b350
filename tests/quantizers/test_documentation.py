"""The page of quantizers is what the code says, and the command lists the registry."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from evaluation.cli.quantizers import command
from latticebench.quantizers import available, create, documentation, method

PAGE = Path(__file__).resolve().parents[2] / "docs" / "quantizers.md"


def test_page_is_what_the_code_says():
    assert PAGE.read_text() == documentation.page(), "run `latticebench quantizers --markdown > docs/quantizers.md`"


@pytest.mark.parametrize("name", available())
def test_every_parameter_has_a_meaning(name):
    rows = documentation.parameters(method(name))
    assert rows and [row.name for row in rows if not row.meaning] == []
    assert all("|" not in text for row in rows for text in row)


def test_page_shows_code_that_runs():
    code = documentation.INTRODUCTION.split("```python\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {})


def test_command_lists_the_registry():
    result = CliRunner().invoke(command)
    assert result.exit_code == 0
    for name in available():
        assert f"\n{name}\n" in "\n" + result.output
    assert "196,560 (17.5846 bits)" in result.output
    assert "arxiv.org/abs/2309.15505" in result.output
    assert CliRunner().invoke(command, ["--markdown"]).output == PAGE.read_text()


def test_sizes():
    assert documentation.size(create("fsq", levels=[8, 8, 8, 6, 5])) == "15,360 (13.9069 bits)"
    assert documentation.size(create("bsq", dim=64)) == "2^64 (64 bits)"
    assert documentation.size(create("identity")) == "none"
