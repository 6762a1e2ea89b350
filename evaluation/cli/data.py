"""`latticebench data DIR`: what a prepared folder holds."""

import collections
from pathlib import Path
from typing import Any

import click

from latticebench.data import prepared


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True, help="Read all pixels and compare their hash with the manifest's.")
def command(folder: Path, verify: bool) -> None:
    """Prints what a folder of prepared images holds: splits, hashes, classes, provenance, what was left out."""
    data = prepared.load(folder)
    click.echo("\n".join(describe(data)))
    if verify:
        for split in (data.train, data.eval):
            split.verify(data.manifest["splits"][split.name]["content"])
        click.echo("pixels agree with the manifest")


def describe(data: prepared.Prepared) -> list[str]:
    """The lines that the command prints."""
    manifest = data.manifest
    lines = [f"source      {data.name} ({manifest['provenance']['description']}), seed {manifest['seed']}"]
    for split in (data.train, data.eval):
        side = manifest["splits"][split.name]["side"]
        scenes = len(set(split.groups.tolist()))
        grouped = f" in {scenes} scenes" if scenes < len(split) else ""
        lines.append(f"{split.name:<12}{len(split)} images of {side} x {side}{grouped}, sha256 {split.sha256}")
    preparation = manifest["splits"]["eval"]["content"]["preparation"]
    lines.append(f"prepared    resize {preparation['resize']}; crop {preparation['crop']}; {preparation['colour']}")
    lines.append(f"classes     {_classes(manifest['classes'])}")
    lines += _scenes(manifest)
    lines.append(f"left out    {len(manifest['bad'])} unusable images")
    lines += [f"            {entry['split']}: {entry['image']}: {entry['reason']}" for entry in manifest["bad"]]
    if manifest["eval_images_also_in_train"]:
        lines.append(f"warning     {manifest['eval_images_also_in_train']} evaluation images are training images too")
    return lines


def _classes(identity: dict[str, Any] | None) -> str:
    if identity is None:
        return "none"
    return f"{identity['count']} ({identity['kind']} list), sha256 {identity['sha256']}"


def _scenes(manifest: dict[str, Any]) -> list[str]:
    scenes = manifest["provenance"].get("scenes", {})
    counts = manifest["excluded"].get("scenes", collections.defaultdict(dict))
    return [
        f"scene       {name:<11}{scene['split']:<6}{counts[name].get('crops', 0):>4} crops, "
        f"{counts[name].get('near_constant', 0)} near-constant left out; {scene['author']}, {scene['licence']}"
        for name, scene in scenes.items()
    ]
