"""The README's code runs, and the commands and files that it names exist."""

import csv
import re
import shlex
from pathlib import Path

import click
import pytest

from evaluation.cli.main import latticebench
from latticebench import configuration

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "python"])
def test_python_blocks_run(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


LINES = [shlex.split(line, comments=True) for kind, code in BLOCKS if kind == "sh" for line in code.splitlines()]


def test_shell_blocks_name_real_commands() -> None:
    lines = [line for language, code in BLOCKS if language == "sh" for line in code.splitlines()]
    used = {line.split()[1] for line in lines if line.startswith("latticebench ")}
    assert used
    assert used <= set(latticebench.list_commands(click.Context(latticebench)))
    targets = {line.split()[1] for line in lines if line.startswith("make ")}
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("words", [words for words in LINES if words[0] == "latticebench"], ids=" ".join)
def test_options_are_the_command_s_own(words: list[str]) -> None:
    command = latticebench.get_command(click.Context(latticebench), words[1])
    assert command is not None
    context = click.Context(command)
    given, rest, _ = command.make_parser(context).parse_args(words[2:])
    assert not rest
    for word in words:
        if word.startswith(("config/", "results/reference/")):
            assert (ROOT / word).is_file(), word
    if "suite" in given:
        config = configuration.load(ROOT / given["file"], methods=False)
        assert config.suite(given["suite"]).subjects


@pytest.mark.parametrize("words", [words for words in LINES if words[0] == "make" and len(words) > 2], ids=" ".join)
def test_make_is_given_what_is_there(words: list[str]) -> None:
    given = dict(word.split("=") for word in words[2:])
    assert given.keys() <= {"CONFIG", "SUITE"}
    config = configuration.load(ROOT / given["CONFIG"], methods=False)
    if "SUITE" in given:
        assert config.suite(given["SUITE"]).subjects


def test_the_cell_that_is_explained_is_in_the_committed_table() -> None:
    (words,) = [words for words in LINES if words[:2] == ["latticebench", "explain"]]
    path, options = words[2], dict(zip(words[3::2], words[4::2], strict=True))
    kept = ROOT / path.replace("results/", "results/reference/")
    rows = {row["quantizer"]: row for row in csv.DictReader(kept.read_text().splitlines())}
    assert rows[options["--row"]][options["--column"]]


def test_links_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / link.split("#")[0]).exists()]
