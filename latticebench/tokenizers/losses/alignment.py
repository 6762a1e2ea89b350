"""Alignment of the latent to DINOv2's features: the VF loss of VA-VAE, Yao et al., arXiv:2501.01423.

What is aligned are the code vectors, whose gradient reaches the encoder straight through: what a generator sees.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latticebench.nn import dinov2
from latticebench.weights import local

MOST = 1e8
"""Of the adaptive weight, as in the authors' code."""


class Alignment(nn.Module):
    """A learned projection of latents to DINOv2's width, and the two terms. The network of features is not a part."""

    def __init__(self, dim: int, features: dinov2.Network, cosine_margin: float, distance_margin: float) -> None:
        super().__init__()
        self.project = nn.Linear(dim, features.width, bias=False)
        self.cosine_margin, self.distance_margin = cosine_margin, distance_margin
        # In a list, so that neither checkpoints nor optimizers see its weights.
        self._features = [features]

    def forward(self, latents: Tensor, images: Tensor) -> Tensor:
        """latents (B, h, w, d), images (B, 3, H, W) in [0, 1] -> scalar."""
        h, w = latents.shape[1:3]
        z = F.normalize(self.project(latents).flatten(1, 2), dim=-1)
        f = F.normalize(self.features(images, h, w).to(z.dtype), dim=-1)
        return marginal_cosine(z, f, self.cosine_margin) + marginal_distances(z, f, self.distance_margin)

    @torch.no_grad()
    def features(self, images: Tensor, h: int, w: int) -> Tensor:
        """DINOv2's patch features at the latents' places: the images resized to h x w patches. (B, h·w, width)."""
        network = self._features[0]
        side = (h * network.patch, w * network.patch)
        resized = F.interpolate(images, side, mode="bicubic", antialias=True).clamp(0, 1)
        return network.patches(dinov2.normalised(resized.to(network.cls_token.dtype)))


def marginal_cosine(z: Tensor, f: Tensor, margin: float) -> Tensor:
    """Unit vectors (B, N, C) twice -> mean of max(0, 1 − margin − cos)."""
    return F.relu(1 - margin - (z * f).sum(-1)).mean()


def marginal_distances(z: Tensor, f: Tensor, margin: float) -> Tensor:
    """Unit vectors (B, N, C) twice -> mean of max(0, |cos zᵢzⱼ − cos fᵢfⱼ| − margin) over the pairs of an image."""
    return F.relu((z @ z.transpose(1, 2) - f @ f.transpose(1, 2)).abs() - margin).mean()


def load(
    dim: int,
    cosine_margin: float,
    distance_margin: float,
    paths: Mapping[str, str | None] | None = None,
    device: torch.device | str = "cpu",
) -> Alignment:
    """The loss with DINOv2's weights; its projection is drawn from the global random state.

    Raises Missing where the file is not there, BadInput where it is another one.
    """
    features = dinov2.load(local.find("dinov2-vitl14", (paths or {}).get("dinov2")).path).to(device)
    return Alignment(dim, features, cosine_margin, distance_margin)
