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
from typing import Any, Protocol

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


def train(task: Task, options: Options, saving: Saving, identity: dict[str, str]) -> Result:
    """Trains `task.model` in place, going on from the newest checkpoint of the same identity.

    Raises BadInput on a checkpoint of another run; LatticebenchError on a loss that is not finite (naming the
    step), a full disk, or SIGTERM or SIGINT (after writing a checkpoint).
    """
    model = task.model
    device = next(model.parameters()).device
    state = checkpoint.newest(saving.folder, identity)
    if state is None:
        task.initialize()
    optimizer = AdamW(model.parameters(), options.betas, options.weight_decay)
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


class _Run:
    """The state of a running training beside the model."""

    def __init__(
        self,
        task: Task,
        options: Options,
        optimizer: AdamW,
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
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            losses = self.task.losses(step, step / options.steps)
        loss = losses["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        limit = options.clip_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
        finite = torch.isfinite(loss.detach()) & torch.isfinite(norm)
        self._bad_step = torch.where(~finite & (self._bad_step < 0), step, self._bad_step)
        logged = step % options.log_every == 0 or step + 1 == options.steps
        if logged or self.device.type == "cpu":
            self.check_finite()
        self.optimizer.step()
        if logged:
            row = {"step": step, **{key: float(value.detach()) for key, value in losses.items()}}
            self.rows.append(row | {"grad_norm": float(norm), "lr": options.rate(step), "seconds": self.seconds()})

    def check_finite(self) -> None:
        """Raises LatticebenchError naming the first step whose loss or gradient is not finite."""
        step = int(self._bad_step)
        if step >= 0:
            raise LatticebenchError(
                f"{self.task.name}: the loss or its gradient is not finite at step {step}; lower the learning rate or"
                " tokenizer.training.clip_norm, or look at the terms in the log of a shorter run"
            )

    def state(self, step: int, identity: dict[str, str]) -> checkpoint.State:
        return checkpoint.State(
            step=step,
            seconds=self.seconds(),
            model=self.task.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            random=torch.get_rng_state(),
            rows=self.rows,
            identity=identity,
            fingerprint=self.task.fingerprint(),
        )


def _restore(task: Task, optimizer: AdamW, state: checkpoint.State, folder: Path) -> None:
    try:
        task.model.load_state_dict(state.model)
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
