"""A generator from the `generation` options of a subject, its tokenizer and its tokens' class list."""

from typing import Any

from torch import nn

from latticebench import generator_entries, seeding
from latticebench.errors import BadInput
from latticebench.generators.next_scale import NextScaleGenerator, NextScaleParameters, NextScaleTransformer
from latticebench.generators.raster_generator import RasterGenerator, TokenRasterParameters, TokenRasterTransformer
from latticebench.training.loop import seeded

Generator = RasterGenerator | NextScaleGenerator


def build(options: dict[str, Any], tokenizer: nn.Module, classes: dict[str, Any] | None, seed: int) -> Generator:
    """A model with seeded initial weights. options: the `generation` part of a specification. classes: see Tokens.

    Raises BadInput on options that do not fit the tokenizer or the class list.
    """
    model = options["model"]
    count = class_count(options, classes)
    quantizer = tokenizer.quantizer
    sizes = _digit_sizes(options, quantizer)
    kind = "none" if classes is None else classes["kind"]
    with seeded(seeding.derive(seed, "weights")):
        if model["family"] == "raster":
            if len(tokenizer.scales) != 1:
                raise BadInput(
                    f"model.family raster models one grid, the tokenizer has {len(tokenizer.scales)} scales; use next-scale"
                )
            raster = TokenRasterParameters(
                latent=quantizer.dim,
                digit_sizes=sizes,
                side=tokenizer.scales[0],
                width=model["width"],
                layers=model["layers"],
                heads=model["heads"],
                classes=count,
                class_drop=model["class_drop"],
            )
            return RasterGenerator(TokenRasterTransformer(raster), tokenizer, kind)
        if len(tokenizer.scales) == 1:
            raise BadInput("model.family next-scale needs a multi-scale tokenizer, this one has one scale; use raster")
        scaled = NextScaleParameters(
            latent=quantizer.dim,
            digit_sizes=sizes,
            sides=tuple(tokenizer.scales),
            width=model["width"],
            layers=model["layers"],
            heads=model["heads"],
            classes=count,
            positions=model["positions"],
            shared_norm=model["shared_norm"],
            class_drop=model["class_drop"],
        )
        return NextScaleGenerator(NextScaleTransformer(scaled), tokenizer, kind)


def class_count(options: dict[str, Any], classes: dict[str, Any] | None) -> int:
    """Classes of the model, 0 where it is told nothing. Raises BadInput where model.classes is not the list's number."""
    count = 0 if classes is None else classes["count"]
    asked = options["model"]["classes"]
    if asked is not None and asked != count:
        raise BadInput(f"model.classes is {asked}, the class list of the tokens has {count}; leave it out")
    return count


def _digit_sizes(options: dict[str, Any], quantizer: Any) -> tuple[int, ...]:
    if options["head"]["kind"] == "digits":
        if len(quantizer.digit_sizes) < 2:
            raise BadInput(f"head.kind digits: a code of {quantizer.name} has no digits; use full")
        return tuple(quantizer.digit_sizes)
    generator_entries.check_memory("generation", quantizer.codebook_size, options)
    return (quantizer.codebook_size,)
