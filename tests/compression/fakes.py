"""Tokens and codecs for the tests, made from seeds."""

import numpy as np
import torch

from evaluation.compression import digits, network, priors
from evaluation.compression.codec import Coded
from evaluation.compression.layout import Layout
from latticebench.generators.raster import RasterParameters, RasterTransformer

TOKENIZER = "5a" * 32
SIZES = (1, 2, 17, 4096, 65_536, 65_537, 196_560, 2**18, 2**36, 2**62)


def layout(codebook_size: int, tile: int = 16, grid: tuple[int, int] = (4, 4)) -> Layout:
    return Layout(TOKENIZER, codebook_size, tile, (grid,))


def draw(codebook_size: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Tokens with a few frequent codes and a long tail over the whole codebook."""
    rng = np.random.default_rng(seed)
    frequent = np.minimum(rng.geometric(0.02, shape), codebook_size) - 1
    anywhere = rng.integers(0, codebook_size, shape, dtype=np.int64)
    return np.where(rng.random(shape) < 0.8, frequent, anywhere).astype(np.int64)


def images(where: Layout, seed: int = 0) -> list[Coded]:
    """Images of several sizes; the last has more tiles than one group."""
    result = []
    for number, (height, width) in enumerate([(1, 1), (16, 16), (33, 47), (47, 33), (16, 1600)]):
        rows, columns = where.tiles(height, width)
        tokens = draw(where.codebook_size, (rows * columns, where.tokens_per_tile), seed + number)
        result.append(Coded(tokens, height, width))
    return result


def raster(codebook_size: int, grid: tuple[int, int] = (4, 4), width: int = 16) -> RasterTransformer:
    """A network whose weights are drawn, larger than at the start of training."""
    torch.manual_seed(0)
    sizes = digits.digit_sizes(codebook_size)
    model = RasterTransformer(RasterParameters(sizes, grid, width, layers=2, heads=2), tokenizer=TOKENIZER)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def all_priors(codebook_size: int) -> list[priors.Prior]:
    made: list[priors.Prior] = [
        priors.UniformPrior(codebook_size),
        priors.fit_static(draw(codebook_size, (5000,), 99), codebook_size, TOKENIZER),
    ]
    if codebook_size > 1:
        made.append(network.export(raster(codebook_size), codebook_size))
    return made
