"""The tiled search agrees with all scores at once, ties included, whatever the tiles."""

import pytest
import torch

from latticebench.quantizers import search


@pytest.mark.parametrize("tile_mb", [1e-3, 0.1, 256.0])
@pytest.mark.parametrize("with_offset", [False, True])
def test_tiles_in_both_directions_keep_the_lowest_index_of_equal_scores(tile_mb: float, with_offset: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randint(-1, 2, (5000, 6), generator=generator).float()
    z = torch.randint(-3, 4, (500, 6), generator=generator).float()
    offset = search.half_square_norms(codebook) if with_offset else None
    scores = z @ codebook.T - (0 if offset is None else offset)
    first = (scores == scores.amax(dim=1, keepdim=True)).float().argmax(dim=1)
    assert (scores == scores.amax(dim=1, keepdim=True)).sum(dim=1).max() > 1, "the inputs must tie"
    assert torch.equal(search.largest_score(z, codebook, offset, tile_mb), first)
