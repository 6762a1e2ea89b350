"""The container recipes name files that are there and install the locked packages; building them needs a network."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCKER = (ROOT / "containers" / "Dockerfile").read_text()
APPTAINER = (ROOT / "containers" / "apptainer.def").read_text()


def sections(text: str) -> dict[str, list[str]]:
    """The header and the %sections of an Apptainer definition, without comments."""
    result: dict[str, list[str]] = {"header": []}
    name = "header"
    for line in map(str.strip, text.splitlines()):
        if line.startswith("%"):
            name = line[1:]
            assert name not in result, f"%{name} twice"
            result[name] = []
        elif line and not line.startswith("#"):
            result[name].append(line)
    return result


def test_the_docker_recipe_copies_files_that_exist() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", DOCKER, re.MULTILINE)
    assert copied
    assert all((ROOT / name).exists() for line in copied for name in line.split())


def test_the_apptainer_recipe_holds_all_that_a_run_needs() -> None:
    parts = sections(APPTAINER)
    assert set(parts) == {"header", "files", "post", "environment", "runscript", "test", "labels"}
    pairs = [line.split() for line in parts["files"]]
    assert all((ROOT / source).exists() and target == f"/src/{source}" for source, target in pairs)
    needed = {
        "Snakefile",
        "workflow",
        "profiles",
        "config",
        "latticebench",
        "evaluation",
        "checkpoints",
        "pyproject.toml",
    }
    assert needed <= {source for source, _ in pairs}


def test_both_start_from_one_image_and_install_the_lock_file_with_its_hashes() -> None:
    (base,) = re.findall(r"^FROM (\S+)$", DOCKER, re.MULTILINE)
    assert f"From: {base}" in sections(APPTAINER)["header"]
    for text in (DOCKER.replace("\\\n", " "), APPTAINER):
        installs = re.findall(r"pip install[^&\n]*", text)
        assert len(installs) == 3
        assert all("--require-hashes" in line or "--no-deps -e ." in line for line in installs), installs
        assert {lock for line in installs for lock in re.findall(r"-r (\S+)", line)} == {
            "requirements-uv.lock",
            "requirements.lock",
        }
