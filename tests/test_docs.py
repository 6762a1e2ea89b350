"""The documentation says what the code does."""

import re
from pathlib import Path

from evaluation.cli.config import table
from latticebench import configuration

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"


def test_the_page_lists_every_key_of_the_schema() -> None:
    block = re.search(r"<!-- keys: begin .*?-->\n(.*?)\n?<!-- keys: end -->", PAGE.read_text(), re.DOTALL)
    assert block, "the page has no block of keys"
    assert block[1] == table(configuration.schema_keys()), (
        "paste the output of `latticebench config --keys` into the page"
    )


def test_every_key_is_explained() -> None:
    unexplained = [key for key, _, _, meaning in configuration.schema_keys() if not meaning]
    assert not unexplained
