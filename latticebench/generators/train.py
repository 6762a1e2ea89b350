"""python -m latticebench.generators.train: trains one seed of a generator on extracted tokens.

In one process, or in several that torchrun starts and that share each batch (`latticebench.training.distributed`).
"""

import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import click

from latticebench import commands, configuration, generator_entries, locks, seeding
from latticebench.configuration import Configuration, Subject
from latticebench.errors import BadInput
from latticebench.files import hash8, sha256, write_json

log = logging.getLogger(__name__)

FILES = ("generator.json", "log.parquet", "model.safetensors")


@click.command()
@click.option("--config", "config_path", required=True, type=Path, help="Configuration file.")
@click.option("--generator", required=True, help="Id or name of a generator entry.")
@click.option("--seed", required=True, type=int, help="Training seed.")
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
    generator: str,
    seed: int,
    out: Path,
    threads: int | None,
    device: str | None,
    checkpoint_seconds: float,
    checkpoint_steps: int | None,
) -> None:
    """Trains a generator. A finished one is kept, an interrupted one goes on where it was."""
    import torch

    from latticebench.training import distributed

    if threads is not None:
        torch.set_num_threads(threads)
    config = configuration.load(config_path)
    chosen = generator_entries.training_of(find(config, generator))
    lock, what = out / "running" / chosen.id / f"seed{seed}.lock", f"the training {chosen.id} seed {seed}"
    with distributed.joined():
        with locks.hold(lock, what) if distributed.first() else contextlib.nullcontext():
            folder = train(chosen, seed, out, device, checkpoint_seconds, checkpoint_steps)
        if not distributed.first():
            return
    names = sorted({*FILES, *(path.name for path in folder.glob("snapshot-*.safetensors"))})
    write_json(
        folder.parent / f"made-{seed}.json", {"files": {f"{folder.name}/{n}": sha256(folder / n) for n in names}}
    )


def find(config: Configuration, generator: str) -> Subject:
    """A generator by its id or name, or by the id of its training."""
    for known in config.generators():
        if generator_entries.training_of(known).id == generator:
            return known
    return config.generator(generator)


def train(
    chosen: Subject,
    seed: int,
    out: Path,
    device: str | None = None,
    checkpoint_seconds: float = 5.0,
    checkpoint_steps: int | None = None,
) -> Path:
    """Trains one seed unless it is finished; returns its folder `generators/<id>/seed<k>` below `out`.

    chosen: from `generator_entries.training_of`. Raises BadInput where options, tokens and classes do not fit.
    """
    import torch

    from latticebench import tokenizers
    from latticebench.generators import build, checkpoint
    from latticebench.generators import tokens as token_files
    from latticebench.generators.task import GeneratorTask
    from latticebench.tokenizers.base import trainable_parameters
    from latticebench.training import distributed, loop, starts
    from latticebench.training import log as training_log
    from latticebench.training.options import Options

    final = out / "generators" / chosen.id / f"seed{seed}"
    own = generator_entries.tokenizer_seed(chosen, seed)
    wanted = generator_entries.tokens_of(chosen)
    tokens = token_files.load(out / "tokens" / wanted.id / f"seed{own}")
    tokenizer = tokenizers.load(out / "tokenizers" / generator_entries.tokenizer_of(chosen).id / f"seed{own}")
    tokens.check(tokenizer)
    if _finished(final, tokens.identity()):
        log.info("%s seed %d is finished", chosen.id, seed)
        return final
    if not len(tokens.train):
        raise BadInput(f"{tokens.path} holds no training tokens")
    options = chosen.spec["generation"]
    recipe = Options.of(options["training"])
    root = seeding.derive(chosen.spec["seed"], "generator", seed)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = build.build(options, tokenizer.to(where), tokens.classes, root).to(where)

    def keep(step: int) -> None:
        checkpoint.write_weights(model, final / snapshot(step))

    name = f"{chosen.name} seed {seed}"
    task = GeneratorTask(name, model, tokens.train, options["training"], options["model"]["class_drop"], root, keep)
    running = out / "running" / chosen.id / f"seed{seed}"
    if distributed.first():
        starts.note(running.with_suffix(".starts"), distributed.size())
    identity = {"specification": hash8(chosen.spec), "tokens": tokens.identity(), "seed": str(seed)}
    diverged, resumed = None, None
    try:
        result = loop.train(task, recipe, loop.Saving(running, checkpoint_seconds, checkpoint_steps), identity)
        rows, seconds, resumed = result.rows, result.seconds, result.resumed_from
    except loop.NotFinite as error:
        if options["training"]["divergence"] == "error" or not error.rows:
            raise
        log.warning("%s", error)
        rows, seconds, diverged = error.rows, error.rows[-1]["seconds"], error.step
    if not distributed.first():
        distributed.wait()
        return final
    training_log.write(rows, final / "log.parquet")
    metadata: dict[str, Any] = {
        "generator": chosen.id,
        "name": chosen.name,
        "seed": seed,
        "spec": chosen.spec,
        "tokens": str(wanted.id),
        "tokens_sha256": tokens.identity(),
        "steps": recipe.steps,
        "parameters": trainable_parameters(model),
        "training_seconds": round(seconds, 3),
        "resumed_from": resumed,
        "diverged": diverged,
    }
    checkpoint.save(model, final, options, tokens.classes, metadata)
    shutil.rmtree(running, ignore_errors=True)
    distributed.wait()
    return final


def snapshot(step: int) -> str:
    """The file of the weights after `step` steps."""
    return f"snapshot-{step:08d}.safetensors"


def _finished(folder: Path, tokens: str) -> bool:
    from latticebench.generators import checkpoint

    if not all((folder / name).is_file() for name in FILES):
        return False
    try:
        facts = checkpoint.describe(folder)
        whole = facts["weights_sha256"] == sha256(folder / checkpoint.WEIGHTS)
    except BadInput:
        whole = False
    if not whole:
        log.warning("%s is damaged; training it again", folder)
        return False
    if facts["tokens_sha256"] != tokens:
        raise BadInput(f"{folder} was trained on other tokens than those there are; delete it to train again")
    return True


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    commands.run(command)
