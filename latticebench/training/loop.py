"""The training loop under everything that is trained here.

A task says what a batch is and what it costs; the loop owns the optimizer, the schedule, precision,
clipping, the log, checkpoints and signals. On the CPU a resumed run ends with the same bits as an
unbroken one: data and augmentation come from the step (`sampling`), all other state from the checkpoint.
"""

import contextlib
import dataclasses
import logging
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latticebench.errors import BadInput, LatticebenchError
from latticebench.training import checkpoint
from latticebench.training.adamw import AdamW
from latticebench.training.options import Options

log = logging.getLogger(__name__)

CHECKPOINT_SHARE = 0.02
"""Checkpoints may take this share of the wall time, so large models save less often than asked."""


class Losses(dict[str, Tensor]):
    """Named scalars of a step for the log; `loss` is the one that is minimised."""


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
    # losses(step, progress, part) -> Losses
    #     the rows of `part` only; asked for where a batch is split, see `Part`.
    # after_backward(step, progress, share) -> Losses
    #     runs the companions' backward pass on the same rows, with their loss times `share`, and returns further
    #     scalars for the log. Gradients of the model that it leaves behind are the task's fault.


class Part(NamedTuple):
    """A contiguous share of a step's batch: rows `index`·B/`count` to (`index` + 1)·B/`count`."""

    index: int
    count: int

    def rows(self, batch_size: int) -> range:
        """The rows of a batch. Raises BadInput where the parts are not equal."""
        if batch_size % self.count:
            raise BadInput(f"training.batch_size: {batch_size} is no multiple of its {self.count} parts")
        size = batch_size // self.count
        return range(self.index * size, (self.index + 1) * size)


WHOLE = Part(0, 1)


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


@dataclasses.dataclass(frozen=True)
class Saving:
    """When running checkpoints are written; neither changes a result. `steps` None: by time alone."""

    folder: Path
    seconds: float = 5.0
    steps: int | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """rows: the log, one dict a logged step. seconds: of training, interrupted parts included."""

    rows: list[dict[str, float]]
    seconds: float
    resumed_from: int | None


class Diverged(LatticebenchError):
    """A loss or gradient that is not finite. step: the first such one. rows, seconds: log and time until then."""

    def __init__(self, message: str, step: int, rows: list[dict[str, float]], seconds: float) -> None:
        super().__init__(message)
        self.step, self.rows, self.seconds = step, rows, seconds


def train(task: Task, options: Options, saving: Saving, identity: dict[str, str]) -> Result:
    """Trains `task.model` in place, going on from the newest checkpoint of the same identity.

    Raises BadInput on a checkpoint of another run; Diverged on a loss that is not finite; LatticebenchError on a full
    disk, or SIGTERM or SIGINT (after writing a checkpoint).
    """
    model = task.model
    device = next(model.parameters()).device
    state = checkpoint.newest(saving.folder, identity)
    if state is None:
        task.initialize()
    optimizer = _optimizer(task, options)
    start, seconds, rows = 0, 0.0, []
    if state is not None:
        start, seconds, rows = state.step, state.seconds, list(state.rows)
        _restore(task, optimizer, state, saving.folder)
        log.info("%s: going on from step %d", task.name, start)
    run = _Run(task, options, optimizer, device, rows, seconds)
    model.train()
    with _Stop() as stop, tqdm(total=options.steps, initial=start, desc=task.name, unit="step", mininterval=2) as bar:
        saved = time.perf_counter()
        wait = saving.seconds
        for step in range(start, options.steps):
            run.step(step)
            bar.update()
            done = step + 1
            due = time.perf_counter() - saved > wait or (saving.steps is not None and done % saving.steps == 0)
            if stop.signal or (due and done < options.steps):
                run.check_finite()
                before = time.perf_counter()
                checkpoint.save(saving.folder, run.state(done, identity))
                saved = time.perf_counter()
                wait = max(saving.seconds, (saved - before) / CHECKPOINT_SHARE)
            if stop.signal:
                raise LatticebenchError(
                    f"{task.name}: stopped by {stop.signal} at step {done} of {options.steps}; run again to go on"
                )
    run.check_finite()
    model.eval()
    return Result(rows, run.seconds(), state.step if state else None)


def _companions(task: Task) -> dict[str, nn.Module]:
    return getattr(task, "companions", {})


def _optimizer(task: Task, options: Options) -> Optimizer:
    if hasattr(task, "make_optimizer"):
        return task.make_optimizer(options)
    modules = (task.model, *_companions(task).values())
    return AdamW([p for m in modules for p in m.parameters()], options.betas, options.weight_decay)


class _Run:
    """The state of a running training beside the model."""

    def __init__(
        self,
        task: Task,
        options: Options,
        optimizer: Optimizer,
        device: torch.device,
        rows: list[dict[str, float]],
        seconds: float,
    ) -> None:
        self.task, self.options, self.optimizer, self.device, self.rows = task, options, optimizer, device, rows
        self.autocast = options.autocast(device)
        self._before = seconds
        self._start = time.perf_counter()
        # On the device, so that looking for a bad loss does not stop it in every step.
        self._bad_step = torch.full((), -1, device=device)

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def step(self, step: int) -> None:
        options, model = self.options, self.task.model
        self.optimizer.rate = options.rate(step)
        self.optimizer.zero_grad()
        losses = self._backward(step)
        loss = losses["loss"]
        limit = options.clip_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
        norms = {"grad_norm": norm}
        for name, companion in _companions(self.task).items():
            norms[f"grad_norm/{name}"] = nn.utils.clip_grad_norm_(companion.parameters(), limit)
            norm = norm + norms[f"grad_norm/{name}"]
        finite = torch.isfinite(loss.detach()) & torch.isfinite(norm)
        self._bad_step = torch.where(~finite & (self._bad_step < 0), step, self._bad_step)
        logged = step % options.log_every == 0 or step + 1 == options.steps
        if logged or self.device.type == "cpu":
            self.check_finite()
        self.optimizer.step()
        if logged:
            row = {"step": step, **{key: float(value.detach()) for key, value in losses.items()}}
            row |= {key: float(value) for key, value in norms.items()}
            self.rows.append(row | {"lr": options.rate(step), "seconds": self.seconds()})

    def _backward(self, step: int) -> Losses:
        """Adds up the gradients of all parts of the batch; the losses are means over them."""
        progress = step / self.options.steps
        count = self.options.accumulate
        total = Losses()
        for index in range(count):
            part = Part(index, count)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                losses = self.task.losses(step, progress, *([] if part == WHOLE else [part]))
            (losses["loss"] if part == WHOLE else losses["loss"] / count).backward()
            if hasattr(self.task, "after_backward"):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                    losses |= self.task.after_backward(step, progress, 1 / count)
            if part == WHOLE:
                return losses
            for key, value in losses.items():
                total[key] = total.get(key, 0) + value.detach() / count
        return total

    def check_finite(self) -> None:
        """Raises Diverged naming the first step whose loss or gradient is not finite."""
        step = int(self._bad_step)
        if step >= 0:
            raise Diverged(
                f"{self.task.name}: the loss or its gradient is not finite at step {step}; lower the learning rate or"
                " training.clip_norm, or look at the terms in the log of a shorter run",
                step,
                self.rows,
                self.seconds(),
            )

    def state(self, step: int, identity: dict[str, str]) -> checkpoint.State:
        return checkpoint.State(
            step=step,
            seconds=self.seconds(),
            model=_state(self.task),
            optimizer=self.optimizer.state_dict(),
            random=torch.get_rng_state(),
            rows=self.rows,
            identity=identity,
            fingerprint=self.task.fingerprint(),
        )


def _state(task: Task) -> dict[str, Tensor]:
    """Of the model, and of its companions behind their names."""
    result = dict(task.model.state_dict())
    for name, companion in _companions(task).items():
        result |= {f"{name}:{key}": value for key, value in companion.state_dict().items()}
    return result


def _load(task: Task, state: dict[str, Tensor]) -> None:
    state = dict(state)
    for name, companion in _companions(task).items():
        own = {key: state.pop(key) for key in list(state) if key.startswith(f"{name}:")}
        companion.load_state_dict({key.removeprefix(f"{name}:"): value for key, value in own.items()})
    task.model.load_state_dict(state)


def _restore(task: Task, optimizer: Optimizer, state: checkpoint.State, folder: Path) -> None:
    try:
        _load(task, state.model)
        optimizer.load_state_dict(state.optimizer)
    except (RuntimeError, ValueError, KeyError) as error:
        raise BadInput(
            f"the checkpoints in {folder} do not fit this model: {error}; delete them to start again"
        ) from error
    if task.fingerprint() != state.fingerprint:
        raise BadInput(
            f"the checkpoints in {folder} hold quantizer {state.fingerprint[:12]}, this version builds"
            f" {task.fingerprint()[:12]} from the same state; delete them to start again"
        )
    torch.set_rng_state(state.random)


class _Stop(contextlib.AbstractContextManager["_Stop"]):
    """Notes SIGTERM and SIGINT instead of dying, so that the step in hand ends and a checkpoint is written."""

    def __init__(self) -> None:
        self.signal: str | None = None
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "_Stop":
        # Python sets signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._old = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: Any) -> None:
        self.signal = signal.Signals(number).name


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws inside the block come from `seed` and leave the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
