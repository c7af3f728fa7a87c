"""`normexp predict`: a model and a table in, a table of predictions out."""

from pathlib import Path
from typing import Annotated

import typer

from normexp.cli.console import write_json
from normexp.cli.options import CostOption, IgnoreExtraOption, JsonOption, ModelArgument, TableArgument
from normexp.cli.paths import require_output


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("predict", short_help="Predict the rows of a table, as a table.")(predict)


def predict(
    model: ModelArgument,
    table: TableArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="The table to write: .csv or .parquet.")
    ],
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, metavar="K", help="Also write the K most probable classes.")
    ] = None,
    cost: CostOption = None,
    ignore_extra: IgnoreExtraOption = False,
    json: JsonOption = False,
) -> None:
    """Predict the rows of TABLE: a label for each, how probable it is, and what to do about it.

    Columns: label, probability, log_probability, entropy (nats); of a model that was not fitted with --plain also
    decision (a class, or "unknown"), set (the classes that it could be, | between them), unknown_score (larger is
    stranger) and reason (what spoke loudest for the label, +, or against it, -, in log-odds).

    \b
    Examples:
      normexp predict model.nx new.csv -o predictions.csv
      normexp predict model.nx new.parquet -o predictions.parquet --top-k 5
      normexp predict model.nx new.csv -o decisions.csv --cost costs.csv

    --cost takes the place of the costs that the model was fitted with, if any; it moves the decision alone.

    Rows are read, predicted and written some thousand at a time: the memory does not grow with their number.
    """
    require_output(output, suffixes=(".csv", ".parquet"), inputs=(model, table, *([] if cost is None else [cost])))
    from normexp.artifact import load
    from normexp.cli.progress import ProgressBar
    from normexp.cli.sources import open_for
    from normexp.tables import read_costs, write_predictions

    classifier, source = open_for(load(model), table, ignore_extra=ignore_extra)
    if cost is not None:
        costs = read_costs(cost)
        costs.check(classifier.classes_)
        classifier.decide_by_costs(costs)
    with ProgressBar("predicting") as progress:
        rows = write_predictions(
            classifier.predict_batches(source, top_k=top_k, ignore_extra=ignore_extra), output, progress=progress
        )
    if json:
        write_json({"output": str(output), "rows": rows})
    else:
        typer.echo(f"wrote {rows} predictions to {output}")
