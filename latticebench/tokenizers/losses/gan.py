"""The adversarial game: Goodfellow et al., arXiv:1406.2661, with the terms that image tokenizers use.

R1 is that of Mescheder et al., arXiv:1801.04406, eq. 9, taken lazily as in StyleGAN2 (arXiv:1912.04958,
lazy regularization); the adaptive weight is eq. 7 of VQGAN (arXiv:2012.09841).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ADAPTIVE_EPS, ADAPTIVE_MOST = 1e-4, 1e4


def generator_loss(verdicts: Tensor, kind: str) -> Tensor:
    """What the autoencoder lowers, from verdicts on reconstructions: softplus(−f), or with `hinge` −f."""
    return F.softplus(-verdicts).mean() if kind == "softplus" else -verdicts.mean()


def discriminator_loss(real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """What the discriminator lowers, from its verdicts: the mean of both sides' softplus or hinge."""
    if kind == "softplus":
        return (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2
    return (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2


def gradient_penalty(discriminator: nn.Module, images: Tensor, weight: float, every: int) -> Tensor:
    """R1: weight/2 · every · E‖∇D(images)‖², for one step in `every`. images (B, 3, H, W) in [-1, 1]."""
    images = images.detach().requires_grad_()
    with torch.autocast(images.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    return weight / 2 * every * gradient.square().sum((1, 2, 3)).mean()


def share(step: int, start: int, ramp: int) -> float:
    """The part of its weight that the game has at a step: 0 before `start`, then rising to 1 over `ramp` steps."""
    if step < start:
        return 0.0
    return min(1.0, (step - start) / ramp) if ramp else 1.0


def adaptive_weight(loss: Tensor, other: Tensor, layer: Tensor, most: float = ADAPTIVE_MOST) -> Tensor:
    """‖∂loss/∂layer‖ / (‖∂other/∂layer‖ + ε), detached: what brings `other` to the size of `loss` at a layer.

    Both scalars keep their graphs. Under a process group each process has the ratio of its own rows.
    """
    first, second = (torch.autograd.grad(value, layer, retain_graph=True)[0].float().norm() for value in (loss, other))
    return (first / (second + ADAPTIVE_EPS)).clamp(0, most).detach()
