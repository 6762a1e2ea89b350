"""`latticebench fetch NAME…`: released weights and what the judge needs, downloaded, checked and converted."""

from pathlib import Path

import click

from latticebench.errors import BadInput


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "listing", is_flag=True, help="Say what can be fetched and what is here.")
@click.option("--offline", is_flag=True, default=None, help="Ask nobody; say which file goes where.")
@click.option("--mirror", help="Address that serves the hub's paths, and other files under files/NAME/.")
@click.option("--registry", "file", type=click.Path(path_type=Path), help="Another registry than the one there.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where files land. [default: checkpoints/]")
def command(
    names: tuple[str, ...],
    listing: bool,
    offline: bool | None,
    mirror: str | None,
    file: Path | None,
    folder: Path | None,
) -> None:
    """Fetch released weights by NAME: resumable, checked, converted to safetensors."""
    from latticebench import weights

    registry = weights.load(folder, file)
    if listing:
        click.echo(listed(registry))
        return
    if not names:
        raise BadInput("name what to fetch; `latticebench fetch --list` lists it")
    for entry in [registry.entry(name) for name in names]:
        path = weights.fetch(registry, entry.name, stand_ins=stand_ins(entry.family), offline=offline, mirror=mirror)
        click.echo(f"{entry.name}: {path}")


def stand_ins(family: str | None) -> tuple[str, ...]:
    """Names of the classes that a family's files may hold; none without a family."""
    from latticebench import published

    return published.module(family).STAND_INS if family else ()


def listed(registry) -> str:
    """The table of `--list`."""
    from latticebench import weights

    locked = registry.locked()
    rows = [("name", "family", "size", "here", "licence", "title")]
    for name, entry in registry.entries.items():
        size = (locked.get(name) or {}).get("size") or entry.size
        shown = f"{size / 1e6:.0f} MB" if size else f"~{entry.elements * 4 / 1e6:.0f} MB" if entry.elements else "?"
        try:
            here = "yes" if weights.present(registry, name) else "pinned" if name in locked else ""
        except BadInput:
            here = "not as pinned"
        rows.append((name, entry.family or "(judge)", shown, here, entry.licence, entry.title))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    lines += [
        "",
        "Sizes with ~ are four bytes a number of the state dict; the file may hold more.",
        "",
        "Not released:",
    ]
    lines += [f"  {fact['title']}: {fact['reason']}" for fact in registry.unreleased.values()]
    return "\n".join(lines)
