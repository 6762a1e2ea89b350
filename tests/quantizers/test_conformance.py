"""Every method keeps the contract; every way of breaking it is caught by a message that names the fault."""

import dataclasses

import pytest
import torch
from quantizer_cases import CASES
from torch import nn

from latticebench.quantizers import (
    Quantized,
    Quantizer,
    Reference,
    available,
    conformance,
    create,
    method,
    straight_through,
)
from latticebench.quantizers.base import full_precision


@pytest.mark.parametrize("case", CASES)
def test_keeps_the_contract(case):
    name, parameters = CASES[case]
    assert [str(finding) for finding in conformance.check(lambda: create(name, **parameters))] == []


def test_cases_cover_the_registry():
    ours = {name for name in available() if method(name).__module__.startswith("latticebench.")}
    assert {name for name, _ in CASES.values()} == ours


class Ternary(Quantizer):
    """A right quantizer, written without the helpers of the package, that the wrong ones below are made from."""

    name, title, reference = "ternary", "Ternary", Reference("none", 2026, "")

    @dataclasses.dataclass(frozen=True)
    class Parameters:
        """dim: dimension of the vectors"""

        dim: int = 6

    def __init__(self, parameters=None):
        super().__init__(parameters or self.Parameters())
        self.dim, self.codebook_size = self.parameters_dataclass.dim, 3**self.parameters_dataclass.dim
        self.register_buffer("places", 3 ** torch.arange(self.dim), persistent=False)

    def levels(self, z):
        return z.clamp(-1, 1).round()

    def forward(self, z):
        self.check_input(z)
        with full_precision(z) as z:
            levels = self.levels(z.detach())
            loss = torch.zeros((), device=z.device)
            return Quantized(straight_through(levels, z), self.join(levels), loss, {})

    def join(self, levels):
        return ((levels.long() + 1) * self.places).sum(-1)

    def encode(self, z):
        if not torch.isfinite(z).all():
            raise ValueError("not finite")
        with full_precision(z) as z:
            return self.join(self.levels(z))

    def decode(self, indices):
        self.check_indices(indices)
        return (indices.unsqueeze(-1) // self.places % 3 - 1).float()


def faults(cls):
    return "\n".join(map(str, conformance.check(cls)))


def test_a_right_method_of_a_stranger_passes():
    assert faults(Ternary) == ""


def test_constant_output_is_named():
    class Constant(Ternary):
        def levels(self, z):
            return torch.zeros_like(z)

    assert "constant output" in faults(Constant)


def test_wrong_k_too_few_codes_is_named():
    class Short(Ternary):
        def decode(self, indices):
            return super().decode(indices).abs()

    assert "wrong K: 729 codes are declared, but only 64 code vectors are distinct" in faults(Short)


def test_wrong_k_index_beyond_is_named():
    class Beyond(Ternary):
        def __init__(self):
            super().__init__()
            self.codebook_size = 100

    assert "wrong K: encode gave indices" in faults(Beyond)


def test_cut_gradient_is_named():
    class Cut(Ternary):
        def forward(self, z):
            out = super().forward(z)
            return out._replace(vectors=out.vectors.detach())

    class Zero(Ternary):
        def forward(self, z):
            out = super().forward(z)
            return out._replace(vectors=out.vectors.detach() + 0 * z)

    assert "gradient cut: the vectors do not depend on z" in faults(Cut)
    assert "gradient cut: dL/dz is zero" in faults(Zero)


def test_nondeterminism_is_named():
    class Noisy(Ternary):
        def levels(self, z):
            return super().levels(z + 0.5 * torch.randn_like(z))

    class Unseeded(Ternary):
        def __init__(self):
            super().__init__()
            self.register_buffer("shift", torch.rand(6))

    text = faults(Noisy)
    assert "nondeterminism: encode gave two different results" in text and "torch's global generator" in text
    assert "different fingerprints" in faults(Unseeded)


def test_nan_is_named():
    class Nan(Ternary):
        def forward(self, z):
            out = super().forward(z)
            norm = z.norm(dim=-1, keepdim=True)
            return out._replace(vectors=out.vectors + (norm / norm - 1))

    assert "NaN or infinity in vectors for inputs of size 0" in faults(Nan)


def test_a_codebook_that_never_moves_is_named():
    """Trap 21: a published VQ baseline had no way to learn its codebook."""

    class Dead(Ternary):
        def __init__(self):
            super().__init__()
            self.codes = nn.Parameter(torch.zeros(3))

    text = faults(Dead)
    assert "learnable not moving: 'codes' is declared learnable" in text


def test_what_moves_undeclared_is_named():
    class Counting(Ternary):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, z):
            self.seen += 1
            return super().forward(z)

    text = faults(Counting)
    assert "'seen' moved in a training step, but is not in `learnable`" in text
    assert "['seen'] moved in eval mode" in text


def test_inexact_straight_through_is_named():
    from latticebench.quantizers.random import Random

    class Rounding(Random):
        def forward(self, z):
            out = super().forward(z)
            return out._replace(vectors=z + (out.vectors - z).detach())

    assert "write straight-through as q + (z - z.detach())" in faults(lambda: Rounding(Rounding.Parameters()))


def test_a_decode_that_skips_a_projection_is_named():
    """Trap 20: a published SimVQ decodes rows of its frozen basis."""
    from latticebench.quantizers.simvq import SimVQ

    class Skipping(SimVQ):
        def decode(self, indices):
            return self.basis[indices]

    text = faults(lambda: Skipping(Skipping.Parameters(codebook_size=32)))
    assert "decode(encode(z)) differs from forward(z).vectors in 96 of 96 rows" in text


def test_a_sphere_code_off_the_sphere_is_named():
    """Trap 22: a published "BSQ" was not on the sphere."""
    from latticebench.quantizers.bsq import BSQ

    class Off(BSQ):
        def __init__(self, parameters):
            super().__init__(parameters)
            self.scale = 1.0

    assert "code vectors have norms" in faults(lambda: Off(Off.Parameters(dim=8)))


def test_codes_under_autocast_are_named():
    """Trap 17: nearest neighbour under autocast picks other codes."""
    from latticebench.quantizers.random import Random

    class Low(Random):
        def _nearest(self, z):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return (z.bfloat16() @ self.points.t().bfloat16()).argmax(-1)

        def encode(self, z):
            return self._nearest(z) if torch.is_autocast_enabled("cpu") else super()._nearest(z)

    text = faults(lambda: Low(Low.Parameters(codebook_size=4096)))
    assert "autocast changes the codes" in text


def test_state_outside_the_state_dict_is_named():
    class Hidden(Ternary):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, z):
            self.calls += self.training
            out = super().forward(z)
            return out._replace(vectors=out.vectors + self.calls)

    assert "some state lives outside the state dict" in faults(Hidden)


def test_an_exception_is_a_finding_and_stops_nothing():
    class Broken(Ternary):
        def encode(self, z):
            raise RuntimeError("on purpose")

    findings = conformance.check(Broken)
    assert any("raised RuntimeError: on purpose" in finding.message for finding in findings)
    assert len(conformance.check(Broken, only=["declares_itself"])) == 0
