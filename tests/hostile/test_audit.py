"""What the audit says: nothing known, something known, nothing to be known."""

import json
import sys
from pathlib import Path

import pytest

from tests.hostile.audit import audit


def stand_in(folder: Path, body: str) -> list[str]:
    """A command that takes pip-audit's options."""
    path = folder / "pip_audit.py"
    path.write_text(f"import sys\nout = sys.argv[sys.argv.index('-o') + 1]\n{body}\n")
    return [sys.executable, str(path)]


@pytest.mark.parametrize(
    ("problems", "code", "words"),
    [
        ([], 0, "2 packages, 0 known vulnerabilities"),
        ([{"id": "PYSEC-1", "fix_versions": ["1.1"]}], 1, "a 1.0: PYSEC-1, fixed in 1.1"),
        ([{"id": "PYSEC-2", "fix_versions": []}], 1, "a 1.0: PYSEC-2, fixed in -"),
    ],
)
def test_what_is_found_is_listed(tmp_path: Path, problems: list[object], code: int, words: str) -> None:
    packages = [{"name": "a", "version": "1.0", "vulns": problems}, {"name": "b", "version": "2", "vulns": []}]
    text = json.dumps({"dependencies": packages})
    command = stand_in(tmp_path, f"open(out, 'w').write({text!r})\nsys.exit({code})")
    found, told = audit(tmp_path / "requirements.lock", command)
    assert found == code and words in told


@pytest.mark.parametrize("said", ["ERROR:pip_audit: a: Dependency not found on PyPI", ""])
def test_no_advisories_are_no_good_news(tmp_path: Path, said: str) -> None:
    command = stand_in(tmp_path, f"print({said!r}, file=sys.stderr)\nsys.exit(1)")
    code, told = audit(tmp_path / "requirements.lock", command)
    assert code == 3
    assert told.startswith("error: nothing is known about vulnerabilities") and said in told and "mirror" in told
