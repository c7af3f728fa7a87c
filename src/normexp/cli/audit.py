"""`normexp audit`: what plain logits and the true classes tell about anybody's network."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from normexp.cli.console import console, new_table, say, write_json
from normexp.cli.options import JsonOption, SeedOption
from normexp.cli.paths import require_output

if TYPE_CHECKING:
    from normexp.report import Audit

CLASSES_SHOWN: Final = 8
STYLES: Final = {"green": "bold green", "amber": "bold yellow", "red": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("audit", short_help="Judge the logits of any network, and say what would cure them.")(audit)


def audit(
    logits: Annotated[
        Path,
        typer.Argument(
            metavar="LOGITS",
            help="Logits or probabilities, one row for each example and one column for each class: .npz, .npy, CSV, "
            "TSV, Parquet or NDJSON. Which of the two they are is told by their values, and said.",
        ),
    ],
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            metavar="Y",
            help="The true classes: a file, or the name of an array or column of LOGITS. Indices from 0, or names of "
            "the columns.",
        ),
    ],
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="F",
            help="What the last layer reads: a file, or the name of an array of LOGITS. It makes the unknown score "
            "better.",
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes", metavar="FILE", help="Names of the classes, one a line, in the order of the columns."
        ),
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option(
            "--prior",
            metavar="FILE",
            help="How often each class came in training, which the network has to beat: a CSV with a class and its "
            "share, or its count of rows, on each line. By default the shares among these rows.",
        ),
    ] = None,
    take: Annotated[
        list[str] | None,
        typer.Option(
            "--take",
            metavar="NAME",
            help="The array of an archive, or the columns of a table (patterns such as 'logit_*' too), that hold the "
            "logits. May be given several times.",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="KIND", help="What LOGITS holds, 'logits' or 'probabilities', if that is mistaken."
        ),
    ] = None,
    coverage: Annotated[
        float, typer.Option("--coverage", metavar="SHARE", help="What conformal sets are to promise.")
    ] = 0.9,
    target_risk: Annotated[
        float, typer.Option("--target-risk", metavar="SHARE", help="Error rate to be promised among answered rows.")
    ] = 0.05,
    false_alarm: Annotated[
        float, typer.Option("--false-alarm", metavar="SHARE", help="Share of known rows that may be called unknown.")
    ] = 0.05,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Go on although classes have no row, or many rows are copies of others."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PAGE", help="Also write a page (.html).")
    ] = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Judge LOGITS of rows that the network was not trained on: is it calibrated, what cures it, which rows to refuse.

    \b
    Examples:
      normexp audit logits.npz --labels y
      normexp audit probabilities.csv --labels label -o audit.html
      normexp audit logits.npy --labels classes.txt --features features.npy --json
      normexp audit logits.npz --labels y --prior training_counts.csv
    """
    if output is not None:
        require_output(output, suffixes=(".html", ".htm"), inputs=(logits, *(() if prior is None else (prior,))))
    from normexp.cli.score_inputs import read_scores
    from normexp.report import audit as judge
    from normexp.report import audit_json, render_audit
    from normexp.tables import write_atomically
    from normexp.tables.class_shares import read_class_shares

    given = read_scores(logits, labels, features=features, classes=classes, take=tuple(take or ()))
    if given.told:
        say(given.told)
    found = judge(
        given.scores,
        given.labels,
        features=given.features,
        classes=given.classes,
        prior=None if prior is None else read_class_shares(prior, given.classes),
        kind=kind,
        source=given.source,
        coverage=coverage,
        target_risk=target_risk,
        false_alarm=false_alarm,
        anyway=anyway,
        seed=seed,
    )
    if output is not None:
        page = render_audit(found)
        with write_atomically(output) as stream:
            stream.write(page.encode())
    if json:
        facts: dict[str, Any] = audit_json(found)
        write_json({"output": str(output), **facts} if output is not None else facts)
        return
    show_audit(found)
    if output is not None:
        typer.echo(f"\nwrote {output}")


def show_audit(found: "Audit", /) -> None:
    """Write an audit: scores, cure, sets, the worst classes and the verdicts.

    Parameters
    ----------
    found : Audit
        The facts.
    """
    from rich.table import Table
    from rich.text import Text

    out = console()
    out.print(found.told)
    typer.echo()
    level = f"{100 * found.level:g} % interval"
    scores = new_table(
        "score", "network", level, title=f"{found.source}: {found.n_rows} rows, {found.n_classes} classes"
    )
    for score in found.scores:
        interval = "" if math.isnan(score.low) else f"{score.low:.4f} to {score.high:.4f}"
        scores.add_row(score.title, _number(score.value), interval)
    out.print(scores)
    typer.echo()
    cure = new_table("cure, cross-validated", "log loss", "gain", "")
    for method in found.cure.methods:
        chosen = "chosen" if method.name == found.cure.chosen else ""
        if len(found.cure.shares) > 1 and method.name in found.cure.shares:
            chosen = f"{found.cure.shares[method.name]:.0%} of the mean"
        what = method.name.replace("_", " ")
        what = f"temperature {found.cure.temperature:.3g}" if method.name == "temperature" else what
        cure.add_row(what, _number(method.log_loss), _number(method.gain), chosen)
    out.print(cure)
    typer.echo()
    sets = new_table("sets", "hold the truth in", level, "classes")
    for top in found.top_k:
        sets.add_row(f"top {top.k}", _number(top.coverage), f"{top.low:.4f} to {top.high:.4f}", str(top.k))
    for one in found.sets:
        title = f"{one.name}, {100 * one.wanted:g} % promised"
        sets.add_row(title, _number(one.coverage), f"{one.low:.4f} to {one.high:.4f}", f"{one.mean_size:.2f}")
    out.print(sets)
    typer.echo()
    worst = sorted((c for c in found.classes if c.n_rows), key=lambda c: -c.log_loss)[:CLASSES_SHOWN]
    classes = new_table("worst classes", "rows", "log loss", "recall", "precision", "lean, sigmas")
    for entry in worst:
        lean = "" if math.isnan(entry.lean_sigmas) else f"{entry.lean_sigmas:+.1f}"
        numbers = (_number(entry.log_loss), _number(entry.recall), _number(entry.precision), lean)
        classes.add_row(entry.name, str(entry.n_rows), *numbers)
    out.print(classes)
    typer.echo()
    verdicts = Table.grid(padding=(0, 1))
    for verdict in found.verdicts:
        words = f"{verdict.title}: {verdict.sentence} {verdict.advice}".rstrip()
        verdicts.add_row(Text(verdict.level, style=STYLES[verdict.level]), words)
    out.print(verdicts)


def _number(value: float) -> str:
    """Four decimals, or nothing where there is no value."""
    if math.isinf(value):
        return "infinite"
    return "" if math.isnan(value) else f"{value:.4f}"
