"""The README's code runs, and the commands and files that it names exist."""

import re
from pathlib import Path

import click
import pytest

from evaluation.cli.main import latticebench

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "python"])
def test_python_blocks_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


def test_shell_blocks_name_real_commands() -> None:
    lines = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines()]
    used = {line.split()[1] for line in lines if line.startswith("latticebench ")}
    assert used
    assert used <= set(latticebench.list_commands(click.Context(latticebench)))
    targets = {line.split()[1] for line in lines if line.startswith("make ")}
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_links_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / link.split("#")[0]).exists()]
