"""Is one quantizer better than another? Paired on the images where the records allow it."""

import dataclasses

from evaluation.report.results import Entry
from evaluation.statistics import paired


@dataclasses.dataclass(frozen=True)
class Difference:
    """a − b, its 95% interval where there is one, whether it is real, and how that was decided.

    real: zero lies outside the interval of the mean over seeds, and every pair of seeds has the same sign.
    """

    value: float
    low: float | None
    high: float | None
    real: bool
    how: str

    def turned(self) -> "Difference":
        """b − a."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return dataclasses.replace(self, value=-self.value, low=low, high=high)


def difference(a: Entry, b: Entry, key: str, suite: str = "reconstruction") -> Difference | None:
    """a − b of a metric of a suite of records; None where one of the two has no number.

    With per-image values: a paired t interval on the same images, clustered by scene. Without: real only if the two
    sampling intervals don't overlap, which is stricter.
    """
    ours, theirs = a.cell(key, (suite,)), b.cell(key, (suite,))
    if ours is None or theirs is None or ours.value is None or theirs.value is None:
        return None
    signs = {
        x.record.values[key].value > y.record.values[key].value
        for x in ours.sources
        for y in theirs.sources
        if x.record.values[key].value is not None and y.record.values[key].value is not None
    }
    mine, others = _samples(a, key, suite), _samples(b, key, suite)
    if mine is not None and others is not None and len(mine[0]) == len(others[0]) and mine[1:] == others[1:]:
        result = paired(mine[0], others[0], mine[1] or None)
        low, high = (result.interval.low, result.interval.high) if result.interval else (None, None)
        return Difference(result.difference, low, high, result.real and len(signs) == 1, "paired on the same images")
    apart = None not in (ours.low, theirs.low) and (ours.low > theirs.high or ours.high < theirs.low)
    return Difference(ours.value - theirs.value, None, None, apart and len(signs) == 1, "sampling intervals")


def _samples(entry: Entry, key: str, suite: str) -> tuple[list[float], list[int], str] | None:
    """Per-image values, averaged over seeds, the scenes and the images' hash; None where a record lacks one."""
    found = [source.record for source in entry.sources.get(suite, ())]
    columns = [record.samples.get(key) for record in found]
    if not columns or any(not column or None in column for column in columns):
        return None
    images = {(tuple(record.groups), record.dataset.sha256 if record.dataset else "") for record in found}
    if len({len(column) for column in columns}) > 1 or len(images) > 1:
        return None
    (groups, sha256) = images.pop()
    return [sum(values) / len(values) for values in zip(*columns, strict=True)], list(groups), sha256


def best(entries: list[Entry], key: str, better: str) -> str | None:
    """The entry that is really better than each other one, or None where the first place is shared."""
    scored = [(entry.number(key, ("reconstruction",)), entry) for entry in entries]
    known = [(value, entry) for value, entry in scored if value is not None]
    if len(known) < 2:
        return None
    sign = 1 if better == "higher" else -1
    top = max(known, key=lambda pair: sign * pair[0])[1]
    for _, other in known:
        if other is top:
            continue
        found = difference(top, other, key)
        if found is None or not found.real:
            return None
    return top.name
