"""What the `losses` part of a configuration says."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Perceptual:
    """weight: 0 for none. net: trunk of LPIPS."""

    weight: float = 0.0
    net: Literal["vgg", "alex"] = "vgg"


@dataclasses.dataclass(frozen=True)
class Discriminator:
    """channel_base, channel_max, minibatch_std: of stylegan2. base, layers: of patchgan."""

    architecture: Literal["stylegan2", "patchgan"] = "stylegan2"
    channel_base: int = 16384
    channel_max: int = 512
    minibatch_std: int = 4
    base: int = 64
    layers: int = 3


@dataclasses.dataclass(frozen=True)
class R1:
    """weight: γ of the gradient penalty, 0 for none. every: steps between two of them."""

    weight: float = 10.0
    every: int = 16


@dataclasses.dataclass(frozen=True)
class Gan:
    """weight: 0 for none. start, ramp: first step with a discriminator, and steps over which the weight then rises."""

    weight: float = 0.0
    loss: Literal["softplus", "hinge"] = "softplus"
    adaptive: bool = False
    start: int = 0
    ramp: int = 0
    discriminator: Discriminator = dataclasses.field(default_factory=Discriminator)
    r1: R1 = dataclasses.field(default_factory=R1)


@dataclasses.dataclass(frozen=True)
class Alignment:
    """weight: 0 for none. The margins are what costs nothing."""

    weight: float = 0.0
    adaptive: bool = True
    cosine_margin: float = 0.5
    distance_margin: float = 0.25


@dataclasses.dataclass(frozen=True)
class Options:
    """clamp: reconstructions are clamped to [0, 1] before the losses. l1: its weight."""

    clamp: bool = False
    l1: float = 1.0
    perceptual: Perceptual = dataclasses.field(default_factory=Perceptual)
    gan: Gan = dataclasses.field(default_factory=Gan)
    alignment: Alignment = dataclasses.field(default_factory=Alignment)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Options":
        """From a configuration's `losses` part; missing keys take the defaults."""
        gan = dict(values.get("gan", {}))
        discriminator, r1 = Discriminator(**gan.pop("discriminator", {})), R1(**gan.pop("r1", {}))
        return cls(
            clamp=values.get("clamp", False),
            l1=values.get("l1", 1.0),
            perceptual=Perceptual(**values.get("perceptual", {})),
            gan=Gan(**gan, discriminator=discriminator, r1=r1),
            alignment=Alignment(**values.get("alignment", {})),
        )
