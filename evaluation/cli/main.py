"""The `latticebench` command: one file a subcommand in this folder, each exposing `command`, imported when called."""

import importlib
import pkgutil
from typing import NoReturn

import click

from latticebench import commands

_PACKAGE = "evaluation.cli"


class Subcommands(click.Group):
    """Finds subcommands by scanning the package; `new_quantizer.py` is `latticebench new-quantizer`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all subcommands, sorted."""
        import evaluation.cli as package

        names = [module.name for module in pkgutil.iter_modules(package.__path__)]
        return sorted(name.replace("_", "-") for name in names if name != "main" and not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports one subcommand; None where there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        return importlib.import_module(f"{_PACKAGE}.{cmd_name.replace('-', '_')}").command


@click.group(cls=Subcommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="latticebench")
def latticebench() -> None:
    """A reproducible benchmark of the quantizers inside visual tokenizers.

    Exit codes: 0 done, 2 bad input, 3 missing weights or data, 1 anything else.
    """


def main() -> NoReturn:
    """The console script."""
    commands.run(latticebench, prog_name="latticebench")


if __name__ == "__main__":
    main()
