"""`latticebench evaluate`: judges any tokenizer's output, with no other part of the suite."""

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--originals", required=True, type=_PATH, help="Folder of PNGs, .npy or .npz of uint8 (N, H, W, 3).")
@click.option("--reconstructions", required=True, type=_PATH, help="The same names, or the same order, and sizes.")
@click.option("--out", type=_PATH, help="Where record and tables go; default results/evaluate-<hash of the images>.")
@click.option("--name", help="The subject's name in the record; default the reconstructions' folder.")
@click.option("--scenes", type=_PATH, help="CSV of `name,scene`: intervals are then clustered by scene.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1), help="Share the images among these.")
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option(
    "--allow-few", is_flag=True, help="Fréchet distances even with fewer images than features have dimensions."
)
@click.option("--inception", type=_PATH, help="The FID Inception weights, if not in checkpoints/.")
@click.option("--lpips-alex", type=_PATH, help="torchvision's AlexNet weights, if not in checkpoints/.")
@click.option("--lpips-vgg", type=_PATH, help="torchvision's VGG-16 weights, if not in checkpoints/.")
def command(
    originals: Path,
    reconstructions: Path,
    out: Path | None,
    name: str | None,
    scenes: Path | None,
    processes: int,
    device: str,
    allow_few: bool,
    inception: Path | None,
    lpips_alex: Path | None,
    lpips_vgg: Path | None,
) -> None:
    """Judges reconstructions against their originals and writes a record and a table."""
    from evaluation import evaluate, images, reconstruction

    given = {"inception": inception, "lpips-alex": lpips_alex, "lpips-vgg": lpips_vgg}
    settings = reconstruction.Settings(
        weights={key: str(path) for key, path in given.items() if path},
        device=device,
        processes=processes,
        allow_few=allow_few,
    )
    groups = evaluate.read_groups(scenes, images.load(originals).names) if scenes else None
    record, folder = evaluate.evaluate(originals, reconstructions, settings, out, name, groups)
    click.echo(evaluate.as_markdown(record))
    click.echo(f"record and tables: {folder}")
