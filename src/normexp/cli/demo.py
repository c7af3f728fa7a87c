"""`normexp demo`: the whole path on real rows, in seconds."""

from pathlib import Path
from typing import Annotated

import typer

from normexp.base.errors import InputError
from normexp.cli.console import today, write_json
from normexp.cli.evaluate import show_summary
from normexp.cli.fit import show_facts
from normexp.cli.options import JsonOption, SeedOption
from normexp.cli.paths import require_output


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("demo", short_help="Fit, score and report on handwritten digits.")(demo)


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the files go; it is made if need be.")
    ] = Path("demo"),
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Fit handwritten digits (bundled with scikit-learn), score the 25 % held out, and write a report.

    \b
    Example:
      normexp demo --output demo

    It leaves digits-train.npz, digits-test.npz, digits.nx and report.html, to try the other verbs on.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{output}: the folder cannot be made ({error.strerror}). Choose another with --output."
        ) from error
    report_path = output / "report.html"
    require_output(report_path)
    from normexp.artifact import load, save
    from normexp.calibration import AutoCalibrator
    from normexp.report import as_json, render_html, summarise
    from normexp.report.labelled import as_mapping
    from normexp.tables import open_source, write_atomically
    from normexp.trusted import TableClassifier, TrustedClassifier

    train, test = _write_digits(output, seed=seed)
    source = open_source(train, target="y")
    trusted = TrustedClassifier(calibrate=AutoCalibrator(keep_decisions=True), cv="auto", random_state=seed)
    save(TableClassifier(trusted=trusted, seed=seed).fit(source), output / "digits.nx")
    model = load(output / "digits.nx")
    labelled = model.labelled(open_source(test, target="y"))
    summary = summarise(labelled, model.training_, source=test.name, seed=seed, date=today())
    with write_atomically(report_path) as stream:
        stream.write(render_html(summary).encode())
    if json:
        write_json({"output": str(report_path), "training": as_mapping(model.training_), **as_json(summary)})
        return
    show_facts(model.training_)
    show_summary(summary)
    typer.echo(f"wrote {report_path}")


def _write_digits(folder: Path, *, seed: int) -> tuple[Path, Path]:
    """Write the digits as two archives of arrays, the training rows and the 25 % held out."""
    import numpy as np

    from normexp.tables import write_atomically
    from normexp.trusted.ovr_ovo import split_digits

    split = split_digits(held_out=0.25, seed=seed)
    train, test = folder / "digits-train.npz", folder / "digits-test.npz"
    for path, features, target in ((train, split.X_train, split.y_train), (test, split.X_test, split.y_test)):
        with write_atomically(path) as stream:
            np.savez_compressed(stream, X=features.astype(np.float32), y=target)
    return train, test
