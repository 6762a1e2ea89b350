"""Mutated files end in a message. `python -m evaluation.compression.fuzz` reads 10,000 of them."""

from evaluation.compression.fuzz import fuzz


def test_300_mutated_files() -> None:
    outcome = fuzz(300)
    assert outcome.silent == 0
    assert outcome.refused.total() + outcome.unchanged == 300
    assert outcome.refused.total() > 280
    assert len(outcome.refused) > 8
