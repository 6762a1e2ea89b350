"""Lion, Muon and Dion against their papers' algorithms; the groups by role."""

import math
import os
import socket

import numpy as np
import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from latticebench.errors import BadInput
from latticebench.generators.next_scale import NextScaleParameters, NextScaleTransformer
from latticebench.generators.raster_generator import TokenRasterParameters, TokenRasterTransformer
from latticebench.generators.roles import roles
from latticebench.training.optimizers import groups
from latticebench.training.optimizers.dion import Dion
from latticebench.training.optimizers.lion import Lion
from latticebench.training.optimizers.muon import Muon

MODELS = {
    "shared": lambda: next_scale(shared_norm=True),
    "var": lambda: next_scale(shared_norm=False, positions="learned"),
    "raster": lambda: TokenRasterTransformer(TokenRasterParameters(8, (2,) * 8, 4, 32, 2, 4, 3)),
}


def next_scale(**options):
    return NextScaleTransformer(NextScaleParameters(8, (64,), (1, 2), 32, 2, 4, classes=3, **options))


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def moved(make, shapes, steps=4, dtype=torch.float64, rate=0.1):
    """Parameters after some steps along drawn gradients."""
    parameters = [nn.Parameter(drawn(*shape, seed=i, dtype=dtype)) for i, shape in enumerate(shapes)]
    optimizer = make(parameters)
    optimizer.rate = rate
    for step in range(steps):
        for i, parameter in enumerate(parameters):
            parameter.grad = drawn(*parameter.shape, seed=100 * step + i + 50, dtype=dtype)
        optimizer.step()
    return [parameter.detach() for parameter in parameters], optimizer


# Dion ----------------------------------------------------------------------------------------------


def paper_dion(x, basis, gradients, mu, rate):
    """Algorithm 1 of arXiv:2504.05295 in numpy, one matrix; P by Gram–Schmidt instead of a library's QR."""
    momentum = np.zeros_like(x)
    for gradient in gradients:
        b = momentum + gradient
        p = np.zeros((b.shape[0], 0))
        for column in (b @ basis).T:
            for _ in range(2):
                column = column - p @ (p.T @ column)
            p = np.column_stack([p, column / np.sqrt(np.sum(column**2))])
        r = b.T @ p
        momentum = b - (1 - mu) * p @ r.T
        basis = r / np.sqrt(np.sum(r**2, axis=0))
        x = x - rate * np.sqrt(x.shape[0] / x.shape[1]) * p @ basis.T
    return x


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(("shape", "fraction"), [((12, 7), 1.0), ((7, 12), 0.5), ((30, 8), 0.3), ((5, 5), 0.2)])
def test_dion_is_the_papers(shape, fraction, fast):
    start = Dion([nn.Parameter(drawn(*shape))], rank_fraction=fraction)
    assert start.bases[0].shape == (shape[1], math.ceil(fraction * min(shape)))
    found, _ = moved(lambda p: Dion(p, 0.9, fraction, fast=fast), [shape])
    gradients = [drawn(*shape, seed=100 * step + 50).numpy() for step in range(4)]
    # float64: the first basis is rounded to the parameters' type.
    basis = Dion([nn.Parameter(drawn(*shape))], rank_fraction=fraction).bases[0].numpy()
    np.testing.assert_allclose(
        found[0].numpy(), paper_dion(drawn(*shape).numpy(), basis, gradients, 0.9, 0.1), atol=1e-9
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_dions_two_paths_agree(dtype, fraction):
    shapes = [(24, 24), (24, 24), (96, 24), (24, 96), (3, 1), (1, 5), (96, 24)]
    fast, slow = (
        moved(lambda p, f=f: Dion(p, 0.95, fraction, 0.01, fast=f), shapes, 6, dtype)[0] for f in (True, False)
    )
    tolerance = {torch.float64: 1e-8, torch.float32: 2e-3, torch.bfloat16: 0.05}[dtype]
    for a, b in zip(fast, slow, strict=True):
        assert (a - b).abs().max() < tolerance


def test_dions_direction_is_orthonormal_and_what_it_missed_is_kept():
    parameter = nn.Parameter(torch.zeros(40, 8, dtype=torch.float64))
    dion = Dion([parameter], momentum=0.95, rank_fraction=0.5)
    dion.rate = math.sqrt(8 / 40)
    parameter.grad = gradient = drawn(40, 8)
    dion.step()
    assert torch.linalg.matrix_rank(parameter.detach()) == 4
    p_r = (gradient - dion.momenta[0]) / (1 - 0.95)  # P·Rᵀ
    left = gradient - p_r
    assert torch.allclose(left.T @ p_r, torch.zeros(8, 8, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("fast", [False, True])
def test_dion_survives_gradients_without_full_rank(fast):
    parameter = nn.Parameter(torch.zeros(64, 8))
    dion = Dion([parameter], fast=fast)
    dion.rate = 0.1
    for gradient in (torch.zeros(64, 8), torch.ones(64, 8), drawn(64, 8, dtype=torch.float32)):
        parameter.grad = gradient
        before = parameter.detach().clone()
        dion.step()
        assert bool(parameter.isfinite().all())
    assert not torch.equal(before, parameter)


def test_what_dion_refuses():
    with pytest.raises(ValueError, match="matrices only"):
        Dion([nn.Parameter(torch.zeros(3))])
    with pytest.raises(ValueError, match="rank_fraction"):
        Dion([nn.Parameter(torch.zeros(3, 3))], rank_fraction=0)


def _dion_on(rank, port, folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    torch.manual_seed(rank)  # the global random state must not matter
    parameters = [
        nn.Parameter(drawn(*shape, seed=i, dtype=torch.float32)) for i, shape in enumerate([(48, 12), (12, 48)])
    ]
    optimizer = Dion(parameters, rank_fraction=0.25, fast=True)  # its sketches are drawn
    optimizer.rate = 0.1
    for step in range(3):
        for i, parameter in enumerate(parameters):
            parameter.grad = drawn(*parameter.shape, seed=10 * step + 2 * i + rank, dtype=torch.float32)
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= 2
        optimizer.step()
    torch.save([p.detach() for p in parameters], f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_dion_on_two_processes_is_the_same_and_that_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_dion_on, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    parameters = [
        nn.Parameter(drawn(*shape, seed=i, dtype=torch.float32)) for i, shape in enumerate([(48, 12), (12, 48)])
    ]
    optimizer = Dion(parameters, rank_fraction=0.25, fast=True)  # its sketches are drawn
    optimizer.rate = 0.1
    for step in range(3):
        for i, parameter in enumerate(parameters):
            both = [drawn(*parameter.shape, seed=10 * step + 2 * i + rank, dtype=torch.float32) for rank in range(2)]
            parameter.grad = (both[0] + both[1]) / 2
        optimizer.step()
    for a, b, alone in zip(first, second, parameters, strict=True):
        assert torch.equal(a, b) and torch.equal(a, alone.detach())


# Lion and Muon ------------------------------------------------------------------------------------


def test_lion_is_the_papers():
    (found,), _ = moved(lambda p: Lion(p, (0.9, 0.99), 0.1), [(3, 4)])
    x, m = drawn(3, 4).numpy(), np.zeros((3, 4))
    for step in range(4):
        g = drawn(3, 4, seed=100 * step + 50).numpy()
        x = x - 0.1 * (np.sign(0.9 * m + 0.1 * g) + 0.1 * x)
        m = 0.99 * m + 0.01 * g
    np.testing.assert_allclose(found.numpy(), x, atol=1e-12)


def test_muon_is_torchs_to_the_bit():
    (found,), _ = moved(lambda p: Muon(p, 0.95, 0.1), [(6, 10)], dtype=torch.float32)
    parameter = nn.Parameter(drawn(6, 10, dtype=torch.float32))
    optimizer = torch.optim.Muon([parameter], lr=0.1, weight_decay=0.1)
    for step in range(4):
        parameter.grad = drawn(6, 10, seed=100 * step + 50, dtype=torch.float32)
        optimizer.step()
    assert torch.equal(found, parameter.detach())


# Groups --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_one_role(name):
    model = MODELS[name]()
    parameters, by_name = dict(model.named_parameters()), roles(model)
    assert by_name.keys() == parameters.keys() and set(by_name.values()) <= set(groups.ROLES)
    matrices = {n for n, role in by_name.items() if role == "matrices"}
    kinds = {n.split(".", 2)[2] for n in matrices}
    assert kinds == (
        {"qkv.weight", "out.weight", "up.weight", "down.weight"}
        if name == "raster"
        else {"attention.qkv.weight", "attention.out.weight", "up.weight", "down.weight"}
    )
    assert [n for n, role in by_name.items() if role == "head"] == ["head.weight"]
    assert all(parameters[n].ndim < 2 or n.endswith("log_factor") for n, role in by_name.items() if role == "scales")
    optimizer = groups.make(parameters, by_name, groups.Recipe(matrices="dion", rest="lion"))
    held = [id(p) for part, _ in optimizer.parts.values() for p in part.parameters]
    assert sorted(held) == sorted(id(p) for p in parameters.values())


def test_an_unknown_part_has_no_role():
    with pytest.raises(KeyError, match="no role"):
        roles(nn.Linear(2, 2))
    shared = nn.Parameter(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="two names"):
        groups.make({"a": shared, "b": shared}, {"a": "head", "b": "head"}, groups.Recipe())


@pytest.mark.parametrize("matrices", ["adamw", "lion", "muon", "dion"])
@pytest.mark.parametrize("rest", ["adamw", "lion"])
def test_a_resumed_optimizer_goes_on_with_the_same_bits(matrices, rest):
    recipe = groups.Recipe(matrices, rest, rank_fraction=0.25, weight_decay=0.01)

    def started():
        torch.manual_seed(0)
        model = MODELS["shared"]()
        return model, groups.make(dict(model.named_parameters()), roles(model), recipe)

    def go(model, optimizer, steps):
        optimizer.rate = 1e-2
        for step in steps:
            optimizer.zero_grad()
            for i, parameter in enumerate(model.parameters()):
                parameter.grad = drawn(*parameter.shape, seed=1000 * step + i, dtype=torch.float32)
            optimizer.step()

    whole, optimizer = started()
    go(whole, optimizer, range(4))
    part, optimizer = started()
    go(part, optimizer, range(2))
    state = {key: tensor.clone() for key, tensor in optimizer.state_dict().items()}
    other, fresh = started()
    other.load_state_dict(part.state_dict())
    fresh.load_state_dict(state)
    go(other, fresh, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), other.parameters(), strict=True))
    with pytest.raises(KeyError):
        fresh.load_state_dict({"elsewhere/0/mean": torch.zeros(1)})
    with pytest.raises(KeyError):
        fresh.load_state_dict({})


def test_the_heads_rate_and_decay():
    parameters = {"head": nn.Parameter(torch.ones(6, 16)), "scale": nn.Parameter(torch.ones(3))}
    optimizer = groups.make(
        parameters, {"head": "head", "scale": "scales"}, groups.Recipe(rest="lion", weight_decay=0.5)
    )
    optimizer.rate = 0.4
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.allclose(parameters["head"], torch.tensor(1 - 0.1 * 0.5 - 0.1))
    assert torch.allclose(parameters["scale"], torch.tensor(0.6))


def test_recipes_that_mean_nothing():
    with pytest.raises(BadInput, match="adamw or lion for the rest"):
        groups.Recipe(rest="dion")
    with pytest.raises(BadInput, match="rank_fraction"):
        groups.Recipe(rank_fraction=2.0)
