"""Protocols are data: complete, documented, and guards of a table's columns."""

from pathlib import Path

import pytest

from evaluation import protocols
from evaluation.metrics import METRICS
from latticebench.errors import BadInput

NAMED = (
    "rfid-npq-float-v1",
    "rfid-inception-v1",
    "gfid-adm-v1",
    "rfid-adm-v1",
    "sfid-adm-v1",
    "psnr-v1",
    "ssim-v1",
    "ms-ssim-v1",
    "lpips-alex-v1",
    "lpips-vgg-v1",
    "fd-insuite-v1",
    "fd-dinov2-v1",
    "is-v1",
    "prc-v1",
    "kid-v1",
    "usage-v1",
)


def test_every_metric_has_one_protocol_and_every_protocol_is_documented():
    assert {key for p in protocols.PROTOCOLS.values() for key in p.metrics} == set(METRICS)
    page = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text()
    assert page == protocols.document(), "run `latticebench protocols --write docs/protocols.md`"
    for name in NAMED:
        assert f"## {name}\n" in page and protocols.by_id(name).comparable


def test_two_protocols_do_not_share_a_column():
    assert protocols.check_column("psnr", ["psnr-v1", "psnr-v1"]) == "psnr-v1"
    assert protocols.check_column("psnr", []) is None
    with pytest.raises(BadInput, match=r"rfid-inception-v1 and rfid-npq-float-v1"):
        protocols.check_column("rfid", ["rfid-npq-float-v1", "rfid-inception-v1"])
    with pytest.raises(BadInput):
        protocols.check_column("fd_insuite", ["fd-insuite-v1-00000000", "fd-insuite-v1-11111111"])


def test_the_hash_of_the_suites_own_network_is_part_of_the_identity():
    identity = protocols.protocol_id("fd_insuite", "abcdef0123456789")
    assert identity == "fd-insuite-v1-abcdef01" and protocols.by_id(identity).name == "fd-insuite"
    assert protocols.protocol_id("psnr", "abcdef0123456789") == "psnr-v1"
    with pytest.raises(BadInput, match="known: psnr-v1"):
        protocols.by_id("rfid-v9")


def test_only_one_protocol_takes_floats():
    doors = {p.id: p.choices["door"] for p in protocols.PROTOCOLS.values() if "door" in p.choices}
    assert [key for key, door in doors.items() if "un-rounded" in door] == ["rfid-npq-float-v1"]
