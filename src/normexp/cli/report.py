"""`normexp report`: one HTML page about a model."""

from pathlib import Path
from typing import Annotated

import typer

from normexp.cli.console import today, write_json
from normexp.cli.options import IgnoreExtraOption, JsonOption, ModelArgument, SeedOption, TableArgument
from normexp.cli.paths import require_output


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("report", short_help="Write one HTML page about a model.")(report)


def report(
    model: ModelArgument,
    table: TableArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PAGE", help="The page to write (.html).")],
    ignore_extra: IgnoreExtraOption = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Write one HTML page on how far MODEL can be trusted on TABLE, which has the column of classes.

    \b
    Example:
      normexp report model.nx test.csv -o report.html
    """
    require_output(output, suffixes=(".html", ".htm"), inputs=(model, table))
    from normexp.artifact import load
    from normexp.cli.progress import ProgressBar
    from normexp.cli.sources import open_for
    from normexp.report import as_json, render_html, summarise
    from normexp.tables import write_atomically

    classifier, source = open_for(load(model), table, ignore_extra=ignore_extra, with_target=True)
    with ProgressBar("scoring") as progress:
        labelled = classifier.labelled(source, ignore_extra=ignore_extra, progress=progress)
    summary = summarise(labelled, classifier.training_, source=table.name, seed=seed, date=today())
    page = render_html(summary)
    with write_atomically(output) as stream:
        stream.write(page.encode())
    if json:
        write_json({"output": str(output), **as_json(summary)})
    else:
        typer.echo(f"wrote {output}")
