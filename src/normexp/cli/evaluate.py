"""`normexp evaluate`: how good a model is on rows whose classes are known."""

import math
from typing import TYPE_CHECKING, Annotated, Final

import typer

from normexp.cli.console import console, new_table, say, today, write_json
from normexp.cli.options import IgnoreExtraOption, JsonOption, ModelArgument, SeedOption, TableArgument

MAX_CLASSES: Final = 30
MAX_CONFUSIONS: Final = 5
_STYLES: Final = {"green": "bold green", "amber": "bold yellow", "red": "bold red"}

if TYPE_CHECKING:
    from rich.table import Table

    from normexp.report import Summary
    from normexp.report.facts import TrustFacts


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("evaluate", short_help="Score a model on rows with known classes.")(evaluate)


def evaluate(
    model: ModelArgument,
    table: TableArgument,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            metavar="CHECK",
            help="A score that must hold, such as 'accuracy>=0.9' or 'log_loss<0.3'; else the exit status is 1. "
            "May be given several times.",
        ),
    ] = None,
    ignore_extra: IgnoreExtraOption = False,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Score MODEL on TABLE, which has the column of classes: each score with an interval, beside the prior's.

    \b
    Examples:
      normexp evaluate model.nx test.csv
      normexp evaluate model.nx test.csv --json
      normexp evaluate model.nx test.csv --require 'accuracy>=0.95' --require 'ece<0.05'
    """
    from normexp.cli.requirement import parse_requirement

    requirements = [parse_requirement(text) for text in require or []]
    from normexp.artifact import load
    from normexp.cli.progress import ProgressBar
    from normexp.cli.sources import open_for
    from normexp.report import as_json, summarise

    classifier, source = open_for(load(model), table, ignore_extra=ignore_extra, with_target=True)
    with ProgressBar("scoring") as progress:
        labelled = classifier.labelled(source, ignore_extra=ignore_extra, progress=progress)
    summary = summarise(labelled, classifier.training_, source=table.name, seed=seed, date=today())
    scores = as_json(summary)
    checks = [requirement.check(scores) for requirement in requirements]
    if json:
        write_json({**scores, "checks": [check._asdict() for check in checks]} if checks else scores)
    else:
        show_summary(summary)
    failed = [check for check in checks if not check.holds]
    for check in failed:
        say(f"check failed: {check.requirement}, and {check.metric} is {check.value:.6g}.")
    if failed:
        raise typer.Exit(1)


def show_summary(summary: "Summary", /) -> None:
    """Write what was found about a model: scores, classes, the most frequent confusions and the verdicts.

    Parameters
    ----------
    summary : Summary
        What `normexp.report.summarise` found.
    """
    from rich.table import Table
    from rich.text import Text

    from normexp.report.evidence import lost_in_noise

    out = console()
    level = f"{100 * summary.level:g} % interval"
    table = new_table("score", "value", level, "prior alone", title=f"{summary.source}: {summary.n_rows} rows")
    for score in summary.scores:
        interval = "" if math.isnan(score.low) else f"{_number(score.low)} to {_number(score.high)}"
        table.add_row(score.title, _number(score.value), interval, _number(score.prior))
    out.print(table)
    if lost_in_noise(summary):
        typer.echo(f"The calibration error is not distinguishable from 0 with {summary.n_rows} rows.")
    typer.echo()
    if summary.trust is not None:
        out.print(_trust_table(summary.trust))
        typer.echo()
    classes = new_table("class", "rows", "precision", "recall", "f1")
    for entry in summary.classes[:MAX_CLASSES]:
        numbers = (_number(entry.precision), _number(entry.recall), _number(entry.f1))
        classes.add_row(entry.name, str(entry.n_rows), *numbers)
    out.print(classes)
    if len(summary.classes) > MAX_CLASSES:
        typer.echo(f"... and {len(summary.classes) - MAX_CLASSES} more classes; --json has all of them.")
    typer.echo()
    if summary.confusions:
        confusions = new_table("true class", "taken for", "rows", "of the class")
        for pair in summary.confusions[:MAX_CONFUSIONS]:
            confusions.add_row(pair.true, pair.decided, str(pair.n_rows), f"{100 * pair.share:.1f} %")
        out.print(confusions)
        typer.echo()
    verdicts = Table.grid(padding=(0, 1))
    for verdict in summary.verdicts:
        if verdict.level != "green":
            words = f"{verdict.title}: {verdict.sentence} {verdict.advice}".rstrip()
            verdicts.add_row(Text(verdict.level, style=_STYLES[verdict.level]), words)
    fine = ", ".join(verdict.title.lower() for verdict in summary.verdicts if verdict.level == "green")
    if fine:
        verdicts.add_row(Text("green", style=_STYLES["green"]), f"{fine}.")
    out.print(verdicts)


def _trust_table(trust: "TrustFacts") -> "Table":
    """What was promised, and what these rows show."""
    table = new_table("promise", "asked for", "here")
    table.add_row("log loss before calibration, and after", _number(trust.loss_before), _number(trust.loss_after))
    table.add_row("sets that hold the true class", _share(trust.coverage_asked), _share(trust.coverage))
    table.add_row("classes in a set, on average", "", f"{trust.mean_set_size:.2f}")
    if trust.reject_asked:
        table.add_row("rows called unknown, at most", _share(trust.reject_asked), _share(trust.unknown))
    if trust.refused:
        table.add_row("right where it answers, of all rows", _share(trust.accuracy), _share(trust.accuracy_answered))
    if trust.rule:
        balanced = (_share(trust.balanced_accuracy), _share(trust.balanced_accuracy_decided))
        table.add_row("balanced accuracy, likeliest and decided", *balanced)
    return table


def _share(value: float) -> str:
    """A share as a percentage."""
    return "" if math.isnan(value) else f"{100 * value:.1f} %"


def _number(value: float) -> str:
    """Four decimals, or nothing where there is no value; what is very large in the short form."""
    if math.isnan(value):
        return ""
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:g}"
