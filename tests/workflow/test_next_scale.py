"""A next-scale generator over multi-scale tokens goes through the whole workflow, from pictures to the report."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from evaluation import records
from latticebench import configuration, generator_entries
from tests.workflow.runs import SMOKE, snakemake

INFINITY_CC = {"family": "next-scale", "positions": "rotary", "shared_norm": True}
VAR = {"family": "next-scale", "positions": "learned", "shared_norm": False}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_pictures_to_the_report(tmp_path: Path) -> None:
    values = yaml.safe_load(SMOKE.read_text())
    values["data"] |= {"train_images": 64, "eval_images": 64}
    values["tokenizer"] = {
        "architecture": "multi-scale",
        "network": {"base": 32, "multipliers": [1, 1, 1, 1], "blocks": 1},
        "scales": {"sides": [1, 2, 4]},
        "training": {"steps": 2, "batch_size": 4, "warmup_steps": 1},
    }
    values["quantizers"] = {
        "leech": {"method": "leech-published", "parameters": {"codebook_size": 256, "normalize": False}},
        "bsq": {
            "method": "bsq",
            "parameters": {"dim": 8, "normalize": False},
            "tokenizer": {"scales": {"up": "bicubic", "next_input": "area", "smoothing": 2}},
        },
    }
    del values["geometry"]
    values["compression"] = {"codecs": ["webp"]}
    values["generation"] |= {"sampling": {"images": 66, "labels": "train", "guidance": [1, 2], "top_k": [100, 50]}}
    values["generation"]["training"] |= {"snapshots": [4]}
    values["generators"] = {
        "leech": {"tokenizer": "leech", "generation": {"model": INFINITY_CC}},
        "bsq": {"tokenizer": "bsq", "generation": {"head": {"kind": "digits"}, "model": VAR}},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    done = snakemake(tmp_path, path, "--cores", "2")
    assert done.returncode == 0, done.stdout
    root = tmp_path / "results" / "smoke"
    for generator in configuration.load(path).generators():
        record = records.read(root / "records" / generator.id / "seed0" / "generation.json")
        assert record.values["bits_per_token"].value > 0 and len(record.arrays["sweep"]) == 3
        log = record.files["log"]
        assert (root / "records" / generator.id / "seed0" / log.path).is_file()
        with np.load(root / "samples" / generator.id / "seed0" / "samples.npz") as samples:
            assert samples["arr_0"].shape == (66, 32, 32, 3)
        tokens = root / "tokens" / generator_entries.tokens_of(generator).id / "seed0"
        assert json.loads((tokens / "tokens.json").read_text())["scales"] == [1, 2, 4]
        assert np.load(tokens / "eval.npy").shape == (64, 21)
    with open(root / "tables" / "generation.csv") as file:
        assert {row["generator"] for row in csv.DictReader(file)} >= {"leech", "bsq"}
    assert (root / "report" / "index.html").is_file()
