"""`normexp bench`: comparisons that anybody can run again."""

from pathlib import Path
from typing import Annotated

import typer

from normexp.cli.console import console, new_table, write_json
from normexp.cli.options import JsonOption, SeedOption


def register(app: typer.Typer) -> None:
    """Add the verb and what it compares."""
    bench_app = typer.Typer(
        help="Compare methods on the same rows and the same split.\n\n\b\nExample:\n  normexp bench ovr-ovo",
        rich_markup_mode=None,
    )
    bench_app.command("ovr-ovo", short_help="One softmax, one-vs-rest and one-vs-one.")(ovr_ovo)
    bench_app.command("ops", short_help="Times, memory and errors of the functions on arrays.")(ops)
    app.add_typer(bench_app, name="bench")


def ovr_ovo(
    table: Annotated[
        Path | None,
        typer.Argument(metavar="TABLE", help="Any table that `normexp fit` takes; scikit-learn's digits without one."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="COLUMN", help="The column with the classes.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option("--text", metavar="COLUMN", help="A column that is running text.")
    ] = None,
    c: Annotated[
        float | None,
        typer.Option(
            "-C", metavar="NUMBER", help="Inverse strength of the L2 penalty; by default as in `normexp fit`."
        ),
    ] = None,
    held_out: Annotated[
        float, typer.Option("--held-out", min=0.01, max=0.99, metavar="PART", help="Part of the rows that is held out.")
    ] = 0.25,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Compare one softmax over all classes with one-vs-rest and one-vs-one.

    \b
    Examples:
      normexp bench ovr-ovo
      normexp bench ovr-ovo flowers.csv --target species --json

    One-vs-one probabilities are coupled after Wu, Lin and Weng (2004).
    """
    import numpy as np

    from normexp.linear_model import SoftmaxClassifier
    from normexp.trusted.defaults import default_estimator
    from normexp.trusted.ovr_ovo import compare_schemes, split_digits, split_source

    if table is None:
        name, split = "digits", split_digits(held_out=held_out, seed=seed)
    else:
        from normexp.tables import open_source

        name, split = (
            table.name,
            split_source(open_source(table, target=target, text=text), held_out=held_out, seed=seed),
        )
    if c is None:
        index = np.unique(split.y_train, return_inverse=True)[1]
        estimator = default_estimator(split.X_train, index, split.schema, seed=seed)
    else:
        estimator = SoftmaxClassifier(C=c)
    scores = compare_schemes(split.X_train, split.y_train, split.X_test, split.y_test, estimator=estimator)
    sizes = {"rows": len(split.y_train) + len(split.y_test), "held_out": len(split.y_test)}
    if json:
        write_json(
            {"table": name, "C": estimator.C, "seed": seed, **sizes, "schemes": [score._asdict() for score in scores]}
        )
        return
    title = f"{name}: {sizes['rows']} rows, {sizes['held_out']} of them held out"
    shown = new_table("scheme", "accuracy", "log loss", "Brier", "fit, s", "fits", title=title)
    for score in scores:
        shown.add_row(
            score.scheme,
            f"{score.accuracy:.4f}",
            f"{score.log_loss:.4f}",
            f"{score.brier:.4f}",
            f"{score.fit_seconds:.2f}",
            str(score.n_fits),
        )
    console().print(shown)


def ops(
    quick: Annotated[
        bool, typer.Option("--quick", help="A twentieth of the work: seconds in place of minutes, and less telling.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure the functions on arrays on this machine, beside torch, JAX and SciPy where they are installed.

    \b
    Examples:
      normexp bench ops
      normexp bench ops --quick --json

    All take turns within one run, and the numbers are medians. Without --quick it takes some minutes and 3 GB.
    """
    from normexp.cli.ops_table import all_tables, cell_text

    measured = []
    for table in all_tables(quick=quick):
        if json:
            measured.append({"title": table.title, "columns": table.columns, "rows": table.rows})
            continue
        shown = new_table(*table.columns, title=table.title)
        for row in table.rows:
            shown.add_row(*(cell_text(cell) for cell in row))
        console().print(shown)
        console().print()
    if json:
        write_json({"tables": measured})
