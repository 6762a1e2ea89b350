"""The three layouts on real photographs."""

import numpy as np
import pytest

from latticebench import configuration
from latticebench.data import prepare, prepared
from tests.conftest import DATA

pytestmark = pytest.mark.data


def prepared_from(folder, **data):
    values = {"name": "t", "data": data, "quantizers": {"i": {"method": "identity"}}}
    prepare.prepare(configuration.from_values(values, folder / "c.yaml"), folder / "out")
    return prepared.load(folder / "out")


def test_tiny_imagenet(tmp_path):
    data = prepared_from(
        tmp_path, source="parquet", path=str(DATA / "tiny-imagenet-50"), train_images=120, eval_images=60
    )
    assert data.train.images.shape == (120, 64, 64, 3)
    assert data.eval.images.shape == (60, 64, 64, 3)
    assert data.manifest["classes"]["count"] == 50
    assert len(np.unique(data.train.labels)) > 30


def test_kodak(tmp_path):
    data = prepared_from(
        tmp_path, source="flat-folder", path=str(DATA / "kodak"), size=256, resize="lanczos", eval_share=1
    )
    assert data.eval.images.shape == (24, 256, 256, 3)
    assert data.eval.names[0] == "kodim01.png"


def test_imagenet_sample_deals_with_grey_and_small_images(tmp_path):
    data = prepared_from(
        tmp_path,
        source="image-folder",
        path=str(DATA / "imagenet-sample"),
        size=256,
        resize="box-halving",
        upscale=True,
        eval_images=40,
        train_images=20,
        eval_share=0.5,
    )
    assert data.eval.images.shape == (40, 256, 256, 3)
    assert data.manifest["classes"]["count"] == 800
    assert data.manifest["classes"]["kind"] == "local"
