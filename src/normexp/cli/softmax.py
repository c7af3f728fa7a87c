"""`normexp softmax`: logits in, probabilities and what they say about doubt out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from normexp.cli.console import console, new_table, say, write_json
from normexp.cli.options import JsonOption
from normexp.cli.paths import require_output

if TYPE_CHECKING:
    from normexp.cli.logits import Row

MAX_PLOTTED_ROWS = 6


def register(app: typer.Typer) -> None:
    """Add the verb; unknown options are kept as arguments, because -1 is a number."""
    app.command(
        "softmax", short_help="Turn logits into probabilities.", context_settings={"ignore_unknown_options": True}
    )(softmax)


def softmax(
    logits: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LOGITS...",
            help="Numbers; or one file (text with one row per line, or .npy); or - for standard input.",
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="T", help="Divide the logits by T first; 0 takes the largest.")
    ] = 1.0,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw both as bars: .png, .svg or .pdf.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Turn logits into probabilities; show their sum, entropy and log-sum-exp.

    \b
    Examples:
      normexp softmax 2.0 1.0 0.1
      normexp softmax -1 2 --temperature 0.5
      normexp softmax 2.0 1.0 0.1 --plot bars.png
      normexp softmax logits.csv --json
      printf '2 1 0.1\\n0 -3 5\\n' | normexp softmax

    Negative numbers are taken as numbers. Rows of a file are separated by line breaks, numbers by commas or blanks.
    """
    from normexp.cli.logits import evaluate_row, read_rows

    if plot is not None:
        require_output(plot, suffixes=(".png", ".svg", ".pdf"))
    rows = [evaluate_row(row, temperature=temperature) for row in read_rows(logits or [])]
    if plot is not None:
        from normexp.base.atomic import write_atomically
        from normexp.cli.bars import draw_bars

        if len(rows) > MAX_PLOTTED_ROWS:
            say(f"{len(rows)} rows came and the plot shows the first {MAX_PLOTTED_ROWS} of them.")
        with write_atomically(plot) as stream:
            draw_bars(rows[:MAX_PLOTTED_ROWS], stream, file_format=plot.suffix[1:].lower(), temperature=temperature)
    if json:
        write_json({"temperature": temperature, "rows": [row._asdict() for row in rows]})
    elif len(rows) == 1:
        _show_one(rows[0], temperature)
    else:
        for number, row in enumerate(rows):
            _show_line(number, row)


def _show_one(row: "Row", temperature: float) -> None:
    """One row as a table with bars."""
    out = console()
    table = new_table("class", "logit", "probability", "")
    table.columns[3].justify = "left"
    width = max(out.width - 44, 10)
    for index, (logit, prob) in enumerate(zip(row.logits, row.probabilities, strict=True)):
        table.add_row(str(index), repr(float(logit)), f"{prob:.8f}", _bar(prob, min(width, 40)))
    out.print(table)
    of = "" if temperature == 1.0 else f"  (of the logits divided by {temperature:g})"
    typer.echo(f"sum             {row.sum:.8f}")
    typer.echo(f"entropy         {row.entropy:.8f} nats")
    typer.echo(
        f"log-sum-exp     {'not defined at temperature 0' if row.logsumexp is None else f'{row.logsumexp:.8f}{of}'}"
    )


def _show_line(number: int, row: "Row") -> None:
    """One of several rows, in three lines."""
    typer.echo(f"row {number}")
    typer.echo(f"  logits         {' '.join(repr(float(logit)) for logit in row.logits)}")
    typer.echo(f"  probabilities  {' '.join(f'{prob:.8f}' for prob in row.probabilities)}")
    lse: Any = "not defined" if row.logsumexp is None else f"{row.logsumexp:.8f}"
    typer.echo(f"  sum {row.sum:.8f}   entropy {row.entropy:.8f} nats   log-sum-exp {lse}")


def _bar(prob: float, width: int) -> str:
    """Draw a bar of eighths of a character; none for NaN."""
    if not prob > 0:
        return ""
    eighths = round(prob * width * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
