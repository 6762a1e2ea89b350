"""A generator's training as a task of the training loop."""

from collections.abc import Callable
from typing import Any

from latticebench.generators import sampling as draws
from latticebench.generators.build import Generator
from latticebench.generators.roles import roles
from latticebench.generators.tokens import TokenSplit
from latticebench.training import sampling
from latticebench.training.optimizers import groups
from latticebench.training.options import Options
from latticebench.training.task import WHOLE, Losses, Optimizer, Part

FIRST_TOKENS = 2**22
"""Training tokens whose frequencies the head starts from, at most."""


class GeneratorTask:
    """Next-token cross-entropy of whole images of tokens, with the Z-loss where asked for.

    options: the `training` part of `generation`. keep: called before the first step after each of its snapshots.
    """

    def __init__(
        self,
        name: str,
        model: Generator,
        tokens: TokenSplit,
        options: dict[str, Any],
        class_drop: float,
        seed: int,
        keep: Callable[[int], None],
    ) -> None:
        self.name, self.model, self.tokens, self.options = name, model, tokens, options
        self.class_drop, self.seed, self.keep = class_drop, seed, keep
        self.snapshots = frozenset(options["snapshots"])
        self.device = next(model.parameters()).device

    def initialize(self) -> None:
        """The head starts from the codes' frequencies in images spread over the whole split."""
        count = max(1, FIRST_TOKENS // self.tokens.tokens.shape[1])
        rows = slice(None, None, -(-len(self.tokens) // count))
        self.model.start_from([each.to(self.device) for each in self.tokens.maps(rows)])

    def losses(self, step: int, progress: float, part: Part = WHOLE) -> Losses:
        """A batch, or a part of one. Nats a token: `loss`, `cross_entropy` (of each scale too) and |log Z|."""
        if step in self.snapshots and part.index == 0:  # the first process's first part
            self.keep(step)
        size = self.options["batch_size"]
        rows = part.rows(size)
        first = step * size + rows.start
        chosen = sampling.sample_indices(self.seed, first, len(rows), len(self.tokens))
        class_ids = self.tokens.class_ids(chosen)
        drop = None
        if class_ids is not None:
            class_ids = class_ids.to(self.device)
            drop = draws.class_drops(self.seed, first, len(rows), self.class_drop).to(self.device)
        maps = [each.to(self.device) for each in self.tokens.maps(chosen)]
        return Losses(self.model.loss(class_ids, maps, drop=drop, z_weight=self.options["z_weight"]))

    def make_optimizer(self, options: Options) -> Optimizer:
        """The optimizers that the options name, each for the parameters whose roles it may move."""
        values = self.options
        recipe = groups.Recipe(
            matrices=values["optimizer"],
            rest=values["others"] if values["optimizer"] in ("muon", "dion") else values["optimizer"],
            betas=options.betas,
            weight_decay=options.weight_decay,
            momentum=values["momentum"],
            rank_fraction=values["rank_fraction"],
            scaled_head=values["scaled_head"],
        )
        return groups.make(dict(self.model.named_parameters()), roles(self.model), recipe)

    def fingerprint(self) -> str:
        """Of the tokenizer whose tokens are modelled."""
        return self.model.tokenizer_fingerprint
