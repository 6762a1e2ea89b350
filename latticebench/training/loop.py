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
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latticebench.errors import BadInput, LatticebenchError
from latticebench.nn.checkpointing import set_gradient_checkpointing
from latticebench.quantizers.distributed import alone
from latticebench.training import checkpoint, diagnosis, distributed
from latticebench.training.adamw import AdamW
from latticebench.training.ema import Ema
from latticebench.training.log import TensorBoard
from latticebench.training.options import Options
from latticebench.training.task import WHOLE, Losses, Optimizer, Part, Task, companions, modules

log = logging.getLogger(__name__)

CHECKPOINT_SHARE = 0.02
"""Checkpoints may take this share of the wall time, so large models save less often than asked."""


class NotFinite(LatticebenchError):
    """A training whose loss or gradient stopped being finite. step: the first such one. rows: the log before it."""

    def __init__(self, message: str, step: int, rows: list[dict[str, float]]) -> None:
        super().__init__(message)
        self.step, self.rows = step, rows


@dataclasses.dataclass(frozen=True)
class Saving:
    """What is written while a training runs; none of it changes a result.

    folder, seconds, steps: of running checkpoints, and when; `steps` None: by time alone. tensorboard: folder of
    event files, None for none.
    """

    folder: Path
    seconds: float = 5.0
    steps: int | None = None
    tensorboard: Path | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """rows: the log, one dict a logged step. seconds: of training, interrupted parts included. ema: averaged weights."""

    rows: list[dict[str, float]]
    seconds: float
    resumed_from: int | None
    ema: dict[str, Tensor] | None = None


def train(task: Task, options: Options, saving: Saving, identity: dict[str, str]) -> Result:
    """Trains `task.model` in place, going on from the newest checkpoint of the same identity.

    Under torchrun every process calls it with the same arguments. Raises BadInput on a checkpoint of another run;
    LatticebenchError on a loss that is not finite (naming the step and the layer), a GPU out of memory, a full disk,
    or SIGTERM, SIGINT or SIGUSR1 (after writing a checkpoint).
    """
    model = task.model
    _check_parts(options)
    set_gradient_checkpointing(model, options.gradient_checkpointing)
    if options.compile:
        for module in getattr(task, "compiled", [model]):
            module.compile()
    state = checkpoint.newest(saving.folder, identity)
    start = state.step if state else 0
    if not distributed.same(start):
        raise LatticebenchError(f"{task.name}: the processes see different checkpoints in {saving.folder}")
    if state is None:
        # All processes look at the same data, so each has the answer by itself.
        with alone():
            task.initialize()
        distributed.spread(modules(task).values())
    run = _Run(task, options, saving, state)
    if state is not None:
        log.info("%s: going on from step %d", task.name, start)
    for module in modules(task).values():
        module.train()
    progress = tqdm(
        total=options.steps, initial=start, desc=task.name, unit="step", mininterval=2, disable=not distributed.first()
    )
    with _Stop() as stop, progress, contextlib.closing(run), _kept_buffers(options):
        for step in range(start, options.steps):
            run.step(step)
            progress.update()
            stopping = distributed.any_of(stop.signal is not None)
            run.save(step + 1, identity, at_once=stopping)
            if stopping:
                distributed.wait()
                raise LatticebenchError(
                    f"{task.name}: stopped by {stop.signal or 'a signal to another process'} at step {step + 1} of"
                    f" {options.steps}; run again to go on"
                )
    run.check_finite()
    for module in modules(task).values():
        module.eval()
    return Result(run.rows, run.seconds(), start if state else None, run.ema.values if run.ema else None)


@contextlib.contextmanager
def _kept_buffers(options: Options) -> Iterator[None]:
    """Adaptive weights go through a graph twice, so compiled code may not reuse what the first way needs again."""
    if not options.compile:
        yield
        return
    from torch._functorch import config

    with config.patch(donated_buffer=False):
        yield


def _check_parts(options: Options) -> None:
    Part(0, options.accumulate * distributed.size()).rows(options.batch_size)


def _optimizer(task: Task, options: Options) -> Optimizer:
    if hasattr(task, "make_optimizer"):
        return task.make_optimizer(options)
    return AdamW([p for m in modules(task).values() for p in m.parameters()], options.betas, options.weight_decay)


class _Run:
    """A running training: its optimizer, log and clock beside the model."""

    def __init__(self, task: Task, options: Options, saving: Saving, state: checkpoint.State | None) -> None:
        self.task, self.options, self.saving = task, options, saving
        self.device = next(task.model.parameters()).device
        self.autocast = options.autocast(self.device)
        self.optimizer = _optimizer(task, options)
        self.ema = Ema(task.model, options.ema) if options.ema else None
        self.rows: list[dict[str, float]] = []
        self._before = 0.0
        if state is not None:
            self.rows, self._before = list(state.rows), state.seconds
            _restore(task, self.optimizer, self.ema, state, saving.folder)
        self._board: TensorBoard | None = None
        if saving.tensorboard is not None and distributed.first():
            self._board = TensorBoard(saving.tensorboard, state.step if state else 0)
        self._start = self._saved = time.perf_counter()
        self._wait = saving.seconds
        # On the device, so that looking for a bad loss does not stop it in every step.
        self._bad_step = torch.full((), -1, device=self.device)

    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._start

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def step(self, step: int) -> None:
        try:
            self._step(step)
        except torch.OutOfMemoryError as error:
            raise LatticebenchError(
                f"{self.task.name}: the GPU is out of memory at step {step} ({str(error).splitlines()[0]}); raise"
                " training.accumulate (a batch in more parts), set training.gradient_checkpointing, or lower"
                " training.batch_size"
            ) from error

    def _step(self, step: int) -> None:
        options, model = self.options, self.task.model
        self.optimizer.rate = options.rate(step)
        self.optimizer.zero_grad()
        losses = self._backward(step)
        loss = losses["loss"]
        distributed.average_gradients(p for module in modules(self.task).values() for p in module.parameters())
        limit = options.clip_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
        norms = {"grad_norm": norm}
        for name, companion in companions(self.task).items():
            norms[f"grad_norm/{name}"] = nn.utils.clip_grad_norm_(companion.parameters(), limit)
            norm = norm + norms[f"grad_norm/{name}"]
        finite = torch.isfinite(loss.detach()) & torch.isfinite(norm)
        self._bad_step = torch.where(~finite & (self._bad_step < 0), step, self._bad_step)
        logged = step % options.log_every == 0 or step + 1 == options.steps
        if logged or self.device.type == "cpu":
            self.check_finite()
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(step)
        if logged:
            values = {key: float(value.detach()) for key, value in losses.items()}
            row = {"step": step, **distributed.averaged(values)}
            row |= {key: float(value) for key, value in norms.items()}
            self.rows.append(row | {"lr": options.rate(step), "seconds": self.seconds()})
            if self._board is not None:
                self._board.add(self.rows[-1])

    def _parts(self) -> list[Part]:
        """This process's parts of a batch, in turn; the parts of all processes in one turn are neighbours."""
        count, processes = self.options.accumulate, distributed.size()
        return [Part(turn * processes + distributed.rank(), count * processes) for turn in range(count)]

    def _forward(self, step: int, part: Part) -> Losses:
        progress = step / self.options.steps
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return self.task.losses(step, progress, *([] if part == WHOLE else [part]))

    def _checked_forward(self, step: int, part: Part) -> Losses:
        """The forward pass; raises NotFinite where it ends in a ValueError because a layer is not finite."""
        try:
            return self._forward(step, part)
        except ValueError as error:
            # An exact search refuses NaN, so there is no loss to look at. A second run tells that from other errors.
            layer = self._layer(step, part)
            if layer is None:
                raise
            first = int(self._bad_step)
            raise self._not_finite(first if first >= 0 else step, layer) from error

    def _backward(self, step: int) -> Losses:
        """Adds up the gradients of all parts of the batch; the losses are means over them."""
        parts = self._parts()
        if len(parts) == 1:
            losses = self._checked_forward(step, parts[0])
            losses["loss"].backward()
            return Losses(losses | self._after(step, 1.0))
        total = Losses()
        for part in parts:
            losses = self._checked_forward(step, part)
            (losses["loss"] / len(parts)).backward()
            for key, value in (losses | self._after(step, 1 / len(parts))).items():
                total[key] = total.get(key, 0) + value.detach() / len(parts)
        return total

    def _after(self, step: int, share: float) -> Losses:
        if not hasattr(self.task, "after_backward"):
            return Losses()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return self.task.after_backward(step, step / self.options.steps, share)

    def check_finite(self) -> None:
        """Raises LatticebenchError naming the first step whose loss or gradient is not finite, and the layer."""
        step = int(self._bad_step)
        if step < 0:
            return
        raise self._not_finite(step, self._layer(step, self._parts()[0]))

    def _layer(self, step: int, part: Part) -> str | None:
        """Runs a bad step again; the training is over. Raises what the forward pass does where all layers are finite."""
        self.optimizer.zero_grad()
        stance = torch.compiler.set_stance("force_eager") if self.options.compile else contextlib.nullcontext()
        with stance:
            return diagnosis.first_not_finite(self.task, lambda: self._forward(step, part))

    def _not_finite(self, step: int, layer: str | None) -> NotFinite:
        where = f" (first in {layer})" if layer else ""
        # Tokenizers, generators and priors each have a training section of their own.
        cure = "lower the learning rate or training.clip_norm"
        if not self.options.clip_norm:
            cure = "lower the learning rate, turn training.clip_norm on (0 is off)"
        return NotFinite(
            f"{self.task.name}: the loss or its gradient is not finite at step {step}{where}; {cure},"
            " or look at the terms in the log of a shorter run",
            step,
            list(self.rows),
        )

    def save(self, done: int, identity: dict[str, str], at_once: bool) -> None:
        """Writes a checkpoint where one is due after `done` steps; the first process does, for all."""
        steps = self.saving.steps
        due = time.perf_counter() - self._saved > self._wait or (steps is not None and done % steps == 0)
        if not distributed.first() or not (at_once or (due and done < self.options.steps)):
            return
        self.check_finite()
        before = time.perf_counter()
        checkpoint.save(self.saving.folder, self._state(done, identity))
        self._saved = time.perf_counter()
        self._wait = max(self.saving.seconds, (self._saved - before) / CHECKPOINT_SHARE)

    def _state(self, step: int, identity: dict[str, str]) -> checkpoint.State:
        model = dict(self.task.model.state_dict())
        for name, companion in companions(self.task).items():
            model |= {f"{name}:{key}": value for key, value in companion.state_dict().items()}
        return checkpoint.State(
            step=step,
            seconds=self.seconds(),
            model=model,
            optimizer=self.optimizer.state_dict(),
            random=torch.get_rng_state(),
            rows=self.rows,
            identity=identity,
            fingerprint=self.task.fingerprint(),
            ema=self.ema.values if self.ema else {},
        )


def _restore(task: Task, optimizer: Optimizer, ema: Ema | None, state: checkpoint.State, folder: Path) -> None:
    try:
        model = dict(state.model)
        for name, companion in companions(task).items():
            own = [key for key in model if key.startswith(f"{name}:")]
            companion.load_state_dict({key.removeprefix(f"{name}:"): model.pop(key) for key in own})
        task.model.load_state_dict(model)
        optimizer.load_state_dict(state.optimizer)
        if ema is not None:
            ema.load(state.ema)
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
    """Notes signals instead of dying, so that the step in hand ends and a checkpoint is written.

    SIGUSR1 is SLURM's warning before the time limit.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "_Stop":
        # Python sets signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._old = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
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
