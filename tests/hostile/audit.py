"""`python -m tests.hostile.audit requirements.lock`: known vulnerabilities of locked dependencies, by pip-audit.

Exit codes: 0 none is known, 1 some are, 3 the advisories could not be read, so that nothing is known.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

PIP_AUDIT = ("tool", "run", "pip-audit")
"""uv's words for it: it is fetched for the occasion and is no dependency of the suite."""


def audit(lock: Path, command: Sequence[str]) -> tuple[int, str]:
    """The exit code and what to tell. command: starts pip-audit."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = ["--strict", "--require-hashes", "--disable-pip", "-r", str(lock), "-f", "json", "-o", str(report)]
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        if not report.is_file():
            said = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
            return 3, (
                f"error: nothing is known about vulnerabilities: the advisories could not be read ({said}). They are "
                "beside the packages in the public index's JSON pages, which a mirror or a proxy need not have; run "
                "this where the public index itself answers"
            )
        found = json.loads(report.read_text())["dependencies"]
    lines = [
        f"{package['name']} {package['version']}: {problem['id']}, fixed in {', '.join(problem['fix_versions']) or '-'}"
        for package in found
        for problem in package["vulns"]
    ]
    return int(bool(lines)), "\n".join([*lines, f"{len(found)} packages, {len(lines)} known vulnerabilities"])


@click.command()
@click.argument("lock", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--uv", default="uv", show_default=True, help="The uv that starts pip-audit.")
def main(lock: Path, uv: str) -> None:
    """Compare locked dependencies with the published advisories."""
    code, text = audit(lock, [uv, *PIP_AUDIT])
    click.echo(text, err=bool(code))
    sys.exit(code)


if __name__ == "__main__":
    main()
