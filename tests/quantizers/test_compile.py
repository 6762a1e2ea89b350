"""torch.compile gives the results of eager mode: vectors, codes, loss, gradients and moved buffers."""

import pytest
import torch
from quantizer_cases import CASES

from latticebench.quantizers import create

SKIPPED = {"leech", "leech-published"}
"""The whole shell's search compiles by a path of its own; tests/lattices has it."""


def step(quantizer, call, z):
    z = z.clone().requires_grad_()
    out = call(z)
    (out.vectors.square().mean() + out.loss).backward()
    gradients = [z.grad, *(p.grad for p in quantizer.parameters() if p.grad is not None)]
    return [out.vectors, *([] if out.indices is None else [out.indices]), out.loss, *gradients]


def compare(case, backend, rtol=1e-4, atol=1e-5):
    torch._dynamo.reset()
    name, parameters = CASES[case]
    eager, compiled = create(name, **parameters).train(), create(name, **parameters).train()
    batches = [torch.randn(32, eager.dim, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    for quantizer in (eager, compiled):
        quantizer(batches[0])  # a first batch that starts a codebook is not for the compiler
    call = torch.compile(compiled, backend=backend, fullgraph=True)
    for z in batches[1:]:
        for a, b in zip(step(eager, eager, z), step(compiled, call, z), strict=True):
            torch.testing.assert_close(b, a, rtol=rtol, atol=atol)
    for key, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[key], value, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "case", ["vq-cosine", "vq-ema-data", "simvq", "lfq", "bsq-group", "fsq", "lgq", "random", "leech-subset"]
)
def test_aot_eager_in_one_graph(case):
    compare(case, "aot_eager")


@pytest.mark.slow
@pytest.mark.inductor
@pytest.mark.parametrize("case", sorted(set(CASES) - SKIPPED))
def test_inductor(case):
    # It sums in another order, and the two entropies of bsq at 64 bits (44 nats each) nearly cancel in float32.
    compare(case, "inductor", rtol=1e-3, atol=5e-5)
