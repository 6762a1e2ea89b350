"""PatchGAN: Isola et al., arXiv:1611.07004, section 3.2.2, as VQGAN (arXiv:2012.09841) uses it."""

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] -> verdicts (B, 1, h, w), one a patch.

    base: channels of the first layer. layers: convolutions that halve the resolution. Batch norms see the batch of
    their own process.
    """

    def __init__(self, base: int = 64, layers: int = 3) -> None:
        super().__init__()
        modules: list[nn.Module] = [nn.Conv2d(3, base, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = base
        for i in range(1, layers + 1):
            wider = base * min(2**i, 8)
            stride = 2 if i < layers else 1
            modules += [nn.Conv2d(width, wider, 4, stride=stride, padding=1, bias=False), nn.BatchNorm2d(wider)]
            modules.append(nn.LeakyReLU(0.2))
            width = wider
        modules.append(nn.Conv2d(width, 1, 4, padding=1))
        self.layers = nn.Sequential(*modules)
        self.apply(_initialize)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
