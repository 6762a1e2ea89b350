"""Committed results: the records of a real run, the tables that follow from them, and the check that they do."""

import contextlib
import csv
import dataclasses
import filecmp
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from evaluation import records
from evaluation.report import build, claims, figures, formats, results, tables
from latticebench import configuration
from latticebench.configuration import Configuration
from latticebench.errors import BadInput, Missing
from latticebench.files import write_json

FIGURES = ("rate_distortion", "smallest_distance", "stability", "samples", "frontier", "over_training")
"""How their names end: a suite's begin with its own, and those of coded files with `coded`."""
GEOMETRY = "geometry"
ORIGIN = "origin.json"
_DEPENDED_ON = tuple(
    f"latticebench/{name}" for name in ("data", "generators", "lattices", "nn", "quantizers", "tokenizers", "training")
)
_PROJECT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Checked:
    """tables: how many follow from the records. older: records made by code that has changed since.

    unhashed: packages that results depend on and no record holds the hash of, so that their changes go unseen.
    """

    tables: int
    older: tuple[str, ...]
    unhashed: tuple[str, ...]


def keep(config: Configuration, root: Path, folder: Path) -> None:
    """Copies a finished run's configuration, records, tables and shown figures from `root` to `folder`.

    Raises Missing where the run is not finished: what is kept must be whole.
    """
    found = results.load(config, root)
    if found.gaps:
        gap = found.gaps[0]
        raise Missing(f"{root} is not finished: {gap.what} ({gap.why}); run `make run CONFIG={config.path}` first")
    with _replacing(folder) as new:
        shutil.copy(config.path, new / "configuration.yaml")
        for subject in (*config.subjects(), *config.generators()):
            shutil.copytree(root / "records" / subject.id, new / "records" / subject.id)
        for stage in (root / "records" / GEOMETRY, root / "records" / "codecs", *root.glob("records/oracle-*")):
            if stage.is_dir():
                shutil.copytree(stage, new / "records" / stage.name)
        # The table and the claim on stability are about the course of a training.
        for log in {v.log_path(entry, seed) for v in found.views for entry in v.generators for seed in entry.seeds}:
            (new / log).parent.mkdir(parents=True)
            shutil.copy(root / log, new / log)
        for table in build.all_tables(results.load(config, new)):
            formats.write(table, new / "tables")
        (new / "figures").mkdir()
        for path in (path for name in FIGURES for path in sorted((root / "figures").glob(f"*{name}.png"))):
            shutil.copy(path, new / "figures")
        _write_origin(new, None)


def keep_geometry(config: Configuration, root: Path, folder: Path) -> None:
    """The same for the geometry stage alone: its records, table and figure. Raises Missing where it has not run."""
    made = root / "records" / GEOMETRY / "made.json"
    if not made.is_file():
        command = f"python -m evaluation.geometry --config {config.path} --out {made.parent}"
        raise Missing(f"{made} does not exist: the geometry stage is not finished; run `{command}` first")
    with _replacing(folder) as new:
        shutil.copy(config.path, new / "configuration.yaml")
        shutil.copytree(made.parent, new / "records" / GEOMETRY)
        view = results.load(config, new)
        formats.write(tables.geometry(view), new / "tables")
        for drawing in figures.draw(view, new / "figures", figures.SHARED):
            if drawing.svg:
                (new / "figures" / f"{drawing.name}.svg").unlink()
        _write_origin(new, GEOMETRY)


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        new = Path(scratch) / folder.name
        new.mkdir()
        yield new
        if folder.exists():
            shutil.rmtree(folder)
        new.replace(folder)


def _write_origin(folder: Path, stage: str | None) -> None:
    write_json(folder / ORIGIN, {"commit": _commit(), "records": len(records.read_all(folder)), "stage": stage})


def check(folder: Path) -> Checked:
    """Builds the tables again from the records of `folder`. Raises BadInput naming the first that differs."""
    config = configuration.load(folder / "configuration.yaml")
    found = results.load(config, folder)
    alone = json.loads((folder / ORIGIN).read_text()).get("stage") == GEOMETRY
    count = 0
    with tempfile.TemporaryDirectory() as scratch:
        for table in [tables.geometry(found)] if alone else build.all_tables(found):
            for path in formats.write(table, scratch):
                kept = folder / "tables" / path.name
                if not kept.is_file() or not filecmp.cmp(path, kept, shallow=False):
                    raise BadInput(
                        f"{kept} does not follow from the records beside it; `latticebench reference` remakes it"
                    )
            count += 1
    older, hashed = _code(folder)
    unhashed = [name for name in _DEPENDED_ON if not any(key == name or key.startswith(f"{name}/") for key in hashed)]
    return Checked(count, tuple(older), tuple(unhashed))


def summary(folder: Path, suite: str = "") -> str:
    """A short Markdown table of kept results: fidelity, use of the codebook, nominal and coded rate.

    suite: one of a configuration that has several.
    """
    prefix = f"{suite}-" if suite else ""
    with (folder / "tables" / f"{prefix}main.csv").open(newline="") as file:
        main = list(csv.DictReader(file))
    with (folder / "tables" / f"{prefix}compression.csv").open(newline="") as file:
        coded = {row["quantizer"]: row for row in csv.DictReader(file)}
    lines = [
        "| quantizer | K | PSNR (dB) | SSIM | usage / uniform | nominal bpp | coded bpp, static prior |",
        "| :--- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in main:
        size = f"{int(row['K']):,}" if row["K"] else "—"
        cells = [row["quantizer"], size, _short(row, "psnr", 2), _short(row, "ssim", 3)]
        cells += [_short(row, "relative_usage", 2), _short(row, "nominal_bpp", 4, interval=False)]
        cells += [_short(coded[row["quantizer"]], "bpp_static", 3)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdicts(folders: Iterable[Path]) -> str:
    """Every tested claim as Markdown: what it says, where it is from, and what each folder's records say about it."""
    found = {folder.name: _verdicts(folder) for folder in folders}
    parts = []
    for claim in claims.CLAIMS:
        said = [f"- {name}: {line}" for name, lines in found.items() for line in lines.get(claim.key, ())]
        if said:
            parts.append("\n".join([f"**{claim.sentence}** ({claim.source})", "", *said]))
    return "\n\n".join(parts)


def _verdicts(folder: Path) -> dict[str, list[str]]:
    view = results.load(configuration.load(folder / "configuration.yaml"), folder)
    return {
        each.claim.key: [
            f"*{finding.verdict}*{f' ({title})' if title else ''}. {finding.text}"
            for title, finding in each.findings
            if finding.verdict != claims.UNTESTED
        ]
        for each in claims.check_all(view)
    }


def _short(row: dict[str, str], key: str, decimals: int, interval: bool = True) -> str:
    if not row[key]:
        return "—"
    text = f"{float(row[key]):.{decimals}f}"
    if interval and row[f"{key}_low"]:
        half = (float(row[f"{key}_high"]) - float(row[f"{key}_low"])) / 2
        text += f" ± {half:.{decimals}f}"
    return text


def _code(folder: Path) -> tuple[list[str], set[str]]:
    """The records whose code has changed since, and everything that some record holds the hash of."""
    older, hashed = [], set()
    for path in sorted(folder.glob("records/**/*.json")):
        if records.is_record(path):
            code = records.read(path).code
            hashed |= code.keys()
            if records.code_hashes(code) != code:
                older.append(str(path.relative_to(folder)))
    return older, hashed


def _commit() -> str:
    command = ["git", "-C", str(_PROJECT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown: not a git checkout"
