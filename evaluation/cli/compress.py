"""`latticebench compress IN.png OUT.tok --tokenizer PATH [--prior PATH]`."""

from pathlib import Path

import click


@click.command()
@click.argument("source", metavar="IN.png", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT.tok", type=click.Path(path_type=Path))
@click.option("--tokenizer", required=True, type=click.Path(path_type=Path), help="Folder of a trained tokenizer.")
@click.option(
    "--prior", type=click.Path(path_type=Path), help="A prior's file; without one all codes are equally likely."
)
@click.option("--force", is_flag=True, help="Overwrite OUT.tok.")
def command(source: Path, target: Path, tokenizer: Path, prior: Path | None, force: bool) -> None:
    """Write the tokens of an image of any size as a file that tokenizer and prior turn back into a picture."""
    from evaluation import strangers
    from evaluation.compression import files
    from evaluation.compression.pictures import PictureCoder

    files.check_target(target, force)
    image = files.read_image(source)
    coder = PictureCoder(tokenizer)
    codec = strangers.codec(coder.layout, prior)
    (data,) = codec.write(coder.encode([image]))
    files.write_bytes(target, data)
    height, width = image.shape[:2]
    click.echo(f"{target}: {len(data)} bytes, {8 * len(data) / (height * width):.4f} bpp, {codec.prior.kind} prior")
