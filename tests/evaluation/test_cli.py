"""The `latticebench` command: discovery, help, exit codes."""

import importlib.metadata
import subprocess
import sys

from click.testing import CliRunner

from evaluation.cli.main import latticebench
from latticebench.errors import Missing


def test_every_file_is_a_subcommand_with_help():
    result = CliRunner().invoke(latticebench, ["--help"])
    assert result.exit_code == 0
    names = latticebench.list_commands(None)
    assert {"config", "data"} <= set(names)
    for name in names:
        assert latticebench.get_command(None, name).help, f"{name} has no help text"
        assert name in result.output


def test_unknown_subcommands_are_bad_input():
    assert CliRunner().invoke(latticebench, ["nonsense"]).exit_code == 2


def test_errors_reach_the_wrapper(tmp_path):
    result = CliRunner().invoke(latticebench, ["data", str(tmp_path)])
    assert isinstance(result.exception, Missing)


def test_the_console_script_points_here():
    entry = next(e for e in importlib.metadata.entry_points(group="console_scripts") if e.name == "latticebench")
    assert entry.value == "evaluation.cli.main:main"


def test_naming_no_subcommand_imports_no_torch():
    code = "import sys, evaluation.cli.main as m; m.latticebench.list_commands(None); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
