"""What a tokenizer's training lowers: the sum of a recipe's losses, and the discriminator's side of the game."""

from collections.abc import Mapping

from torch import Tensor, nn

from latticebench import seeding
from latticebench.tokenizers.base import Output, Tokenizer, device_of
from latticebench.tokenizers.losses.l1 import l1
from latticebench.tokenizers.losses.options import Discriminator, Options
from latticebench.training.loop import Losses, seeded


class Objective:
    """The losses of a recipe around one tokenizer, on its device and in its precision.

    paths: files of networks by the names of `evaluation.weights`, where they lie elsewhere than in checkpoints/.
    companions: what is trained beside the tokenizer. Raises Missing where a recipe's network has not been fetched,
    and BadInput where the tokenizer's images do not suit it.
    """

    def __init__(
        self, options: Options, tokenizer: Tokenizer, seed: int, paths: Mapping[str, str | None] | None = None
    ) -> None:
        self.options = options
        self.tokenizer = tokenizer
        self.companions: dict[str, nn.Module] = {}
        device, dtype = device_of(tokenizer), next(tokenizer.parameters()).dtype
        self.perceptual: nn.Module | None = None
        with seeded(seeding.derive(seed, "losses")):
            if options.perceptual.weight:
                from latticebench.tokenizers.losses import perceptual

                self.perceptual = perceptual.load(options.perceptual.net, tokenizer.image_size, paths)
                self.perceptual.to(device, dtype)
            if options.gan.weight:
                self.companions["discriminator"] = _discriminator(options.gan.discriminator, tokenizer.image_size)
            if options.alignment.weight:
                from latticebench.tokenizers.losses import alignment

                margins = options.alignment.cosine_margin, options.alignment.distance_margin
                self.companions["alignment"] = alignment.load(tokenizer.quantizer.dim, *margins, paths, device)
        for companion in self.companions.values():
            companion.to(device, dtype)
        self._game: tuple[Tensor, Tensor] | None = None

    def losses(self, images: Tensor, output: Output, step: int) -> Losses:
        """`loss` of one batch and its parts. images: (B, 3, H, W) in [0, 1], of the tokenizer's dtype."""
        options, quantized = self.options, output.quantized
        fake = output.images.to(images.dtype)
        if options.clamp:
            fake = fake.clamp(0, 1)
        distance = l1(fake, images, self.tokenizer.pixel_unit)
        parts = Losses(l1=distance.detach())
        loss = options.l1 * distance
        if self.perceptual is not None:
            perceptual = self.perceptual(fake, images).mean()
            parts["perceptual"] = perceptual.detach()
            loss = loss + options.perceptual.weight * perceptual
        pixels = loss
        loss = loss + quantized.loss
        if "alignment" in self.companions:
            loss = loss + self._alignment(quantized.vectors, images, pixels, parts)
        self._game = None
        if "discriminator" in self.companions and step >= options.gan.start:
            loss = loss + self._generator(fake, images, pixels, step, parts)
        terms = {f"term/{key}": value for key, value in quantized.terms.items()}
        return Losses(loss=loss, **parts, quantizer=quantized.loss.detach(), **terms)

    def discriminate(self, step: int, share: float) -> Losses:
        """The discriminator's backward pass on the images and reconstructions of the last `losses`.

        Its loss counts `share` times. Returns scalars for the log; empty while there is no game.
        """
        if self._game is None:
            return Losses()
        from latticebench.tokenizers.losses import gan

        options, discriminator = self.options.gan, self.companions["discriminator"]
        real, fake = self._game
        self._game = None
        verdicts = discriminator(real), discriminator(fake)
        loss = gan.discriminator_loss(*verdicts, options.loss)
        result = Losses(
            {
                "gan/discriminator": loss.detach(),
                "gan/real": verdicts[0].detach().mean(),
                "gan/fake": verdicts[1].detach().mean(),
            }
        )
        if options.r1.weight and step % options.r1.every == 0:
            penalty = gan.gradient_penalty(discriminator, real, options.r1.weight, options.r1.every)
            result["gan/r1"] = penalty.detach()
            loss = loss + penalty
        (loss * share).backward()
        return result

    def _generator(self, fake: Tensor, images: Tensor, pixels: Tensor, step: int, parts: Losses) -> Tensor:
        from latticebench.tokenizers.losses import gan

        options, discriminator = self.options.gan, self.companions["discriminator"]
        self._game = images * 2 - 1, fake.detach() * 2 - 1
        # Its parameters are the other player's: no gradient of this loss may reach them.
        discriminator.requires_grad_(False)
        loss = gan.generator_loss(discriminator(fake * 2 - 1), options.loss)
        discriminator.requires_grad_(True)
        weight = options.weight * gan.share(step, options.start, options.ramp)
        parts["gan/generator"] = loss.detach()
        if options.adaptive:
            ratio = gan.adaptive_weight(pixels, loss, self.tokenizer.pixel_layer)
            parts["gan/adaptive"] = ratio
            loss = ratio * loss
        return weight * loss

    def _alignment(self, latents: Tensor, images: Tensor, pixels: Tensor, parts: Losses) -> Tensor:
        from latticebench.tokenizers.losses import alignment, gan

        options = self.options.alignment
        loss = self.companions["alignment"](latents, images)
        parts["alignment"] = loss.detach()
        if options.adaptive:
            ratio = gan.adaptive_weight(pixels, loss, self.tokenizer.latent_layer, alignment.MOST)
            parts["alignment/adaptive"] = ratio
            loss = ratio * loss
        return options.weight * loss


def _discriminator(options: Discriminator, side: int) -> nn.Module:
    if options.architecture == "patchgan":
        from latticebench.tokenizers.losses.patchgan import PatchDiscriminator

        return PatchDiscriminator(options.base, options.layers)
    from latticebench.tokenizers.losses.stylegan2 import StyleGAN2Discriminator

    return StyleGAN2Discriminator(side, options.channel_base, options.channel_max, options.minibatch_std)
