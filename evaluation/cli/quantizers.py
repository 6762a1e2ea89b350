"""`latticebench quantizers`: the registry with parameters, K, bits and reference."""

import click


@click.command()
@click.argument("names", nargs=-1)
@click.option("--markdown", is_flag=True, help="Write the page docs/quantizers.md instead.")
def command(names: tuple[str, ...], markdown: bool) -> None:
    """List every known quantizer, or those NAMED, with parameters, K, bits and reference."""
    from latticebench.quantizers import documentation, registry

    if markdown:
        click.echo(documentation.page(), nl=False)
        return
    for name in names or registry.available():
        cls = registry.method(name)
        paper, year, url = cls.reference
        click.secho(name, bold=True)
        click.echo(f"  {cls.title}")
        click.echo(f"  {paper}, {year}" + (f", {url}" if url else ""))
        click.echo(f"  K with the defaults: {documentation.size(registry.build(cls, {}))}")
        rows = documentation.parameters(cls)
        width = max(len(f"{row.name} = {row.default}") for row in rows)
        for row in rows:
            click.echo(f"    {f'{row.name} = {row.default}':{width}}  {row.type.replace('`', '')}: {row.meaning}")
        click.echo()
