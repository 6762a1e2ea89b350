import numpy as np
import torch

from latticebench.training import sampling
from tests.tokenizers import helpers


def test_each_epoch_sees_each_sample_once_in_another_order():
    first, second = (sampling.sample_indices(7, start, 10, 10) for start in (0, 10))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_samples_do_not_depend_on_the_batch():
    images = helpers.pictures()
    whole = sampling.cropped(images, 7, 20, 12, helpers.SIZE, True)
    parts = [sampling.cropped(images, 7, 20 + i, 4, helpers.SIZE, True) for i in (0, 4, 8)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, sampling.cropped(images, 8, 20, 12, helpers.SIZE, True))


def test_crops_reach_every_place_and_flips_happen():
    # One image whose pixel value is its position, so a crop tells where it was taken.
    side, size = 6, 4
    image = np.arange(side * side, dtype=np.uint8).reshape(1, side, side, 1).repeat(3, axis=3)
    crops = (sampling.cropped(image, 0, 0, 400, size, True)[:, 0] * 255).round().long()
    flipped = crops[:, 0, 0] > crops[:, 0, 1]
    corners = torch.where(flipped, crops[:, 0, -1], crops[:, 0, 0])
    assert 120 < flipped.sum() < 280
    assert set(corners.tolist()) == {y * side + x for y in range(3) for x in range(3)}
    assert not (sampling.cropped(image, 0, 0, 50, size, False)[:, 0].diff(dim=-1) < 0).any()


def test_no_margin_gives_the_image():
    images = helpers.pictures(3, helpers.SIZE)
    row = sampling.sample_indices(1, 0, 1, 3)[0]
    assert torch.equal(
        (sampling.cropped(images, 1, 0, 1, helpers.SIZE, False)[0] * 255).round().byte(),
        torch.from_numpy(images[row]).permute(2, 0, 1),
    )
