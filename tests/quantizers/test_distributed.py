"""Two gloo processes give the usage, entropies, updates and gradients of one process with the joined batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from latticebench.quantizers import create

METHODS = {
    "vq-ema": ("vq", {"codebook_size": 24, "update": "ema", "init": "data", "restart_threshold": 0.5}),
    "vq-ema-few": ("vq", {"codebook_size": 200, "update": "ema", "init": "data", "restart_threshold": 0.5}),
    "lgq": ("lgq", {"dim": 8, "codebook_size": 24, "lambda_floor": 0.1, "perplexity_floor": 23.0}),
    "lgq-kmeans": ("lgq", {"dim": 8, "codebook_size": 24, "init": "kmeans"}),
    "bsq": ("bsq", {"dim": 8}),
    "bsq-group": ("bsq", {"dim": 8, "entropy": "group", "group_size": 4}),
    "lfq": ("lfq", {"dim": 8, "inv_temperature": 3.0}),
}
STEPS = 3
EXACT = {"sample_entropy_nats", "codebook_entropy_nats", "use", "floor"}
"""Terms that are of the joined batch; the others are means that DistributedDataParallel averages by gradient."""


def batch(step: int) -> torch.Tensor:
    return torch.randn(64, 8, generator=torch.Generator().manual_seed(step), dtype=torch.float64) + step


def run(name: str, share: slice) -> dict:
    """State, terms, counts of use and dL/dz after some steps on a share of each batch."""
    method, parameters = METHODS[name]
    quantizer = create(method, **parameters).double().train()
    result = {}
    for step in range(STEPS):
        z = batch(step)[share].requires_grad_()
        out = quantizer(z)
        gradients = torch.autograd.grad(
            out.loss + out.vectors.square().mean(), [z, *quantizer.parameters()], allow_unused=True
        )
        result[f"codes {step}"] = out.indices.bincount(minlength=quantizer.codebook_size)
        result[f"z {step}"] = gradients[0]
        result |= {f"gradient {i} {step}": g for i, g in enumerate(gradients[1:])}
        result |= {f"{key} {step}": value for key, value in out.terms.items() if key in EXACT}
    return result | {f"state {key}": value for key, value in quantizer.state_dict().items()}


def worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    results = {name: run(name, slice(32 * rank, 32 * rank + 32)) for name in METHODS}
    for result in results.values():
        for key, value in result.items():
            if key.startswith("codes "):
                dist.all_reduce(value)
            elif key.startswith("gradient"):
                dist.all_reduce(value)
                value /= 2  # as DistributedDataParallel does
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(worker, (port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_are_one_with_the_joined_batch(ranks, name):
    joined, (first, second) = run(name, slice(None)), (result[name] for result in ranks)
    for key, value in joined.items():
        if key.startswith("z "):
            # Each process has the mean over its own half, so its gradients are twice those of the joined mean.
            halves = torch.cat([first[key], second[key]]) / 2
            torch.testing.assert_close(halves, value, rtol=1e-9, atol=1e-12, msg=lambda m, key=key: f"{key}: {m}")
            continue
        for result in (first, second):
            torch.testing.assert_close(result[key], value, rtol=1e-9, atol=1e-12, msg=lambda m, key=key: f"{key}: {m}")
