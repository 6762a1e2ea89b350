"""What the loop trains, and what it trains it with."""

from typing import NamedTuple, Protocol

from torch import Tensor, nn

from latticebench.errors import BadInput


class Losses(dict[str, Tensor]):
    """Named scalars of a step for the log; `loss` is the one that is minimised."""


class Part(NamedTuple):
    """A contiguous share of a step's batch: rows `index`·B/`count` to (`index` + 1)·B/`count`."""

    index: int
    count: int

    def rows(self, batch_size: int) -> range:
        """The rows of a batch. Raises BadInput where the parts are not equal."""
        if batch_size % self.count:
            raise BadInput(
                f"training.batch_size: {batch_size} is no multiple of {self.count}, the product of the number of"
                " processes and training.accumulate"
            )
        size = batch_size // self.count
        return range(self.index * size, (self.index + 1) * size)


WHOLE = Part(0, 1)


class Task(Protocol):
    """What the loop trains. Everything that `state_dict` of `model` does not hold must be a function of the step."""

    model: nn.Module
    name: str

    def initialize(self) -> None:
        """Sets what depends on the data, before step 0; not called when resuming."""

    def losses(self, step: int, progress: float) -> Losses:
        """Forward pass of one step; `progress` is the share of steps done."""

    def fingerprint(self) -> str:
        """Of the model in its present state: compared after a resume."""

    # A task may also have:
    #
    # make_optimizer(options) -> Optimizer
    #     instead of AdamW over `model` and the companions.
    # companions: dict[str, nn.Module]
    #     modules that are trained beside the model (a discriminator): in every checkpoint, clipped apart.
    # compiled: list[nn.Module]
    #     what training.compile compiles, instead of the whole model.
    # losses(step, progress, part) -> Losses
    #     the rows of `part` only; asked for where a batch is split, see `Part`.
    # after_backward(step, progress, share) -> Losses
    #     runs the companions' backward pass on the same rows, with their loss times `share`, and returns further
    #     scalars for the log. Gradients of the model that it leaves behind are the task's fault.


class Optimizer(Protocol):
    """What moves the parameters; `rate` is set before each step."""

    rate: float

    def zero_grad(self) -> None:
        """Forgets all gradients."""

    def step(self) -> None:
        """One update of every parameter that has a gradient."""

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors only."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Raises KeyError or ValueError where the state is of other parameters."""


def companions(task: Task) -> dict[str, nn.Module]:
    """What is trained beside the task's model."""
    return getattr(task, "companions", {})


def modules(task: Task) -> dict[str, nn.Module]:
    """All that is trained, by name; the model's is empty."""
    return {"": task.model, **companions(task)}
