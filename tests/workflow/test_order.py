"""The jobs with the most work behind them are the first to start."""

from pathlib import Path

from latticebench import configuration, order


def test_a_large_searched_codebook_goes_first_and_a_plain_one_last() -> None:
    config = configuration.load(Path("config/embedded.yaml"))
    urgent = {
        subject.name: order.priority(config, subject, "training", len(subject.seeds)) for subject in config.subjects()
    }
    ranked = sorted(urgent, key=lambda name: -urgent[name])
    heads = {"random-196560", "vq", "bsq", "leech"}
    assert set(ranked[:4]) == heads, "the large search, and those whose tokens priors and generators model"
    assert min(urgent.values()) == urgent["leech-published"] > 0


def test_a_finished_training_leaves_less_to_wait_for() -> None:
    config = configuration.load(Path("config/embedded.yaml"))
    subject = config.subject("vq")
    stages = [order.priority(config, subject, stage, 2) for stage in ("training", "coding", "judging")]
    assert stages == sorted(stages, reverse=True)
    assert all(isinstance(number, int) for number in stages)
