"""What cached keys save in sampling: prints a table and fails below the bars.

pytest benchmarks/test_sampling.py -s. One thread on the CPU, float32, processor time, the two ways in turn: VAR's ten
scales (680 tokens) and a raster of 256 tokens.
"""

import statistics
import time

import pytest
import torch

from latticebench.generators.next_scale import NextScaleGenerator, NextScaleParameters, NextScaleTransformer
from latticebench.generators.raster_generator import RasterGenerator, TokenRasterParameters, TokenRasterTransformer
from latticebench.nn.convolutional import Convolutional
from latticebench.quantizers import create
from latticebench.tokenizers.convolutional import Architecture, build
from latticebench.tokenizers.residual_scales import Scales

SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
WIDTH, HEADS, CODES = 384, 6, 4096
REPEATS = 2


def next_scale(layers: int) -> NextScaleGenerator:
    network = Convolutional(8, 32, (1, 2))
    quantizer = create("vq", codebook_size=CODES, dim=8)
    under = build(quantizer, 32, Architecture(network, scales=Scales(SIDES, "bicubic", "area"))).eval()
    options = {"classes": 10, "positions": "learned", "shared_norm": False, "no_class": "last"}
    parameters = NextScaleParameters(8, (CODES,), SIDES, WIDTH, layers, HEADS, **options)
    return NextScaleGenerator(NextScaleTransformer(parameters), under).eval()


def raster(layers: int) -> RasterGenerator:
    quantizer = create("vq", codebook_size=CODES, dim=8)
    under = build(quantizer, 32, Architecture(Convolutional(8, 32, (1, 2)))).eval()
    parameters = TokenRasterParameters(8, (CODES,), 16, WIDTH, layers, HEADS, classes=10)
    return RasterGenerator(TokenRasterTransformer(parameters), under).eval()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("name", "make", "layers", "samples", "least"),
    [("ten scales", next_scale, 12, 4, 1.8), ("raster", raster, 4, 6, 10.0)],
)
def test_the_cache(name, make, layers, samples, least):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    generator = make(layers)
    classes, seeds = torch.arange(samples), torch.arange(samples)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(REPEATS):
        for cache, times in seconds.items():
            start = time.thread_time()
            generator.sample(classes, seeds, top_k=900, top_p=0.96, cache=cache, at_once=samples)
            times.append(time.thread_time() - start)
    cached, plain = (statistics.median(seconds[way]) for way in (True, False))
    print(f"\n{name}, width {WIDTH}, {layers} layers, K = {CODES}: {samples} samples, seconds")
    print(f"| no cache | cache | ratio |\n|---|---|---|\n| {plain:.2f} | {cached:.2f} | {plain / cached:.1f} |")
    assert plain >= least * cached
