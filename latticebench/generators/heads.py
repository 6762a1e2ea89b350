"""Losses of prediction heads: one softmax over up to hundreds of thousands of codes, or one a digit.

The full head never holds all logits. A few tokens at a time, logits become their own gradient in place and are
multiplied into those of the features and the weights at once, so that nothing is computed twice: Wijmans et al.,
"Cut your losses in large-vocabulary language models" (arXiv:2411.09009) and the Liger kernels (arXiv:2410.10989),
here in plain torch. Where Liger is installed, its kernel does the softmax of a tile on a CUDA device: not measured on
a GPU, proven in Triton's interpreter (TRITON_INTERPRET=1).
Z-loss, z·(log Z)²: Chowdhery et al., PaLM (arXiv:2204.02311), section 5.
"""

import functools
import importlib.util
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 2**26
"""Logits in memory at a time, at most: 256 MiB in float32."""
CACHED, ROWS = 2**22, 256
"""On a CPU no more than CACHED logits, which stay in its cache, unless those are of fewer than ROWS tokens."""
CAST_AT_ONCE = 2**24
"""Weights that are brought to another type at a time."""

Backend = Literal["auto", "torch", "liger"]


class HeadLoss(NamedTuple):
    """loss: scalar, nats a token, mean over tokens, with the Z-loss; the only one with a gradient.

    log_z: log partition functions in nats, (n,), or (n, digits) of a factorised head.
    nll: negative log-likelihood of each token in nats, (n,), without the Z-loss.
    """

    loss: Tensor
    log_z: Tensor
    nll: Tensor


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    z_weight: float = 0.0,
    tile: int = TILE,
    backend: Backend = "auto",
) -> HeadLoss:
    """F.cross_entropy(F.linear(hidden, weight, bias), targets) + z_weight·mean((log Z)²), in little memory.

    hidden (n, width), weight (K, width), bias (K,), targets (n,) int64 in [0, K). Sums are float32, or float64 for
    float64 input, under autocast too; the gradients of bfloat16 weights are summed in a float32 copy. Beyond the
    gradients it holds `tile` logits. Raises ValueError on shapes that do not fit and, on the CPU, IndexError on a target
    outside.
    """
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1] or targets.shape != hidden.shape[:1]:
        shapes = [tuple(t.shape) for t in (hidden, weight, targets)]
        raise ValueError(f"hidden (n, width), weight (K, width) and targets (n,) expected, got {shapes}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be ({len(weight)},), got {tuple(bias.shape)}")
    if not len(targets):
        raise ValueError("the loss of no tokens is not defined")
    if not targets.is_cuda and (int(targets.min()) < 0 or int(targets.max()) >= len(weight)):
        raise IndexError(f"targets lie in [0, {len(weight)}), got {int(targets.min())} to {int(targets.max())}")
    if backend == "auto":
        precise = torch.float64 in (hidden.dtype, weight.dtype)  # Liger sums in float32
        backend = "liger" if hidden.is_cuda and not precise and _has_liger() else "torch"
    grads = torch.is_grad_enabled()
    return HeadLoss(*_LinearCrossEntropy.apply(hidden, weight, bias, targets, z_weight, tile, backend, grads))


def digit_cross_entropy(logits: Tensor, sizes: tuple[int, ...], targets: Tensor, *, z_weight: float = 0.0) -> HeadLoss:
    """A factorised head: the sum of its digits' cross-entropies, each with its own Z-loss.

    logits (n, Σ sizes), targets (n, digits) int64. Where only some digit strings are codes this is the likelihood of
    the string, an upper bound of the code's nats.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    parts = [logits.unflatten(-1, (len(sizes), sizes[0]))] if len(set(sizes)) == 1 else None
    if parts is None:
        parts = [part.unsqueeze(1) for part in logits.split(sizes, dim=-1)]
    log_z = torch.cat([part.logsumexp(dim=-1) for part in parts], dim=1)
    starts = torch.tensor([sum(sizes[:i]) for i in range(len(sizes))], device=logits.device)
    nll = (log_z - logits.gather(1, targets + starts)).sum(dim=1)
    loss = nll.mean()
    if z_weight:
        loss = loss + z_weight * log_z.square().sum(dim=1).mean()
    return HeadLoss(loss, log_z.detach(), nll.detach())


class _LinearCrossEntropy(torch.autograd.Function):
    """Gradients are made in the forward pass and handed out in the first backward pass; a later one makes them anew."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        z_weight: float,
        tile: int,
        backend: str,
        grads: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.settings = (z_weight, tile, backend, _low_precision(hidden))
        ctx.save_for_backward(hidden, weight, bias, targets)
        wanted = tuple(grads and needed for needed in ctx.needs_input_grad[:3])
        loss, log_z, nll, ctx.gradients = _run(hidden, weight, bias, targets, *ctx.settings, wanted)
        ctx.mark_non_differentiable(log_z, nll)
        return loss, log_z, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            gradients = _run(hidden, weight, bias, targets, *ctx.settings, ctx.needs_input_grad[:3])[3]
        # In place: a scaled copy would double the memory. On a GPU, looking whether it is 1 would wait for it.
        scaled = upstream.is_cuda or float(upstream) != 1
        result: list[Tensor | None] = []
        for i, like in enumerate((hidden, weight, bias)):
            gradient, gradients[i] = gradients[i], None
            if gradient is not None and scaled:
                gradient.mul_(upstream)
            result.append(None if gradient is None else gradient.to(like.dtype))
        return (*result, *(None,) * 5)


def _run(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    z_weight: float,
    tile: int,
    backend: str,
    low: torch.dtype | None,
    wanted: tuple[bool, ...],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor | None]]:
    """Loss, log Z, likelihoods, and the gradients of hidden, weight and bias of which `wanted` is true."""
    softmax = _softmax_liger if backend == "liger" else _softmax
    kind = torch.float64 if torch.float64 in (hidden.dtype, weight.dtype) else torch.float32
    given = kind if low is None or not hidden.is_cuda else low  # a CPU's own bfloat16 products round their results
    n, codes = len(hidden), len(weight)
    log_z, nll = hidden.new_empty(n, dtype=kind), hidden.new_empty(n, dtype=kind)
    likes = (hidden, weight, bias)
    gradients = [torch.zeros_like(t, dtype=kind) if w else None for t, w in zip(likes, wanted, strict=True)]
    block = codes if weight.dtype == given else max(1, CAST_AT_ONCE // weight.shape[1])
    blocks = [slice(start, min(codes, start + block)) for start in range(0, codes, block)]
    at_once = max(1, tile // codes)
    if not hidden.is_cuda:
        at_once = min(at_once, max(ROWS, CACHED // codes))
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        room = hidden.new_empty(min(n, at_once), codes, dtype=kind)
        for start in range(0, n, at_once):
            rows = slice(start, min(n, start + at_once))
            x, logits = hidden[rows].to(given), room[: rows.stop - start]
            for b in blocks:
                _product(x, weight[b].to(given).t(), kind, logits[:, b])
            if bias is not None:
                logits += bias
            log_z[rows], nll[rows] = softmax(logits, targets[rows], n, z_weight, any(wanted))
            for b in blocks if any(wanted) else ():
                slope = logits[:, b].to(given)
                if gradients[0] is not None:
                    gradients[0][rows] += _product(slope, weight[b].to(given), kind)
                if gradients[1] is not None:
                    _add_product(gradients[1][b], slope.t(), x)
            if gradients[2] is not None:
                gradients[2] += logits.sum(dim=0)
        loss = nll.mean() + z_weight * log_z.square().mean()
    return loss, log_z, nll, gradients


def _softmax(logits: Tensor, targets: Tensor, n: int, z_weight: float, slopes: bool) -> tuple[Tensor, Tensor]:
    """Logits (m, K) -> log Z (m,) and likelihoods (m,); in place, the logits become their slopes of the mean loss."""
    largest = logits.amax(dim=1, keepdim=True)
    at = targets[:, None]
    picked = logits.gather(1, at)
    total = logits.sub_(largest).exp_().sum(dim=1, keepdim=True)
    log_z = largest + total.log()
    if slopes:
        logits.mul_((1 + 2 * z_weight * log_z) / (n * total))
        logits.scatter_add_(1, at, torch.full_like(picked, -1 / n))
    return log_z[:, 0], (log_z - picked)[:, 0]


def _softmax_liger(logits: Tensor, targets: Tensor, n: int, z_weight: float, slopes: bool) -> tuple[Tensor, Tensor]:
    """As `_softmax`, by Liger's kernel: one pass over the logits to read them and one to write their slopes."""
    import triton
    from liger_kernel.ops.cross_entropy import liger_cross_entropy_kernel
    from liger_kernel.ops.fused_linear_cross_entropy import MAX_FUSED_SIZE

    m, codes = logits.shape
    picked = logits.gather(1, targets[:, None])[:, 0]
    loss, z_loss = torch.zeros_like(picked), torch.zeros_like(picked)
    liger_cross_entropy_kernel[(m,)](
        X_ptr=logits,
        X_stride=logits.stride(0),
        Y_ptr=targets,
        Y_stride=targets.stride(0),
        weight_ptr=None,
        loss_ptr=loss,
        z_loss_ptr=z_loss,
        loss_stride=1,
        token_accuracy_ptr=None,
        token_accuracy_stride=0,
        predicted_tokens_ptr=None,
        predicted_tokens_stride=0,
        n_cols=codes,
        n_non_ignore=n,
        sum_non_ignore_weight=n,
        weight_sum=0.0,
        ignore_index=-100,
        lse_square_scale=z_weight,
        label_smoothing=0.0,
        reduction="mean",
        softcap=None,
        RETURN_Z_LOSS=True,
        RETURN_TOKEN_ACCURACY=False,
        RETURN_PREDICTED_TOKENS=False,
        HAS_WEIGHT=False,
        HAS_SOFTCAPPING=False,
        HAS_GRADIENTS=slopes,
        BLOCK_SIZE=min(MAX_FUSED_SIZE, triton.next_power_of_2(codes)),
        num_warps=32,
    )
    nll = (loss - z_loss) * n
    return nll + picked, nll


def _product(a: Tensor, b: Tensor, kind: torch.dtype, out: Tensor | None = None) -> Tensor:
    """a @ b with sums and result of type `kind`."""
    if a.dtype == kind:
        return torch.mm(a, b, out=out)
    result = torch.mm(a, b, out_dtype=kind)
    return result if out is None else out.copy_(result)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b in the type of the total."""
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += torch.mm(a, b, out_dtype=total.dtype)


def _low_precision(hidden: Tensor) -> torch.dtype | None:
    """The type of products: autocast's, or that of the features where it is a short one."""
    if torch.is_autocast_enabled(hidden.device.type):
        return torch.get_autocast_dtype(hidden.device.type)
    return hidden.dtype if hidden.dtype in (torch.bfloat16, torch.float16) else None


@functools.cache
def _has_liger() -> bool:
    return importlib.util.find_spec("liger_kernel") is not None
