"""The rotation trick: Fifty et al., Restructuring Vector Quantization with the Rotation Trick, arXiv:2410.06424.

The forward value is q. The gradient is that of q̃ = λ R e (their section 4.2) with e the encoder's vector,
λ = ‖q‖/‖e‖ and R the rotation of ê = e/‖e‖ onto q̂ = q/‖q‖ in their plane, λ and R held constant:
R = I − 2 r rᵀ + 2 q̂ êᵀ with r = (ê + q̂)/‖ê + q̂‖. So dL/de = λ Rᵀ dL/dq.
"""

import torch
from torch import Tensor

from latticebench.quantizers.base import Reference, straight_through
from latticebench.quantizers.registry import register
from latticebench.quantizers.vq import VQ

_LEAST = 1e-6


@register
class RotationVQ(VQ):
    """`vq` with the gradient passed through the rotation and rescaling that carry z to its code vector.

    Where the rotation isn't defined (z or the code vector near 0, or opposite directions) the gradient is the
    usual straight-through one.
    """

    name = "rotation-vq"
    title = "Vector quantization, rotation trick"
    reference = Reference(
        "Fifty et al., Restructuring Vector Quantization with the Rotation Trick",
        2024,
        "https://arxiv.org/abs/2410.06424",
    )

    def _through(self, q: Tensor, z: Tensor) -> Tensor:
        return straight_through(q, rotated(z, q))


def rotated(e: Tensor, q: Tensor) -> Tensor:
    """λ R e, equal to q up to rounding, with λ and R constants to autograd. e and q (..., d)."""
    e0, q = e.detach(), q.detach()
    e_norm, q_norm = e0.norm(dim=-1, keepdim=True), q.norm(dim=-1, keepdim=True)
    e_unit, q_unit = e0 / e_norm.clamp(min=_LEAST), q / q_norm.clamp(min=_LEAST)
    middle = e_unit + q_unit
    middle_norm = middle.norm(dim=-1, keepdim=True)
    r = middle / middle_norm.clamp(min=_LEAST)
    reflected = e - 2 * r * (r * e).sum(dim=-1, keepdim=True)
    turned = reflected + 2 * q_unit * (e_unit * e).sum(dim=-1, keepdim=True)
    defined = (e_norm > _LEAST) & (q_norm > _LEAST) & (middle_norm > _LEAST)
    return torch.where(defined, turned * (q_norm / e_norm.clamp(min=_LEAST)), e)
