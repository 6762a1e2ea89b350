"""What every quantizer must do: the contract of `base.py` as named checks, for methods of this package and of others.

    from latticebench.quantizers import conformance
    for finding in conformance.check(lambda: MyQuantizer(MyQuantizer.Parameters())):
        print(finding)

A check takes a factory, a function without arguments that makes the quantizer afresh and the same each
time, and yields one message for each fault it sees. `CHECKS` lists them by name.
"""

import copy
import dataclasses
import math
import re
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from latticebench.quantizers.base import MAX_INDEX_SIZE, Quantized, Quantizer

Factory = Callable[[], Quantizer]
Check = Callable[[Factory], Iterator[str]]

TOKENS = 96
LARGEST_TABLE = 2**20


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fault: the check that saw it, and what is wrong in words."""

    check: str
    message: str

    def __str__(self) -> str:
        return f"{self.check}: {self.message}"


CHECKS: dict[str, Check] = {}


def check(factory: Factory, only: list[str] | None = None) -> list[Finding]:
    """Runs all checks, or those named in `only`; an empty list means that the quantizer keeps the contract.

    An exception inside a check is a finding too, and does not stop the others.
    """
    findings = []
    for name in only if only is not None else CHECKS:
        try:
            findings += [Finding(name, message) for message in CHECKS[name](factory)]
        except Exception as error:
            findings.append(Finding(name, f"raised {type(error).__name__}: {error}"))
    return findings


def _named(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


def _tokens(quantizer: Quantizer, count: int = TOKENS, seed: int = 0) -> Tensor:
    """Standard normal vectors (count, d) from a generator of their own."""
    return torch.randn(count, quantizer.dim, generator=torch.Generator().manual_seed(seed))


def _some_indices(quantizer: Quantizer, count: int = 256) -> Tensor:
    size = min(quantizer.codebook_size, MAX_INDEX_SIZE)
    drawn = torch.randint(size, (count,), generator=torch.Generator().manual_seed(1))
    return torch.cat([torch.tensor([0, size - 1]), drawn])


def _indexed(quantizer: Quantizer) -> bool:
    return quantizer.quantizes and quantizer.codebook_size <= MAX_INDEX_SIZE


def _codes(quantizer: Quantizer, z: Tensor) -> Tensor:
    """Indices (...), or digits (..., n) where K is too large for indices; z itself where nothing is quantized."""
    if not quantizer.quantizes:
        return quantizer(z).vectors
    return quantizer.encode(z) if _indexed(quantizer) else quantizer.encode_digits(z)


def _vectors(quantizer: Quantizer, codes: Tensor) -> Tensor:
    if not quantizer.quantizes:
        return codes
    return quantizer.decode(codes) if _indexed(quantizer) else quantizer.decode_digits(codes)


def _state(quantizer: Quantizer) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in quantizer.state_dict().items()}


def _changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def _train_one_step(quantizer: Quantizer, z: Tensor) -> Quantized:
    """A forward and backward pass in training mode and one step of plain gradient descent."""
    quantizer.train()
    out = quantizer(z.clone().requires_grad_())
    # Not a function of the vectors alone: some methods learn by the loss, others by the vectors.
    (out.loss + (out.vectors * _tokens(quantizer, len(z), seed=7).to(out.vectors)).mean()).backward()
    with torch.no_grad():
        for parameter in quantizer.parameters():
            if parameter.requires_grad and parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    return out


@_named
def declares_itself(factory: Factory) -> Iterator[str]:
    """Name, title, reference, dimension, K and bits are there and agree."""
    q = factory()
    for attribute in ("name", "title"):
        if not isinstance(getattr(q, attribute, None), str) or not getattr(q, attribute):
            yield f"class attribute `{attribute}` must be a non-empty string"
    if len(getattr(q, "reference", ())) != 3:
        yield "class attribute `reference` must be Reference(paper, year, url)"
    if not dataclasses.is_dataclass(getattr(q, "Parameters", None)):
        yield "class attribute `Parameters` must be a dataclass"
    if not isinstance(q.dim, int) or q.dim < 1:
        yield f"`dim` must be a positive int, got {q.dim!r}"
    if not isinstance(q.codebook_size, int):
        yield f"`codebook_size` must be an exact int, got {type(q.codebook_size).__name__}"
    elif q.quantizes and q.codebook_size < 2:
        yield f"`codebook_size` is {q.codebook_size}; a quantizer has at least two codes"
    elif q.quantizes and abs(q.bits - math.log2(q.codebook_size)) > 1e-9:
        yield f"`bits` is {q.bits}, but log2 of K = {q.codebook_size} is {math.log2(q.codebook_size)}"


@_named
def shapes_and_types(factory: Factory) -> Iterator[str]:
    """vectors (..., d) float32, indices (...) int64, loss and terms scalars; for any leading shape."""
    q = factory().eval()
    for shape in ((2, 3, 4), (7,), ()):
        z = _tokens(q, math.prod(shape)).reshape(*shape, q.dim)
        out = q(z)
        if out.vectors.shape != z.shape:
            yield f"z of shape {tuple(z.shape)} gave vectors of shape {tuple(out.vectors.shape)}"
        if out.vectors.dtype != torch.float32:
            yield f"float32 z gave {out.vectors.dtype} vectors"
        if out.loss.shape != ():
            yield f"the loss must be a scalar tensor, got shape {tuple(out.loss.shape)}"
        for name, term in out.terms.items():
            if term.shape != () or term.requires_grad:
                yield f"term {name!r} must be a detached scalar"
        if not _indexed(q):
            if out.indices is not None:
                yield "indices must be None where there are none in int64"
            continue
        if out.indices.shape != shape or out.indices.dtype != torch.int64:
            yield f"indices must be int64 of shape {shape}, got {out.indices.dtype} {tuple(out.indices.shape)}"
        if q.decode(out.indices).shape != z.shape:
            yield f"decode gave shape {tuple(q.decode(out.indices).shape)} for {tuple(z.shape)}"


@_named
def decode_of_encode_is_forward(factory: Factory) -> Iterator[str]:
    """decode(encode(z)) equals forward(z).vectors bit for bit, in training too (against the state before the update)."""
    q = factory()
    if not q.quantizes:
        return
    for mode in ("eval", "training"):
        q.train(mode == "training")
        if mode == "training":
            q(_tokens(q, seed=3))  # a first batch may start the codebook
        z = _tokens(q)
        codes = _codes(q, z)
        vectors = _vectors(q, codes)
        out = q(z)
        wrong = int((out.vectors != vectors).any(dim=-1).sum())
        if wrong:
            gap = float((out.vectors - vectors).abs().max())
            yield (
                f"in {mode} mode decode(encode(z)) differs from forward(z).vectors in {wrong} of {len(z)} rows "
                f"(by up to {gap:.2g}); write straight-through as q + (z - z.detach()), and decode what forward uses"
            )
        if out.indices is not None and not torch.equal(out.indices, codes):
            yield f"in {mode} mode forward(z).indices differs from encode(z)"


@_named
def codebook_is_as_declared(factory: Factory) -> Iterator[str]:
    """Wrong K: indices in [0, K), K distinct code vectors, the table equal to decode, out-of-range indices refused."""
    q = factory().eval()
    if not _indexed(q):
        return
    indices = q.encode(_tokens(q))
    if int(indices.min()) < 0 or int(indices.max()) >= q.codebook_size:
        yield f"wrong K: encode gave indices {int(indices.min())} to {int(indices.max())}, but K is {q.codebook_size}"
        return
    for bad in (-1, q.codebook_size):
        try:
            q.decode(torch.tensor([bad]))
            yield f"decode accepted index {bad}, which lies outside [0, {q.codebook_size}); call check_indices"
        except IndexError:
            pass
    try:
        q.decode(torch.tensor([0.0]))
        yield "decode accepted float indices; they lose codes from 25 bits on, so only int64 is right"
    except TypeError:
        pass
    if q.codebook_size > LARGEST_TABLE:
        return
    table = q.codebook()
    if table.shape != (q.codebook_size, q.dim):
        yield f"wrong K: codebook() has shape {tuple(table.shape)}, declared are K = {q.codebook_size}, d = {q.dim}"
        return
    some = _some_indices(q)
    if not torch.equal(table[some], q.decode(some)):
        yield "codebook() and decode() differ"
    distinct = _distinct(table)
    if distinct != q.codebook_size:
        yield f"wrong K: {q.codebook_size} codes are declared, but only {distinct} code vectors are distinct"


def _distinct(table: Tensor) -> int:
    # A random projection tells rows apart at the price of a sort; only a tie there needs the slow answer.
    line = torch.randn(table.shape[1], generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    distinct = len((table.double() @ line).unique())
    return distinct if distinct == len(table) else len(table.unique(dim=0))


@_named
def norms_are_as_declared(factory: Factory) -> Iterator[str]:
    """A method that normalises z has code vectors of unit length."""
    q = factory().eval()
    if not q.quantizes or not q.normalize:
        return
    norms = _vectors(q, _codes(q, _tokens(q))).norm(dim=-1)
    if float((norms - 1).abs().max()) > 1e-5:
        yield f"it normalises z, but code vectors have norms {float(norms.min()):.4g} to {float(norms.max()):.4g}, not 1"


@_named
def output_depends_on_input(factory: Factory) -> Iterator[str]:
    """Constant output: different vectors get different codes."""
    q = factory().eval()
    z = _tokens(q)
    out = q(z).vectors
    if bool((out == out[:1]).all()):
        yield f"constant output: {len(z)} different random inputs all gave the same vector"


@_named
def preimages_return(factory: Factory) -> Iterator[str]:
    """encode(preimage(i)) == i, or `idempotent = False` with a reason."""
    q = factory().eval()
    if not q.idempotent:
        if not q.idempotent_reason:
            yield "`idempotent` is False without a reason in `idempotent_reason`"
        return
    if not _indexed(q):
        return
    indices = _some_indices(q)
    wrong = int((q.encode(q.preimage(indices)) != indices).sum())
    if wrong:
        yield f"encode(preimage(i)) != i for {wrong} of {len(indices)} indices"


@_named
def digits_are_consistent(factory: Factory) -> Iterator[str]:
    """Digits lie within their sizes and lead back; strings that are no code are refused."""
    q = factory().eval()
    if not q.quantizes:
        return
    sizes = q.digit_sizes
    if math.prod(sizes) < q.codebook_size:
        yield f"wrong K: digits of sizes {sizes} cannot name {q.codebook_size} codes"
    z = _tokens(q)
    digits = q.encode_digits(z)
    if digits.shape != (len(z), len(sizes)) or digits.dtype != torch.int64:
        yield f"encode_digits must give int64 {(len(z), len(sizes))}, got {digits.dtype} {tuple(digits.shape)}"
        return
    if bool(((digits < 0) | (digits >= torch.tensor(sizes))).any()):
        yield f"a digit lies outside its size {sizes}"
    if not torch.equal(q.decode_digits(digits), q(z).vectors):
        yield "decode_digits(encode_digits(z)) differs from forward(z).vectors"
    if _indexed(q):
        indices = _some_indices(q)
        if not torch.equal(q.from_digits(q.to_digits(indices)), indices):
            yield "from_digits(to_digits(i)) != i"
    else:
        for call in (lambda: q.encode(z), lambda: q.decode(torch.tensor([0]))):
            try:
                call()
                yield f"K = 2^{q.bits:.0f} exceeds int64, but encode or decode did not raise OverflowError"
            except OverflowError:
                pass
    for bad in (torch.tensor([sizes]), digits[:1] - digits[:1] - 1):
        try:
            q.decode_digits(bad)
            yield f"decode_digits accepted the invalid digits {bad[0].tolist()[:4]}"
        except ValueError:
            pass


@_named
def gradient_reaches_input(factory: Factory) -> Iterator[str]:
    """Gradient cut: dL/dz of the vectors is there, finite, and not zero."""
    q = factory().train()
    q(_tokens(q, seed=3))
    z = _tokens(q).requires_grad_()
    vectors = q(z).vectors
    if not vectors.requires_grad:
        yield "gradient cut: the vectors do not depend on z for autograd; use straight_through(q, z)"
        return
    (vectors * _tokens(q, seed=4)).sum().backward()
    if z.grad is None:
        yield "gradient cut: no gradient reaches z"
    elif not bool(torch.isfinite(z.grad).all()):
        yield "the gradient to z holds NaN or infinity"
    elif int((z.grad.abs().amax(dim=-1) > 0).sum()) < len(z) / 2:
        yield f"gradient cut: dL/dz is zero for {int((z.grad.abs().amax(dim=-1) == 0).sum())} of {len(z)} tokens"


@_named
def learnable_moves_and_nothing_else(factory: Factory) -> Iterator[str]:
    """One training step moves exactly the entries named in `learnable`; a pass in eval mode moves nothing."""
    q = factory()
    unknown = q.learnable - set(q.state_dict())
    if unknown:
        yield f"`learnable` names {sorted(unknown)}, which the state dict does not hold"
    before = _state(q.eval())
    q(_tokens(q))
    moved = _changed(before, _state(q))
    if moved:
        yield f"{sorted(moved)} moved in eval mode"
    before = _state(q)
    _train_one_step(q, _tokens(q))
    moved = _changed(before, _state(q))
    for name in sorted(q.learnable - moved - unknown):
        yield f"learnable not moving: {name!r} is declared learnable, but a training step left it as it was"
    for name in sorted(moved - q.learnable):
        yield f"{name!r} moved in a training step, but is not in `learnable`"
    dead = [name for name, p in q.named_parameters() if p.requires_grad and name not in q.learnable]
    if dead:
        yield f"parameters {dead} require a gradient but are not in `learnable`"


@_named
def is_deterministic(factory: Factory) -> Iterator[str]:
    """Nondeterminism: equal inputs give equal results, whatever the global random state, and leave that state alone."""
    torch_state = torch.get_rng_state()
    try:
        results, drew = [], False
        for seed in (0, 1):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            q = factory().train()
            out = _train_one_step(q, _tokens(q))
            results.append((q.fingerprint, out.vectors.detach(), out.loss.detach(), _codes(q.eval(), _tokens(q))))
            drew |= not torch.equal(before, torch.get_rng_state())
        if drew:
            yield "nondeterminism: it draws from torch's global generator; use latticebench.seeding.generator"
        first, second = results
        if first[0] != second[0]:
            yield "nondeterminism: two instances from the same parameters have different fingerprints"
        if not all(torch.equal(a, b) for a, b in zip(first[1:], second[1:], strict=True)):
            yield "nondeterminism: two runs from the same parameters and input gave different results"
    finally:
        torch.set_rng_state(torch_state)
    q = factory().eval()
    z = _tokens(q)
    if not torch.equal(_codes(q, z), _codes(q, z)):
        yield "nondeterminism: encode gave two different results for the same input"


@_named
def results_are_finite(factory: Factory) -> Iterator[str]:
    """NaN: finite inputs, small, large and zero, give finite vectors, losses, terms and gradients."""
    q = factory()
    for mode in ("eval", "training"):
        q.train(mode == "training")
        for scale in (1.0, 1e-4, 1e4, 0.0):
            z = (_tokens(q) * scale).requires_grad_()
            out = q(z)
            for name, value in {"vectors": out.vectors, "loss": out.loss, **out.terms}.items():
                if not bool(torch.isfinite(value).all()):
                    yield f"NaN or infinity in {name} for inputs of size {scale:g} in {mode} mode"
            total = out.vectors.sum() + out.loss
            if total.requires_grad:
                total.backward()
                if z.grad is not None and not bool(torch.isfinite(z.grad).all()):
                    yield f"NaN or infinity in the gradient for inputs of size {scale:g} in {mode} mode"


@_named
def takes_empty_and_single_input(factory: Factory) -> Iterator[str]:
    """No token and one token, in both modes."""
    for training in (False, True):
        for shape in ((0,), (2, 0), (1,)):
            q = factory().train(training)
            z = _tokens(q, math.prod(shape)).reshape(*shape, q.dim).requires_grad_()
            out = q(z)
            (out.vectors.sum() + out.loss).backward()
            if out.vectors.shape != z.shape:
                yield f"z of shape {tuple(z.shape)} gave vectors of shape {tuple(out.vectors.shape)}"
            if not bool(torch.isfinite(out.loss)):
                yield f"the loss of z of shape {tuple(z.shape)} is {float(out.loss.detach())}"
            if _vectors(q, _codes(q, z.detach())).shape != z.shape:
                yield f"encode and decode change the shape {tuple(z.shape)}"
            broken = [name for name, t in q.state_dict().items() if not bool(torch.isfinite(t.double()).all())]
            if broken:
                yield f"{broken} hold NaN after z of shape {tuple(z.shape)}"


@_named
def state_dict_round_trip(factory: Factory) -> Iterator[str]:
    """A state dict loaded into a fresh instance goes on exactly where the first one stood."""
    q = factory()
    for seed in (0, 1):
        _train_one_step(q, _tokens(q, seed=seed))
        q.zero_grad()
    fresh = factory()
    fresh.load_state_dict(copy.deepcopy(q.state_dict()))
    z = _tokens(q, seed=2)
    if fresh.fingerprint != q.fingerprint:
        yield "the fingerprint is lost in a state-dict round trip"
    if not torch.equal(_codes(fresh.eval(), z), _codes(q.eval(), z)):
        yield "encode differs after a state-dict round trip"
    a, b = _train_one_step(q, z), _train_one_step(fresh, z)
    if not torch.equal(a.vectors, b.vectors) or _changed(_state(q), _state(fresh)):
        yield "a training step after a state-dict round trip differs: some state lives outside the state dict"


@_named
def fingerprint_names_the_codebook(factory: Factory) -> Iterator[str]:
    """64 hex digits that change when the code vectors do."""
    q = factory()
    before = q.fingerprint
    if not re.fullmatch(r"[0-9a-f]{64}", before):
        yield f"the fingerprint must be 64 hex digits, got {before!r}"
    if not _indexed(q) or q.codebook_size > LARGEST_TABLE:
        return
    table = q.codebook().clone()
    _train_one_step(q, _tokens(q))
    moved = not torch.equal(table, q.codebook())
    if moved and q.fingerprint == before:
        yield "the code vectors moved, but the fingerprint did not"
    if not moved and q.fingerprint != before:
        yield "the fingerprint changed, but no code vector did"


@_named
def precision_does_not_matter(factory: Factory) -> Iterator[str]:
    """Codes do not depend on autocast; half precision is raised to float32; float64 stays float64."""
    q = factory().eval()
    z = _tokens(q)
    codes = _codes(q, z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, out = _codes(q, z), q(z)
    if not torch.equal(inside, codes):
        yield f"autocast changes the codes of {int((inside != codes).sum())} tokens; search under full_precision(z)"
    if out.vectors.dtype != torch.float32:
        yield f"under autocast the vectors are {out.vectors.dtype}"
    for half in (torch.bfloat16, torch.float16):
        if not torch.equal(_codes(q, z.to(half)), _codes(q, z.to(half).float())):
            yield f"{half} input gives other codes than the same values in float32"
    out = q(z.double())
    if out.vectors.dtype != torch.float64:
        yield f"float64 z gave {out.vectors.dtype} vectors"
    elif q.quantizes and not torch.equal(_vectors(q, _codes(q, z.double())).double(), out.vectors):
        yield "for float64 z decode(encode(z)) differs from forward(z).vectors"


@_named
def layout_does_not_matter(factory: Factory) -> Iterator[str]:
    """Non-contiguous input gives the same codes, and no input is written to."""
    q = factory().eval()
    z = _tokens(q)
    wide = torch.stack([z, z], dim=-1).transpose(0, 1)[..., 0].t()
    if not torch.equal(_codes(q, wide), _codes(q, z)):
        yield "non-contiguous input gives other codes"
    kept = z.clone()
    q.train()(z)
    if not torch.equal(z, kept):
        yield "forward writes to its input"


@_named
def refuses_wrong_input(factory: Factory) -> Iterator[str]:
    """Integers and vectors of another dimension are refused; encode refuses NaN and infinity."""
    q = factory().eval()
    cases = {
        "integer z": torch.zeros(2, q.dim, dtype=torch.int64),
        "z of another dimension": torch.zeros(2, q.dim + 1),
    }
    for what, z in cases.items():
        try:
            q(z)
            yield f"forward accepted {what}; call check_input"
        except ValueError:
            pass
    if not q.quantizes:
        return
    for value in (math.nan, math.inf):
        try:
            _codes(q, torch.full((2, q.dim), value))
            yield f"encode accepted z of {value}, which has no nearest code"
        except ValueError:
            pass


@_named
def schedule_runs(factory: Factory) -> Iterator[str]:
    """set_progress takes [0, 1] and nothing else."""
    q = factory().train()
    for fraction in (0.0, 0.5, 1.0):
        q.set_progress(fraction)
        if not bool(torch.isfinite(q(_tokens(q)).loss)):
            yield f"the loss at progress {fraction} is not finite"
    for fraction in (-0.1, 1.1):
        try:
            q.set_progress(fraction)
            yield f"set_progress accepted {fraction}"
        except ValueError:
            pass


@_named
def devices_agree(factory: Factory) -> Iterator[str]:
    """On an accelerator, where there is one, results stay there and are near those of the CPU."""
    if not torch.cuda.is_available():
        return
    q = factory().eval()
    z = _tokens(q)
    here, there = q(z).vectors, copy.deepcopy(q).cuda()(z.cuda())
    if not there.vectors.is_cuda:
        yield "vectors of a CUDA input came back on another device"
    differ = int(((there.vectors.cpu() - here).abs().amax(dim=-1) > 1e-4).sum())
    if differ > len(z) // 20:
        yield f"{differ} of {len(z)} tokens get other code vectors on CUDA"
