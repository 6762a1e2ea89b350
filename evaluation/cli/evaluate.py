"""`latticebench evaluate`: judges any tokenizer's or generator's output, with no other part of the suite."""

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--originals", type=_PATH, help="Folder of PNGs, .npy or .npz of uint8 (N, H, W, 3).")
@click.option("--reconstructions", type=_PATH, help="The same names, or the same order, and sizes.")
@click.option("--floats", type=_PATH, help="Also the reconstructions before rounding: .npy or .npz, floats in [0, 1].")
@click.option("--samples", type=_PATH, help="Generated images instead of pairs, in shuffled order (ADM's layout).")
@click.option(
    "--reference", type=_PATH, help="ADM reference batch (.npz); for samples by default that of checkpoints/."
)
@click.option("--out", type=_PATH, help="Where record and tables go; default results/evaluate-<hash of the images>.")
@click.option("--name", help="The subject's name in the record; default the name of the folder or file.")
@click.option("--scenes", type=_PATH, help="CSV of `name,scene`: intervals are then clustered by scene.")
@click.option("--features", type=_PATH, help="Folder that keeps the features of originals, samples and reference.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1), help="Share the images among these.")
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option(
    "--allow-few", is_flag=True, help="Fréchet distances even with fewer images than features have dimensions."
)
@click.option("--inception", type=_PATH, help="The FID Inception weights, if not in checkpoints/.")
@click.option("--lpips-alex", type=_PATH, help="torchvision's AlexNet weights, if not in checkpoints/.")
@click.option("--lpips-vgg", type=_PATH, help="torchvision's VGG-16 weights, if not in checkpoints/.")
@click.option("--dinov2", type=_PATH, help="DINOv2's ViT-L/14 weights, if not in checkpoints/.")
def command(
    originals: Path | None,
    reconstructions: Path | None,
    floats: Path | None,
    samples: Path | None,
    reference: Path | None,
    out: Path | None,
    name: str | None,
    scenes: Path | None,
    features: Path | None,
    processes: int,
    device: str,
    allow_few: bool,
    inception: Path | None,
    lpips_alex: Path | None,
    lpips_vgg: Path | None,
    dinov2: Path | None,
) -> None:
    """Judges reconstructions against their originals, or samples against a reference batch.

    Writes a record and a table.
    """
    from evaluation import evaluate, images, reconstruction

    given = {"inception": inception, "lpips-alex": lpips_alex, "lpips-vgg": lpips_vgg, "dinov2": dinov2}
    settings = reconstruction.Settings(
        weights={key: str(path) for key, path in given.items() if path},
        store=features,
        device=device,
        processes=processes,
        allow_few=allow_few,
    )
    if samples is not None:
        if originals or reconstructions or floats or scenes:
            raise click.UsageError("--samples are judged against --reference alone")
        record, folder = evaluate.generated(samples, reference, settings, out, name)
    elif originals is None or reconstructions is None:
        raise click.UsageError("give --originals and --reconstructions, or --samples")
    else:
        groups = evaluate.read_groups(scenes, images.load(originals).names) if scenes else None
        record, folder = evaluate.evaluate(
            originals, reconstructions, settings, out, name, groups, floats=floats, reference=reference
        )
    click.echo(evaluate.as_markdown(record))
    click.echo(f"record and tables: {folder}")
