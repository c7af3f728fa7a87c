"""`normexp explain`: why one row of a table was given its class, and what would have changed it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from normexp.cli.console import console, new_table, write_json
from normexp.cli.options import IgnoreExtraOption, JsonOption, ModelArgument, TableArgument
from normexp.cli.paths import require_output

if TYPE_CHECKING:
    from normexp.explain.account import Account


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("explain", short_help="Say why a row was given its class.")(explain)


def explain(
    model: ModelArgument,
    table: TableArgument,
    row: Annotated[int, typer.Option("--row", metavar="N", help="The row, counted from 0 after the header.")] = 0,
    top: Annotated[
        int, typer.Option("--top", min=1, metavar="K", help="How many columns, words and changes to show.")
    ] = 8,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Draw the contributions: .png, .svg or .pdf.")
    ] = None,
    anywhere: Annotated[
        bool,
        typer.Option("--anywhere", help="Also tell numbers that lie below or above all those of the training rows."),
    ] = False,
    ignore_extra: IgnoreExtraOption = False,
    json: JsonOption = False,
) -> None:
    """Say why MODEL gives one row of TABLE its class and not the runner-up, and what would have changed that.

    \b
    Examples:
      normexp explain model.nx new.csv --row 17
      normexp explain model.nx new.csv --row 17 --picture reasons.png
      normexp explain model.nx new.csv --row 17 --json

    Contributions are exact and add up to the log-odds (in nats) of the class against the runner-up. Every change that
    is told was tried out with the model; numbers stay within those of the training rows.
    """
    if picture is not None:
        require_output(picture, suffixes=(".png", ".svg", ".pdf"), inputs=(model, table))
    from normexp.artifact import load
    from normexp.cli.sources import open_for
    from normexp.explain.account import account, as_mapping, read_row

    classifier, source = open_for(load(model), table, ignore_extra=ignore_extra)
    told = account(classifier, read_row(source, classifier.schema_, row), within=not anywhere)
    if picture is not None:
        from normexp.explain.account_picture import draw_account
        from normexp.tables import write_atomically

        with write_atomically(picture) as stream:
            draw_account(told, stream, file_format=picture.suffix[1:].lower(), top=top)
    if json:
        write_json({"model": model.name, "table": table.name, **as_mapping(told)})
        return
    show_account(told, source.name, top=top)
    if picture is not None:
        typer.echo(f"\nwrote {picture}")


def show_account(told: "Account", name: str, /, *, top: int) -> None:
    """Write the account of a row.

    Parameters
    ----------
    told : Account
        The account.
    name : str
        The table's name.
    top : int
        How many columns, words and changes to show.
    """
    from normexp.explain.account import shown

    out = console()
    title = f"row {told.row} of {name}: {told.label}, probability {told.probability:.4f}"
    out.print(title, style="bold")
    typer.echo(f"runner-up: {told.rival}, probability {told.rival_probability:.4f}")
    if told.decided is not None:
        typer.echo(
            f"decided: {told.decided}, by the model's costs, shares or thresholds; what follows is of probabilities"
        )
    typer.echo()
    table = new_table(f"why {told.label} and not {told.rival}", "value", "log-odds")
    for reason in told.contributions[:top]:
        table.add_row(reason.column, shown(reason.value), f"{reason.contribution:+.3f}")
    rest = told.contributions[top:]
    if rest:
        table.add_row(f"{len(rest)} more columns", "", f"{sum(reason.contribution for reason in rest):+.3f}")
    table.add_row("where every row starts", "", f"{told.baseline:+.3f}")
    table.add_row("sum", "", f"{told.log_odds:+.3f}", style="bold")
    out.print(table)
    if told.words:
        typer.echo()
        words = new_table("word", "log-odds")
        for word in told.words[:top]:
            words.add_row(word.word or "(how the text begins)", f"{word.contribution:+.3f}")
        quieter = told.words[top:]
        if quieter:
            words.add_row(f"{len(quieter)} more words", f"{sum(word.contribution for word in quieter):+.3f}")
        out.print(words)
    typer.echo()
    shown_changes, title = told.changes, "what would have changed it"
    if not told.changes and told.together:
        typer.echo("No single change, within what the training rows hold, would have changed the decision.")
        shown_changes, title = told.together, "what would have changed it, all together"
    elif not told.changes:
        where = "within what the training rows hold" if told.within else "within reach"
        more = " See --anywhere for numbers beyond." if told.within else ""
        typer.echo(f"No change of a column, of the words or of all numbers, {where}, changes the decision.{more}")
        return
    changes = new_table("column", "from", "to", "standard deviations", "then it is", title=title)
    for change in shown_changes[:top]:
        to = "(taken out)" if change.after is None else shown(change.after)
        distance = "" if change.distance is None else f"{change.distance:.2f}"
        changes.add_row(change.column, shown(change.before), to, distance, str(change.label))
    if told.together and len(told.together) > top:
        changes.add_row(f"{len(told.together) - top} more columns", "", "", "", "")
    out.print(changes)
