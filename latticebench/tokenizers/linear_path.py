"""A linear way beside the transformers: patch PCA in, least squares out, both trained on from there.

A small transformer learns in its first minutes little more than blurred means. Here the encoder starts
as the principal components of the training patches and the decoder as the least-squares answer to the
quantized components, so the transformers (zero at first) only add what linear maps cannot do. Four
choices matter with a few bits a token:

- the image's mean patch enters at a share, since every token carries it and the decoder averages over all;
- one random rotation mixes the components, so that quantizers that treat each axis alone share the energy
  evenly among their axes (distances do not notice);
- each place of the grid shifts the latent by its own random offset, so that equal patches get unequal
  quantization errors, which average out (a dither), and so that quantizers that see directions only are
  told magnitudes: around an offset, size turns into angle. The decoder takes each place's mean code off;
- the decoder's linear map sees each token, the mean of its 3 x 3 neighbours and the mean of the image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latticebench import seeding
from latticebench.quantizers import Quantizer

MEAN_SHARE = 0.5
SPECTRUM_POWER = 0.25
"""Component i is scaled by (its variance)^-power: 0 keeps the spectrum, 0.5 whitens."""
OFFSET = 0.5
"""Standard deviation of the offsets in units of the latent's."""
RIDGE = 1e-3


class LinearPath(nn.Module):
    """Linear encoder of patches (B, h·w, P) to latents (B, h·w, d), and linear decoder back."""

    def __init__(self, patch_values: int, dim: int, grid: int, seed: int) -> None:
        super().__init__()
        self.grid = grid
        self.seed = seed
        self.encoder = nn.Linear(patch_values, dim)
        self.decoder = nn.Linear(3 * dim, patch_values)
        offsets = torch.randn(grid * grid, dim, generator=seeding.generator(seed, "offsets"))
        self.offsets = nn.Parameter(OFFSET * offsets)
        self.centres = nn.Parameter(torch.zeros(grid * grid, dim))

    def encode(self, patches: Tensor, h: int, w: int) -> Tensor:
        """patches (B, h·w, P) -> latents (B, h·w, d)."""
        return self.encoder(_attenuated(patches)) + self._placed(self.offsets, h, w)

    def centre(self, vectors: Tensor, h: int, w: int) -> Tensor:
        """Code vectors (B, h·w, d) less the mean code of their place."""
        return vectors - self._placed(self.centres, h, w)

    def decode(self, centred: Tensor, h: int, w: int) -> Tensor:
        """What `centre` gives -> patches (B, h·w, P)."""
        return self.decoder(_context(centred, h, w))

    @torch.no_grad()
    def initialize(self, patches: Tensor, quantizer: Quantizer, quantized_images: int) -> None:
        """Principal components in, least squares on the quantizer's answers out.

        patches (N, h·w, P) of training images on the full grid; the first `quantized_images` of them are quantized,
        which is also the first batch of quantizers that start from their data.
        """
        grid, dim = self.grid, quantizer.dim
        inputs = _attenuated(patches).double()
        mean = inputs.mean((0, 1))
        flat = (inputs - mean).reshape(-1, inputs.shape[-1])
        variances, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
        variances, vectors = variances.flip(0)[:dim], vectors.flip(1)[:, :dim]
        # The sign of an eigenvector is the library's whim.
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        scale = variances.clamp(min=1e-8) ** -SPECTRUM_POWER
        scale = scale / (variances * scale.square()).mean().sqrt()
        components = F.pad((vectors * scale).T, (0, 0, 0, dim - len(variances)))
        weight = _rotation(dim, self.seed).to(components) @ components
        self.encoder.weight.copy_(weight)
        self.encoder.bias.copy_(-weight @ mean)

        chosen = patches[:quantized_images]
        latents = self.encode(chosen, grid, grid)
        quantizer.train()
        quantizer(latents)
        quantizer.eval()
        codes = quantizer(latents).vectors.to(latents.dtype)
        quantizer.train()
        self.centres.copy_(codes.mean(0))
        features = _context(self.centre(codes, grid, grid), grid, grid).reshape(-1, 3 * dim).double()
        features = F.pad(features, (0, 1), value=1.0)
        gram = features.T @ features
        ridge = RIDGE * gram.trace() / len(gram) * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        solution = torch.linalg.solve(gram + ridge, features.T @ chosen.reshape(-1, chosen.shape[-1]).double())
        self.decoder.weight.copy_(solution[:-1].T)
        self.decoder.bias.copy_(solution[-1])

    def _placed(self, values: Tensor, h: int, w: int) -> Tensor:
        """Entries a place (grid·grid, …) for an h x w map: the grid tiled, where the map is larger."""
        if (h, w) == (self.grid, self.grid):
            return values
        rows = torch.arange(h, device=values.device) % self.grid
        columns = torch.arange(w, device=values.device) % self.grid
        return values[(rows[:, None] * self.grid + columns).flatten()]


def _rotation(dim: int, seed: int) -> Tensor:
    draw = seeding.generator(seed, "rotation")
    return torch.linalg.qr(torch.randn(dim, dim, generator=draw, dtype=torch.float64))[0]


def _attenuated(patches: Tensor) -> Tensor:
    return patches + (MEAN_SHARE - 1) * patches.mean(1, keepdim=True)


def _context(tokens: Tensor, h: int, w: int) -> Tensor:
    """tokens (B, h·w, d) -> (B, h·w, 3d): each token, its neighbours' mean, the image's mean."""
    grid = tokens.reshape(len(tokens), h, w, -1).permute(0, 3, 1, 2)
    near = F.avg_pool2d(grid, 3, stride=1, padding=1, count_include_pad=False)
    near = near.permute(0, 2, 3, 1).reshape(tokens.shape)
    return torch.cat([tokens, near, tokens.mean(1, keepdim=True).expand_as(tokens)], dim=-1)
