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
SAMPLES = 2
REPEATS = 3
WIDTH, LAYERS, HEADS, CODES = 384, 12, 6, 4096


def next_scale() -> NextScaleGenerator:
    network = Convolutional(8, 32, (1, 2))
    quantizer = create("vq", codebook_size=CODES, dim=8)
    under = build(quantizer, 32, Architecture(network, scales=Scales(SIDES, "bicubic", "area"))).eval()
    options = {"classes": 10, "positions": "learned", "shared_norm": False, "no_class": "last"}
    parameters = NextScaleParameters(8, (CODES,), SIDES, WIDTH, LAYERS, HEADS, **options)
    return NextScaleGenerator(NextScaleTransformer(parameters), under).eval()


def raster() -> RasterGenerator:
    quantizer = create("vq", codebook_size=CODES, dim=8)
    under = build(quantizer, 32, Architecture(Convolutional(8, 32, (1, 2)))).eval()
    parameters = TokenRasterParameters(8, (CODES,), 16, WIDTH, LAYERS, HEADS, classes=10)
    return RasterGenerator(TokenRasterTransformer(parameters), under).eval()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "make", "least"), [("ten scales", next_scale, 1.8), ("raster", raster, 10.0)])
def test_the_cache(name, make, least):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    generator = make()
    classes, seeds = torch.arange(SAMPLES), torch.arange(SAMPLES)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(REPEATS):
        for cache, times in seconds.items():
            start = time.thread_time()
            generator.sample(classes, seeds, top_k=900, top_p=0.96, cache=cache, at_once=SAMPLES)
            times.append(time.thread_time() - start)
    cached, plain = (statistics.median(seconds[way]) for way in (True, False))
    print(f"\n{name}, width {WIDTH}, {LAYERS} layers, K = {CODES}: {SAMPLES} samples, seconds")
    print(f"| no cache | cache | ratio |\n|---|---|---|\n| {plain:.2f} | {cached:.2f} | {plain / cached:.1f} |")
    assert plain >= least * cached
