"""`latticebench new-quantizer NAME`: a working method file with its test and a configuration."""

import importlib.util
import keyword
import re
from pathlib import Path
from string import Template

import click

from latticebench.errors import BadInput

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@click.command()
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), help="Where the files go; default: here.")
def command(name: str, folder: Path) -> None:
    """Write a working, documented quantizer called NAME with its test, and say what to do next."""
    from latticebench.quantizers import available

    if not _NAME.fullmatch(name):
        raise BadInput(f"name {name!r}: lower-case letters, digits and single hyphens, starting with a letter")
    if name in available():
        raise BadInput(f"name {name!r} is taken by a method of this installation; choose another")
    paths = write(name, folder)
    project = Path(__file__).resolve().parents[2]
    click.echo("wrote " + ", ".join(map(str, paths)))
    click.echo("next:")
    click.echo(f"  python -m pytest {paths[1]}")
    click.echo(f"  latticebench check {paths[0]}")
    click.echo(f"  make -C {project} run CONFIG={paths[2].resolve()}")


def write(name: str, folder: Path) -> list[Path]:
    """Writes the method, its test and a configuration into `folder` and returns their paths.

    Raises BadInput where one exists already.
    """
    from evaluation.cli import _skeleton

    file = name.replace("-", "_")
    if keyword.iskeyword(file) or importlib.util.find_spec(file) is not None:
        raise BadInput(f"name {name!r}: {file}.py would hide an installed module or a keyword; choose another")
    words = {"name": name, "file": file, "Class": "".join(word.capitalize() for word in name.split("-"))}
    texts = {
        folder / f"{file}.py": _skeleton.QUANTIZER,
        folder / f"test_{file}.py": _skeleton.TEST,
        folder / f"{file}.yaml": _skeleton.CONFIGURATION,
    }
    present = [str(path) for path in texts if path.exists()]
    if present:
        raise BadInput(f"{', '.join(present)} exists already and is not overwritten; move it or choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(Template(text).substitute(words))
    return list(texts)
