"""The papers' claims as small functions over records."""

import dataclasses
from collections.abc import Callable
from typing import Literal

from evaluation.report.results import Results

Verdict = Literal["holds", "does not hold", "undecided", "not tested at this scale"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the records say about a claim, in a sentence, and which records say it."""

    verdict: Verdict
    text: str
    records: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim: the sentence, where it is made, what it takes to test it, and the function that does."""

    key: str
    sentence: str
    source: str
    scale: str
    check: Callable[[Results], Finding]


CLAIMS: tuple[Claim, ...] = ()


def check_all(results: Results) -> list[tuple[Claim, Finding]]:
    """Every claim with its finding, in order."""
    return [(claim, claim.check(results)) for claim in CLAIMS]
