"""`normexp fit`: a table in, a model file out."""

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from normexp.base.errors import InputError
from normexp.base.memory import read_size
from normexp.cli.console import console, new_table, say, write_json
from normexp.cli.options import CostOption, JsonOption, SeedOption, TableArgument
from normexp.cli.paths import require_output

DEFAULT_COVERAGE: Final = 0.9
DEFAULT_REJECT: Final = 0.05

if TYPE_CHECKING:
    from normexp.trusted import TrainingFacts


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("fit", short_help="Fit a classifier on a table; write a model file.")(fit)


def fit(
    table: TableArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="The model file to write (.nx).")],
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="COLUMN", help="The column with the classes; arrays have y by default."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="COLUMN", help="A column that is running text. May be given several times."),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features",
            metavar="NAMES",
            help="Columns to read, patterns such as 'emb_*' too. May be given several times.",
        ),
    ] = None,
    c: Annotated[
        float | None,
        typer.Option(
            "-C",
            metavar="NUMBER",
            help="Inverse strength of the L2 penalty; larger follows the rows more closely. "
            "By default held-out log loss chooses it; at most 30 for text.",
        ),
    ] = None,
    min_class_rows: Annotated[
        int, typer.Option("--min-class-rows", min=1, metavar="N", help="Refuse classes with fewer rows than N.")
    ] = 2,
    coverage: Annotated[
        float,
        typer.Option("--coverage", metavar="SHARE", help="Share of new rows whose set shall hold the true class."),
    ] = DEFAULT_COVERAGE,
    reject: Annotated[
        float,
        typer.Option(
            "--reject", metavar="SHARE", help="Share of rows of known classes that may be called unknown; 0 for none."
        ),
    ] = DEFAULT_REJECT,
    balanced: Annotated[
        bool, typer.Option("--balanced", help="Decide as if all classes came equally often; probabilities stay.")
    ] = False,
    cost: CostOption = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="The bare model: not calibrated, no sets, no unknown rows, no folds.")
    ] = False,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory",
            metavar="SIZE",
            help="Memory for the rows, such as 4GB; where they need more, they are encoded into a scratch folder "
            "(TMPDIR) and read in blocks. By default half of what is free.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="Keep the state of the fit in FILE: after a kill the same command goes on from there. It is removed "
            "when the model is written.",
        ),
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Fit a softmax classifier on TABLE, calibrate it on rows that were held out, and write it to a model file.

    \b
    Examples:
      normexp fit flowers.csv --target species -o flowers.nx
      normexp fit messages.parquet --target label --text message -o spam.nx
      normexp fit vectors.parquet --target topic --features 'emb_*' -C 10 -o topics.nx
      normexp fit digits.npz -o digits.nx
      normexp fit shards/ --target label -o large.nx --max-memory 4GB --checkpoint large.checkpoint

    The model is fitted on all rows, and on the rows outside each of five folds (fewer where a fit is long) to see how
    it does on rows that it does not know. That settles calibration, sets and what counts as unknown.
    """
    require_output(output, inputs=(table,) if cost is None else (table, cost))
    if checkpoint is not None:
        require_output(checkpoint, inputs=(table, output))
    room = None if max_memory is None else read_size(max_memory, of="fit: --max-memory")
    if plain and (balanced or cost is not None or coverage != DEFAULT_COVERAGE or reject != DEFAULT_REJECT):
        raise InputError(
            "fit: --plain makes a model without promises; leave out --coverage, --reject, --balanced and --cost."
        )
    from normexp.artifact import save
    from normexp.cli.progress import ProgressBar
    from normexp.report.labelled import as_mapping
    from normexp.tables import open_source, read_costs
    from normexp.trusted import TableClassifier, TrustedClassifier

    estimator = None
    if c is not None:
        from normexp.linear_model import SoftmaxClassifier

        estimator = SoftmaxClassifier(C=c)
    costs = None if cost is None else read_costs(cost)
    trusted = None
    if not plain:
        from normexp.calibration import AutoCalibrator

        objective = "balanced" if balanced else None
        trusted = TrustedClassifier(
            calibrate=AutoCalibrator(keep_decisions=True),
            coverage=coverage,
            reject=reject,
            objective=objective,
            cost_matrix=None if costs is None else dict(costs),
            cv="auto",
            random_state=seed,
        ).check()
    source = open_source(table, target=target, text=text, features=features)
    with ProgressBar("fitting") as progress:
        model = TableClassifier(estimator=estimator, trusted=trusted, min_class_rows=min_class_rows, seed=seed).fit(
            source,
            progress=progress,
            max_memory=room,
            checkpoint=checkpoint,
            on_phase=progress.rename,
            on_outside=say,
            on_classes=None if costs is None else costs.check,
            on_doubt=lambda sentence: say(f"warning: {table}: {sentence}"),
        )
    save(model, output)
    if checkpoint is not None:
        for file in (checkpoint, *checkpoint.parent.glob(f"{glob.escape(checkpoint.name)}.fold-*")):
            file.unlink(missing_ok=True)
    facts = model.training_
    if json:
        write_json({"model": str(output), **as_mapping(facts)})
    else:
        show_facts(facts)
        typer.echo(f"wrote {output}")


def show_facts(facts: "TrainingFacts", /) -> None:
    """Write the facts of a training as a table.

    Parameters
    ----------
    facts : TrainingFacts
        The facts.
    """
    import numpy as np

    table = new_table("training", "")
    table.columns[1].justify = "left"
    table.add_row("rows", f"{facts.rows:,}".replace(",", " "))
    table.add_row("features", f"{facts.features:,}".replace(",", " "))
    table.add_row("classes", f"{facts.classes}, of {min(facts.class_counts)} to {max(facts.class_counts)} rows")
    table.add_row("time", f"{facts.seconds:.2f} s, {facts.n_iter} iterations")
    table.add_row("outcome", facts.outcome)
    if facts.suboptimality is not None:
        bounded = np.isfinite(facts.suboptimality)
        far = (
            f"at most {facts.suboptimality:.1e} of the objective" if bounded else "cannot be bounded without a penalty"
        )
        table.add_row("distance to optimum", far)
    for title, sentence in facts.promises:
        table.add_row(title, sentence)
    table.add_row("model", facts.estimator)
    console().print(table)
