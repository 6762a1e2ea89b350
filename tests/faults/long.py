"""`python -m tests.faults.long --faults 60 --seed 0`: the long form of the fault suite, with its summary table.

Every fault is followed by one undisturbed run, which must finish, say what it repaired, and leave the records of an
unbroken run in every field that does not depend on the machine.
"""

import dataclasses
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from tqdm import tqdm

from tests.faults.kinds import KINDS, PAIRED, Hit
from tests.faults.pair import Pair
from tests.faults.workspace import Unavailable, Workspace, logs

ATTEMPTS = 4
"""A fault that came too late to hit is tried again this often, at another moment."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """shown: how the fault hit, empty where it did not. wrong: what went wrong, empty where all was recovered."""

    kind: str
    seed: str
    shown: str
    wrong: str
    seconds: float


def inject(work: Workspace, kind: str, seed: str) -> Outcome:
    """One fault and its recovery. Raises Unavailable where this machine does not allow it."""
    start = time.monotonic()
    shown, wrong = "", ""
    for attempt in range(ATTEMPTS):
        draw = random.Random(f"{seed}/{attempt}")
        hit = KINDS[kind](work, f"{seed}-{attempt}", draw)
        try:
            if not hit.shown:
                continue
            shown, wrong = hit.shown, _recover(work, hit)
            break
        finally:
            hit.after()
    return Outcome(kind, seed, shown, wrong, time.monotonic() - start)


def _recover(work: Workspace, hit: Hit) -> str:
    before = "\n".join(path.read_text(errors="replace") for path in [*hit.folder.glob("run-*.log"), *logs(hit.folder)])
    run = work.run(hit.folder.name, hit.config)
    code = run.wait()
    text = before + run.text()
    if code:
        return f"the next run ended with {code}: …{run.log.read_text()[-1500:]}"
    if silent := [pattern for pattern in hit.said if not re.search(pattern, text)]:
        return f"nobody said {silent}"
    return work.difference(hit.folder)


def table(outcomes: list[Outcome]) -> str:
    """One line a kind: injected, hit, recovered; and the worst of it."""
    kinds = Counter(outcome.kind for outcome in outcomes)
    lines = [f"{'fault':42s} {'tried':>5s} {'hit':>5s} {'recovered':>9s} {'seconds':>8s}"]
    for kind, count in kinds.items():
        mine = [outcome for outcome in outcomes if outcome.kind == kind]
        hit = [outcome for outcome in mine if outcome.shown]
        good = [outcome for outcome in hit if not outcome.wrong]
        lines.append(f"{kind:42s} {count:5d} {len(hit):5d} {len(good):9d} {sum(o.seconds for o in mine):8.0f}")
    hit = [outcome for outcome in outcomes if outcome.shown]
    good = [outcome for outcome in hit if not outcome.wrong]
    lines.append(f"{'all':42s} {len(outcomes):5d} {len(hit):5d} {len(good):9d} {sum(o.seconds for o in outcomes):8.0f}")
    return "\n".join(lines)


def workspaces(base: Path, kinds: Sequence[str]) -> dict[str, Workspace]:
    """kind -> where it is injected, prepared."""
    made: dict[bool, Workspace] = {}
    for paired in sorted({kind in PAIRED for kind in kinds}):
        made[paired] = Pair(base / "pair") if paired else Workspace(base / "one")
        made[paired].prepare()
    return {kind: made[kind in PAIRED] for kind in kinds}


@click.command()
@click.option("--faults", default=60, show_default=True, help="How many to inject, the kinds in turn.")
@click.option("--seed", default=0, show_default=True, help="Of the moments and places.")
@click.option("--only", multiple=True, help="Kinds by a part of their name; default: all.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder that keeps every run; default: a temporary one.")
def main(faults: int, seed: int, only: tuple[str, ...], keep: Path | None) -> None:
    """Inject faults into the workflow at its smallest and show that nothing is lost."""
    kinds = [kind for kind in KINDS if not only or any(part in kind for part in only)]
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        base = keep or Path(temporary)
        base.mkdir(parents=True, exist_ok=True)
        works = workspaces(base.resolve(), kinds)
        outcomes: list[Outcome] = []
        absent: dict[str, str] = {}
        turn = 0
        with tqdm(total=faults, unit="fault") as progress:
            while len(outcomes) < faults and len(absent) < len(kinds):
                kind = kinds[turn % len(kinds)]
                name = f"{seed}-{turn:03d}"
                turn += 1
                if kind in absent:
                    continue
                try:
                    outcomes.append(inject(works[kind], kind, name))
                except Unavailable as error:
                    absent[kind] = str(error)
                    continue
                except Exception:  # counts as not recovered; the faults behind it are still tried
                    outcomes.append(Outcome(kind, name, "the harness failed", traceback.format_exc(), 0.0))
                outcome = outcomes[-1]
                progress.write(f"{name} {kind}: {outcome.shown or 'did not hit'}: {outcome.wrong or 'recovered'}")
                progress.update()
        click.echo(table(outcomes))
        for kind, reason in absent.items():
            click.echo(f"not injected: {kind}: {reason}")
    sys.exit(any(outcome.wrong or not outcome.shown for outcome in outcomes))


if __name__ == "__main__":
    main()
