"""python -m latticebench.tokenizers.train: trains one subject, its seeds in turn.

In one process, or in several that torchrun starts and that share each batch (`latticebench.training.distributed`).
"""

import contextlib
import json
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import click

from latticebench import commands, configuration, locks
from latticebench.configuration import Configuration, Subject, parse_seeds
from latticebench.data import prepared, scratch
from latticebench.data.prepared import Prepared
from latticebench.errors import BadInput
from latticebench.files import hash8, sha256, write_json

log = logging.getLogger(__name__)

FILES = ("log.parquet", "model.safetensors", "tokenizer.json")
"""What a finished seed's folder holds; with a moving average of the weights also AVERAGED."""
AVERAGED = "ema.safetensors"


@click.command()
@click.option("--config", "config_path", required=True, type=Path, help="Configuration file.")
@click.option("--subject", required=True, help="Id or name of a quantizer entry.")
@click.option("--seeds", required=True, help="Training seeds: one (0) or a range (0-1).")
@click.option("--data", "data_path", required=True, type=Path, help="Folder of the prepared data.")
@click.option("--out", required=True, type=Path, help="Results folder of the configuration.")
@click.option("--threads", type=int, help="CPU threads; default: OMP_NUM_THREADS, else all cores.")
@click.option("--device", help="cpu or cuda; default: cuda where there is one.")
@click.option(
    "--checkpoint-seconds",
    type=float,
    default=5.0,
    show_default=True,
    envvar="LATTICEBENCH_CHECKPOINT_SECONDS",
    show_envvar=True,
    help="Least time between checkpoints.",
)
@click.option("--checkpoint-steps", type=int, help="Also write one every so many steps.")
def command(
    config_path: Path,
    subject: str,
    seeds: str,
    data_path: Path,
    out: Path,
    threads: int | None,
    device: str | None,
    checkpoint_seconds: float,
    checkpoint_steps: int | None,
) -> None:
    """Trains a tokenizer for each seed. Finished seeds are kept, an interrupted one goes on where it was."""
    import torch

    from latticebench.training import distributed

    if threads is not None:
        torch.set_num_threads(threads)
    config = configuration.load(config_path)
    chosen = config.subject(subject)
    numbers = parse_seeds(seeds)
    data = prepared.load(scratch.local(data_path, config.values["jobs"]["scratch"]))
    root = out / "tokenizers" / chosen.id
    files: dict[str, str] = {}
    with distributed.joined():
        for number in numbers:
            with _lock(out, chosen, number):
                folder = train_seed(config, chosen, number, data, out, device, checkpoint_seconds, checkpoint_steps)
            files |= {f"{folder.name}/{name}": sha256(folder / name) for name in files_of(chosen)}
        if distributed.first():
            write_json(root / f"made-{seeds}.json", {"files": files})


def files_of(subject: Subject) -> tuple[str, ...]:
    """What a finished seed of the subject holds; a moving average that is judged by itself has no log of its own."""
    if subject.trained.id != subject.id:
        return FILES[1:]
    return (*FILES, AVERAGED) if subject.spec["tokenizer"]["training"]["ema"] else FILES


def _lock(out: Path, subject: Subject, seed: int) -> contextlib.AbstractContextManager[Any]:
    from latticebench.training import distributed

    if not distributed.first():
        return contextlib.nullcontext()
    return locks.hold(out / "running" / subject.id / f"seed{seed}.lock", f"the training {subject.id} seed {seed}")


def train_seed(
    config: Configuration,
    subject: Subject,
    seed: int,
    data: Prepared,
    out: Path,
    device: str | None = None,
    checkpoint_seconds: float = 5.0,
    checkpoint_steps: int | None = None,
) -> Path:
    """Trains one seed unless it is finished, and returns its folder `tokenizers/<id>/seed<k>` below `out`."""
    import torch

    from latticebench.tokenizers import average, build, checkpoint
    from latticebench.tokenizers.base import trainable_parameters
    from latticebench.tokenizers.losses.objective import Objective
    from latticebench.tokenizers.losses.options import Options as LossOptions
    from latticebench.tokenizers.task import TokenizerTask
    from latticebench.training import distributed, loop, starts
    from latticebench.training import log as training_log
    from latticebench.training.options import Options

    final = out / "tokenizers" / subject.id / f"seed{seed}"
    spec = subject.spec
    _check_data(spec, data)
    if _finished(final, data, files_of(subject)):
        log.info("%s seed %d is finished", subject.id, seed)
        return final
    if subject.trained.id != subject.id:
        if distributed.first():
            average.write(subject, out / "tokenizers" / subject.trained.id / f"seed{seed}", final)
        distributed.wait()
        return final
    running = out / "running" / subject.id / f"seed{seed}"
    if distributed.first():
        starts.note(running.with_suffix(".starts"), distributed.size())
    root = build.run_seed(spec, seed)
    quantizer = build.resolve_quantizer(spec["quantizer"], config.path.parent, root)
    options = spec["tokenizer"]
    tokenizer = build.build(options, quantizer, spec["data"]["size"], root)
    tokenizer.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    recipe = Options.of(options["training"])
    if recipe.precision == "float64":
        tokenizer.double()
    objective = Objective(LossOptions.of(options["losses"]), tokenizer, root, config.values["evaluation"]["weights"])
    task = TokenizerTask(
        f"{subject.name} seed {seed}",
        tokenizer,
        data.train.images,
        recipe.batch_size,
        options["training"]["flips"],
        root,
        objective,
    )
    identity = {"specification": hash8(spec), "data": data.train.sha256, "seed": str(seed)}
    board = out / "tensorboard" / subject.id / f"seed{seed}" if config.values["jobs"]["tensorboard"] else None
    start = time.perf_counter()
    result = loop.train(task, recipe, loop.Saving(running, checkpoint_seconds, checkpoint_steps, board), identity)
    if not distributed.first():
        distributed.wait()
        return final
    fitted = time.perf_counter() - start
    training_log.write(result.rows, final / "log.parquet")
    metadata: dict[str, Any] = {
        "subject": subject.id,
        "name": subject.name,
        "method": tokenizer.quantizer.name,
        "seed": seed,
        "spec": spec,
        "data_sha256": data.train.sha256,
        "steps": recipe.steps,
        "parameters": trainable_parameters(tokenizer),
        "training_seconds": round(result.seconds, 3),
        # With the start values that are fitted to the data, and this process's part alone where it resumed.
        "fitting_seconds": round(fitted, 3),
        "resumed_from": result.resumed_from,
    }
    checkpoint.save(tokenizer, final, options, quantizer, metadata, result.ema)
    shutil.rmtree(running, ignore_errors=True)
    distributed.wait()
    return final


def _finished(folder: Path, data: Prepared, files: tuple[str, ...]) -> bool:
    if not all((folder / name).is_file() for name in files):
        return False
    from latticebench.tokenizers.checkpoint import DESCRIPTION, WEIGHTS

    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        whole = description["weights_sha256"] == sha256(folder / WEIGHTS)
        if AVERAGED in files:
            whole = whole and description["ema"]["weights_sha256"] == sha256(folder / AVERAGED)
        trained_on = description["data_sha256"]
    except (ValueError, KeyError):
        whole, trained_on = False, ""
    if not whole:
        log.warning("%s is damaged; training it again", folder)
        return False
    if trained_on != data.train.sha256:
        raise BadInput(
            f"{folder} was trained on other data ({trained_on[:12]}) than {data.path} holds"
            f" ({data.train.sha256[:12]}); delete it to train again"
        )
    return True


def _check_data(spec: dict[str, Any], data: Prepared) -> None:
    size, images = spec["data"]["size"], data.train.images
    if not len(images):
        raise BadInput(f"{data.path} holds no training images")
    if min(images.shape[1:3]) < size:
        raise BadInput(f"{data.path}: training images of {images.shape[1]} px are smaller than data.size = {size}")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    commands.run(command)
