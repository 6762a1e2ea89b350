"""Every claim's function gives each of the four verdicts on records made for it."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from evaluation.records import Interval, Record, Value
from evaluation.report import claims
from evaluation.report.results import Entry, Results, Source
from tests.report.synthetic import MACHINE, configuration

VERDICTS = ("holds", "does not hold", "undecided", "not tested at this scale")
K = 4096


def _record(name, method, suite, values, samples=None, groups=(), parameters=None, seed=0):
    return Record(
        subject=name, name=name, method=method, seed=seed, suite=suite, parameters=parameters or {}, dataset=None,
        values=values, samples=samples or {}, groups=list(groups), code={}, machine=MACHINE,
    )  # fmt: skip


def _value(number, half=0.0):
    interval = Interval(low=number - half, high=number + half, method="made up") if half else None
    return Value(value=number, protocol="x-v1", interval=interval)


def row(method, size=K, psnr=None, rfid=None, use=None, codes=None, bits=None, tokens=10**9, extra=()):
    """A row with one seed. psnr: mean of ten images whose paired noise is 0.1 dB. The others: (value, half width)."""
    suites = {}
    values = {"codebook_size": _value(float(size)), "tokens": _value(float(tokens))}
    for key, pair in (("relative_usage", use), ("codes_used", codes), ("entropy_bits", bits)):
        if pair is not None:
            values[key] = _value(*pair)
    records = [_record(method, method, "codebook", values)]
    if psnr is not None or rfid is not None:
        rng = np.random.default_rng(sum(map(ord, method)) + size)
        samples = {} if psnr is None else {"psnr": (psnr + rng.normal(0, 0.1, 10) - 0.0).tolist()}
        found = {} if psnr is None else {"psnr": _value(float(np.mean(samples["psnr"])), 1.0)}
        if rfid is not None:
            found["rfid"] = _value(*rfid)
        records.append(_record(method, method, "reconstruction", found, samples, range(10) if psnr is not None else ()))
    for number, record in enumerate((*records, *extra)):
        source = Source(f"records/{method}-{size}/seed0/{record.suite}{number}.json", record)
        suites.setdefault(record.suite, []).append(source)
    spec = {"quantizer": {"method": method, "parameters": {}}}
    return Entry(method, f"{method}-x", method, (0,), spec, {suite: tuple(found) for suite, found in suites.items()})


def point(method, size, delta, half=0.0):
    """A geometry record."""
    record = _record(
        method, method, "geometry", {"codebook_size": _value(float(size)), "delta_min": _value(delta, half)}
    )
    source = Source(f"records/geometry/{method}-{size}.json", record)
    return Entry(
        method, method, method, (), {"quantizer": {"method": method, "parameters": {}}}, {"geometry": (source,)}
    )


def run(rows=(), geometry=(), generators=()):
    config = configuration(["identity"])
    return Results(config, Path("results/made-up"), tuple(rows), tuple(geometry), (), tuple(generators))


def _fixed(leech, bsq, random, deltas=(0.9, 0.6, 0.5)):
    methods = ("leech", "bsq", "random")
    rows = [row(m, psnr=p) for m, p in zip(methods, (leech, bsq, random), strict=True)]
    return run(rows, [point(m, K, d) for m, d in zip(methods, deltas, strict=True)])


def model(name, method="leech-published", distance=None, recall=(0.5, 0.01), notes=(), **options):
    """A judged generator over the tokens of a method. distance, recall: (value, half width)."""
    values = {} if distance is None else {"fd_insuite_generation": _value(*distance), "recall_insuite": _value(*recall)}
    record = _record(name, method, "generation", values).model_copy(update={"notes": list(notes)})
    spec = {"tokenizer": {}, "generation": {"head": {"kind": "full"}, "training": {"optimizer": "adamw"}, **options}}
    source = Source(f"records/{name}/seed0/generation.json", record)
    return Entry(name, name, method, (0,), spec, {"generation": (source,)}, tokenizer=f"{method}-x")


def _heads(full, digits, recalls=((0.6, 0.01), (0.5, 0.01))):
    heads = ({"kind": "full"}, {"kind": "digits"})
    return run(
        generators=[
            model(head["kind"], distance=distance, recall=recall, head=head)
            for head, distance, recall in zip(heads, (full, digits), recalls, strict=True)
        ]
    )


BROKEN = ("training diverged at step 9",)
SAFE = {"training": {"optimizer": "dion", "z_weight": 1e-4}}


def _coded(leech, bsq, psnr=(24.0, 23.0)):
    sizes = (("leech-published", 196_560, leech), ("bsq", 2**18, bsq))
    rows = []
    for (method, size, rate), level in zip(sizes, psnr, strict=True):
        made = _record(method, method, "compression", {} if rate is None else {"bpp_static": _value(*rate)})
        rows.append(row(method, size, psnr=level, extra=(made,)))
    return run(rows)


WHOLE = math.log2(196_560)
CASES = {
    "delta-leech": (
        run(geometry=[point("leech-published", 196_560, math.sqrt(24 / 32))]),
        run(geometry=[point("leech-published", 196_560, 1.0)]),
        run(geometry=[point("leech-published", 196_560, 0.867, 0.01)]),
        run(),
    ),
    "spread-bsq": (
        run(geometry=[point("leech-published", 196_560, 0.866), point("bsq", 2**18, 0.471)]),
        run(geometry=[point("leech-published", 196_560, 0.4), point("bsq", 2**18, 0.471)]),
        run(geometry=[point("leech-published", 196_560, 0.48, 0.05), point("bsq", 2**18, 0.471)]),
        run(geometry=[point("bsq", 2**18, 0.471)]),
    ),
    "leech-over-bsq": (
        run([row("leech-published", 196_560, psnr=24.0), row("bsq", 2**18, psnr=23.0)]),
        run([row("leech-published", 196_560, psnr=22.0), row("bsq", 2**18, psnr=23.0)]),
        run([row("leech-published", 196_560, psnr=23.0), row("bsq", 2**18, psnr=23.0)]),
        run([row("leech-published", 196_560, psnr=24.0), row("bsq", psnr=23.0)]),
    ),
    "lgq-rfid": (
        run([row("lgq", rfid=(110.0, 2.0)), row("fsq", rfid=(125.0, 2.0))]),
        run([row("lgq", rfid=(125.0, 2.0)), row("fsq", rfid=(110.0, 2.0))]),
        run([row("lgq", rfid=(110.0, 9.0)), row("fsq", rfid=(115.0, 9.0))]),
        run([row("lgq", psnr=20.0), row("fsq", psnr=20.0)]),
    ),
    "distance-fidelity": (
        _fixed(24.0, 23.0, 22.0),
        _fixed(22.0, 23.0, 24.0),
        _fixed(24.0, 24.0, 24.0),
        run([row("leech", psnr=24.0), row("bsq", psnr=23.0)]),
    ),
    "no-entropy-term": (
        run([row("leech-published", 196_560, use=(0.9, 0.01)), row("bsq", 2**18, use=(0.7, 0.01))]),
        run([row("leech-published", 196_560, use=(0.5, 0.01)), row("bsq", 2**18, use=(0.7, 0.01))]),
        run([row("leech-published", 196_560, use=(0.7, 0.01)), row("bsq", 2**18, use=(0.7, 0.01))]),
        run([row("leech-published", 196_560, use=(0.7, 0.01))]),
    ),
    "uniform-use": (
        run([row("leech-published", 196_560, bits=(WHOLE - 0.02, 0.01))]),
        run([row("leech-published", 196_560, bits=(WHOLE - 0.5, 0.01))]),
        run([row("leech-published", 196_560, bits=(WHOLE - 0.1, 0.05))]),
        run([row("leech-published", 196_560, bits=(12.0, 0.01), tokens=6400)]),
    ),
    "lgq-half": (
        run([row("lgq", psnr=23.0, codes=(1000.0, 9.0)), row("fsq", psnr=23.0, codes=(2000.0, 9.0))]),
        run([row("lgq", psnr=22.0, codes=(1000.0, 9.0)), row("fsq", psnr=23.0, codes=(2000.0, 9.0))]),
        run([row("lgq", psnr=23.0, codes=(1200.0, 99.0)), row("fsq", psnr=23.0, codes=(2000.0, 9.0))]),
        run([row("lgq", psnr=23.0)]),
    ),
    "simvq-use": (
        run([row("simvq", use=(0.99, 0.01))]),
        run([row("simvq", use=(0.6, 0.01))]),
        run([row("simvq", use=(0.95, 0.02))]),
        run([row("simvq")]),
    ),
    "full-head": (
        _heads((8.7, 0.2), (11.7, 0.2)),
        _heads((12.7, 0.2), (11.7, 0.2)),
        _heads((11.7, 0.2), (11.8, 0.2)),
        run(generators=[model("full", distance=(8.7, 0.2))]),
    ),
    "stable-training": (
        run(
            generators=[*(model(f"p{i}", notes=BROKEN) for i in range(4)), *(model(f"s{i}", **SAFE) for i in range(4))]
        ),
        run(generators=[model("plain"), model("safe", notes=BROKEN, **SAFE)]),
        run(generators=[model("plain"), model("safe", **SAFE)]),
        run(generators=[model("safe", **SAFE)]),
    ),
    "generation-leech": (
        run(generators=[model("a", distance=(3.0, 0.1)), model("b", "bsq", distance=(4.0, 0.1))]),
        run(generators=[model("a", distance=(5.0, 0.1)), model("b", "bsq", distance=(4.0, 0.1))]),
        run(generators=[model("a", distance=(4.1, 0.2)), model("b", "bsq", distance=(4.0, 0.1))]),
        run(generators=[model("a", distance=(3.0, 0.1)), model("b", "bsq")]),
    ),
    "coded-leech": (
        _coded((0.27, 0.01), (0.30, 0.01)),
        _coded((0.33, 0.01), (0.30, 0.01)),
        _coded((0.30, 0.01), (0.30, 0.01)),
        _coded(None, (0.30, 0.01)),
    ),
}
KEYS = {claim.key: claim for claim in claims.CLAIMS}


def _function(check):
    return check.__qualname__.partition(".")[0]


def test_every_function_has_its_four_cases():
    assert {_function(KEYS[key].check) for key in CASES} == {_function(claim.check) for claim in claims.CLAIMS}
    assert len(KEYS) == len(claims.CLAIMS) >= 12


@pytest.mark.parametrize("key", CASES)
@pytest.mark.parametrize("verdict", VERDICTS)
def test_verdict(key, verdict):
    finding = KEYS[key].check(CASES[key][VERDICTS.index(verdict)])
    assert finding.verdict == verdict, finding.text
    assert finding.text.endswith(".")
    assert bool(finding.records) == (verdict != "not tested at this scale")


def test_an_empty_run_tests_nothing():
    assert {verdicts.verdict for verdicts in claims.check_all(run())} == {claims.UNTESTED}


def test_a_dead_heat_of_seeds_is_undecided():
    """Two seeds that disagree in sign leave a claim open even where the mean's interval would decide it."""
    config = configuration(["identity"])
    first, second = row("simvq", psnr=23.3), row("vq", psnr=23.0)
    low = row("simvq", psnr=22.9).sources["reconstruction"][0]
    both = (*first.sources["reconstruction"], low)
    mixed = Entry("simvq", "simvq-x", "simvq", (0, 1), first.spec, {**first.sources, "reconstruction": both})
    found = KEYS["simvq-over-vq"].check(Results(config, Path("x"), (mixed, second), (), ()))
    assert found.verdict == "undecided"


def test_suites_that_disagree_leave_a_claim_undecided():
    better, worse = (
        run([row("simvq", psnr=23.3), row("vq", psnr=23.0)]),
        run([row("simvq", psnr=22.0), row("vq", psnr=23.0)]),
    )
    findings = [KEYS["simvq-over-vq"].check(each) for each in (better, worse)]
    both = claims.Verdicts(KEYS["simvq-over-vq"], tuple(zip(("one", "two"), findings, strict=True)))
    assert both.verdict == "undecided" and len(both.records) == 2


def test_few_divergences_decide_nothing():
    arms = [
        *(model(f"p{i}", notes=BROKEN if i < 2 else ()) for i in range(6)),
        *(model(f"s{i}", **SAFE) for i in range(12)),
    ]
    finding = claims.stable_training(run(generators=arms))
    assert finding.verdict == "undecided"
    assert "2 of 6" in finding.text and "0 of 12" in finding.text and "probability 0.098" in finding.text


def test_a_recall_without_an_interval_decides_nothing_and_is_named():
    finding = claims.full_head_wins(_heads((100.0, 1.0), (120.0, 1.0), ((0.6, 0.0), (0.5, 0.0))))
    assert finding.verdict == "undecided"
    assert "Recall (in-suite) without an interval" in finding.text
    assert "intervals of FD (in-suite), generation overlap" in finding.text


def test_a_codebook_without_a_smallest_distance_is_named():
    results = _fixed(24.0, 23.0, 22.0)
    rows = (*results.entries, row("fibonacci", psnr=21.0))
    finding = claims.distance_orders_fidelity(dataclasses.replace(results, entries=rows))
    assert finding.verdict == "holds"
    assert finding.text.endswith("Without a record of its δ_min at this size: fibonacci.")
