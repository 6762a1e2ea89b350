"""Runs the second reading and writes what the tests replay: `python -m tests.published.record`."""

import json
from pathlib import Path

from tests.published.cases import CASES, moments, token_hash

REPLAY = Path(__file__).with_name("replay.json")


def main() -> None:
    record = {}
    for name, case in CASES.items():
        reading = case.read()
        arrays = {key: moments(array) for key, array in reading.arrays.items()}
        record[name] = {"tokens": token_hash(reading.tokens), "arrays": arrays}
    REPLAY.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
