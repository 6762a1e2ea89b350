"""`latticebench decompress IN.tok OUT.png --tokenizer PATH [--prior PATH]`."""

from pathlib import Path

import click


@click.command()
@click.argument("source", metavar="IN.tok", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT.png", type=click.Path(path_type=Path))
@click.option("--tokenizer", required=True, type=click.Path(path_type=Path), help="The tokenizer that wrote the file.")
@click.option("--prior", type=click.Path(path_type=Path), help="The prior that wrote the file, if it had one.")
@click.option("--force", is_flag=True, help="Overwrite OUT.png.")
def command(source: Path, target: Path, tokenizer: Path, prior: Path | None, force: bool) -> None:
    """Decode a token file into a PNG, or say why it cannot be decoded."""
    from evaluation import strangers
    from evaluation.compression import files, layout
    from evaluation.compression.pictures import PictureCoder

    files.check_target(target, force)
    codec = strangers.codec(layout.of_folder(tokenizer), prior)
    coded = codec.read([files.read_bytes(source)], [str(source)])
    # The tokens are checked before torch and the tokenizer are loaded.
    (image,) = PictureCoder(tokenizer).decode(coded)
    files.write_png(target, image)
    click.echo(f"{target}: {image.shape[1]} x {image.shape[0]} px")
