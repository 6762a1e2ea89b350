"""Rate-distortion curves of the classical codecs, one record a codec.

`python -m evaluation.compression.codecs --config C --data DIR --out ROOT/records/codecs`
"""

import os
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from evaluation import records
from evaluation.compression import classical, distortion, options
from evaluation.compression.stage import Images, images_of
from evaluation.protocols import protocol_id
from evaluation.records import Record, Stopwatch, Value, empty, measured
from latticebench import configuration
from latticebench.errors import Missing
from latticebench.files import sha256, write_json

SUITE = "classical"
CODE = ("evaluation/compression/classical.py", "evaluation/compression/distortion.py", "evaluation/pixels.py")


def curve(codec: classical.ClassicalCodec, images: Images, weights: Mapping[str, str | None]) -> Record:
    """The record of one codec over its sweep.

    arrays: `settings`; `bpp` and each metric as means, one a setting; `<name>_images` the same for each image, a list
    a setting. Empty cells where the codec or a metric cannot be had.
    """
    watch = Stopwatch()
    arrays: dict[str, list] = {"settings": [], "bpp": [], "bpp_images": []}
    reasons: dict[str, str] = {}
    values: dict[str, Value] = {}
    try:
        codec.check()
        for setting in tqdm(codec.sweep, desc=codec.name, unit="setting", mininterval=2):
            _add(arrays, reasons, codec, setting, images, weights)
    except Missing as error:
        reasons["bpp"] = str(error)
    for key in ("bpp", *distortion.METRICS):
        if key in reasons:
            values[f"{key}_points"] = empty(protocol_id(key), reasons[key])
        elif key in arrays:
            values[f"{key}_points"] = measured(len(arrays[key]), protocol_id(key), n=len(images.images))
    return Record(
        subject=f"codec-{codec.name}",
        name=codec.title,
        method=codec.name,
        seed=None,
        suite=SUITE,
        parameters=codec.describe(),
        dataset=images.dataset,
        values=values,
        arrays=arrays,
        groups=images.groups,
        code=records.code_hashes(CODE),
        machine=watch.machine(),
    )


def _add(
    arrays: dict[str, list],
    reasons: dict[str, str],
    codec: classical.ClassicalCodec,
    setting: float,
    images: Images,
    weights: Mapping[str, str | None],
) -> None:
    points = [classical.measure(codec, np.asarray(image), setting) for image in images.images]
    bpp = (8 * np.array([point.size for point in points]) / images.pixels).tolist()
    lost = distortion.measure(images.images, [point.image for point in points], weights)
    reasons.update(lost.reasons)
    arrays["settings"].append(setting)
    for key, numbers in {"bpp": bpp, **lost.samples}.items():
        arrays.setdefault(key, []).append(float(np.mean(numbers)))
        arrays.setdefault(f"{key}_images", []).append(numbers)


@click.command()
@click.option("--config", "config_file", required=True, type=Path, help="The configuration.")
@click.option("--data", type=Path, help="Folder of the prepared data; its evaluation split is coded.")
@click.option("--images", "folder", type=Path, help="Folder of lossless images to code instead.")
@click.option("--out", required=True, type=Path, help="Folder of the records.")
def command(config_file: Path, data: Path | None, folder: Path | None, out: Path) -> None:
    """Code the evaluation images with the classical codecs over their quality sweeps."""
    from latticebench.data import prepared

    config = configuration.load(config_file)
    chosen = options.of(config)
    images = images_of(None if data is None else prepared.load(data), folder or chosen.images)
    weights = config.values["evaluation"].get("weights", {})
    files = []
    for name in chosen.codecs:
        path = out / f"{name}.json"
        records.write(curve(classical.find(name), images, weights), path)
        files.append(path)
    write_json(out / "made.json", {"files": {os.path.relpath(file, out): sha256(file) for file in files}})


if __name__ == "__main__":
    from latticebench.commands import run

    run(command)
