"""The moving average of a training's weights as a tokenizer of its own, so that the judge has a row for it."""

from pathlib import Path

from latticebench.configuration import Subject
from latticebench.tokenizers import checkpoint


def write(subject: Subject, trained: Path, folder: Path) -> None:
    """Writes the averaged weights of the finished seed in `trained` as a finished tokenizer of `subject`.

    Raises Missing where `trained` is not finished or has no moving average.
    """
    tokenizer = checkpoint.load(trained, weights="ema")
    metadata = dict(tokenizer.metadata)
    options, quantizer = metadata.pop("tokenizer"), dict(metadata.pop("quantizer"))
    metadata.pop("ema")
    if "module" in quantizer:
        quantizer["module"] = str((trained / quantizer["module"]).resolve())
    own = {"subject": subject.id, "name": subject.name, "spec": subject.spec, "averaged_from": trained.parent.name}
    checkpoint.save(tokenizer, folder, options, quantizer, metadata | own)
