"""What a trusted model costs beside the fits of its base: processor seconds, all threads counted.

    python bench/trusted_cost.py [--only NAME ...] [--repeats 3] [--data ../shared/data] [--output FILE]

`TrustedClassifier()` fits `SoftmaxClassifier()` on all rows and once for each of five folds; the rest is the choice of
a calibrator (`AutoCalibrator`), held-out logits through calibrators learned without each row, sets, the unknown score.

Prediction, written before the first change: a menu whose members share their rows' log-probabilities, Newton steps
from the optimum of all rows in each fold, a path of penalties that ends where the held-out loss turns, and 5 000 rows
for the choice bring the whole to 1.5 times the fits on letter and fashion-mnist and to within 3 times on 20 000 made
rows of 10 classes, where a fold's fit takes a tenth of a second; wine and breast cancer, whose fits take milliseconds,
stay above 3.

Prediction for the second change, written before it: the choice of a mended matrix takes 0.35 of the fits on letter (1.2
before) and 0.25 on dry-bean (0.7), the whole 1.5 on both, by one Hessian in float32 in the place of four and by passes
over log-probabilities laid out class by class, each a third of what it was. The small tables, made of small calls, come
to 1.9 (wine), 2.0 (made, 2 000 rows) and 3 (breast cancer).
"""

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

import normexp as nx
from machine import processor
from normexp.calibration import AutoCalibrator
from normexp.trusted import adjusting
from normexp.trusted import trusted_classifier as whole

Table = tuple[np.ndarray, np.ndarray]


def standardised(X: np.ndarray, y: np.ndarray) -> Table:
    """Columns of mean 0 and spread 1, constant ones left alone."""
    spread = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0), y


def made(n_rows: int, n_features: int, n_classes: int) -> Table:
    """Rows whose classes are drawn from a softmax of their features."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features))
    logits = X @ rng.normal(size=(n_features, n_classes)) * (2.0 / np.sqrt(n_features))
    return X, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def stored(folder: Path, most: int = 1_000_000) -> Table:
    """The columns of a table that are numbers, and its classes."""
    frame = pl.concat([pl.read_csv(path, infer_schema_length=None) for path in sorted(folder.glob("*.csv.gz"))])
    y = frame["label"].cast(pl.String).to_numpy().astype(str)
    X = frame.drop("label").to_dummies(pl.selectors.string()).to_numpy().astype(np.float64)
    kept = np.sort(np.random.default_rng(0).permutation(len(y))[:most])
    return standardised(X[kept], y[kept])


def problems(data: Path) -> dict[str, Callable[[], Table]]:
    """What is fitted, by name."""
    return {
        "digits": lambda: standardised(*load_digits(return_X_y=True)),
        "wine": lambda: standardised(*load_wine(return_X_y=True)),
        "breast cancer": lambda: standardised(*load_breast_cancer(return_X_y=True)),
        "made, 20 000 x 50, 10 classes": lambda: made(20_000, 50, 10),
        "made, 2 000 x 20, 3 classes": lambda: made(2000, 20, 3),
        "letter": lambda: stored(data / "letter"),
        "dry-bean": lambda: stored(data / "dry-bean"),
        "covertype, 100 000 rows": lambda: stored(data / "covertype", 100_000),
    }


class Clock:
    """Processor seconds spent inside some functions."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*given: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return function(*given, **named)
            finally:
                self.spent[name] = self.spent.get(name, 0.0) + time.process_time() - began

        return timed


@contextmanager
def parts(clock: Clock) -> Iterator[None]:
    """Time the fits, the choice of a calibrator, held-out logits through calibrators, and the unknown score."""
    with (
        mock.patch.object(nx.SoftmaxClassifier, "fit", clock.around("fits", nx.SoftmaxClassifier.fit)),
        mock.patch.object(AutoCalibrator, "fit_rows", clock.around("choice", AutoCalibrator.fit_rows)),
        mock.patch.object(AutoCalibrator, "fit_held_out", clock.around("choice", AutoCalibrator.fit_held_out)),
        mock.patch.object(adjusting, "adjusted_held_out", clock.around("again", adjusting.adjusted_held_out)),
        mock.patch.object(whole.StrangerDetector, "fit", clock.around("unknown", whole.StrangerDetector.fit)),
    ):
        yield


def measure(X: np.ndarray, y: np.ndarray, repeats: int) -> tuple[dict[str, float], Any]:
    """Median seconds of each part, the whole among them, and the model."""
    found: list[dict[str, float]] = []
    for _ in range(repeats):
        clock = Clock()
        clock.spent = dict.fromkeys(("fits", "choice", "again", "unknown"), 0.0)
        with parts(clock):
            model = clock.around("whole", nx.TrustedClassifier().fit)(X, y)
        found.append(clock.spent)
    return {name: float(np.median([one[name] for one in found])) for name in found[0]}, model


def line(name: str, X: np.ndarray, y: np.ndarray, repeats: int) -> str:
    """One row of the table."""
    spent, model = measure(X, y, repeats)
    fits = spent["fits"]
    rest = spent["whole"] - sum(spent[part] for part in ("fits", "choice", "again", "unknown"))
    return (
        f"| {name} | {len(y)} x {X.shape[1]} | {len(model.classes_)} | {fits:.3f} | {spent['whole'] / fits:.2f} | "
        + " | ".join(f"{spent[part] / fits:.2f}" for part in ("choice", "again", "unknown"))
        + f" | {rest / fits:.2f} | {model.loss_before_:.4f} | {model.loss_after_:.4f} |"
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1].parent / "shared" / "data")
    parser.add_argument("--only", nargs="*", default=[], help="problems whose name holds one of these")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    packages = ("normexp", "numpy", "scipy", "scikit-learn")
    lines = [
        "# What a trusted model costs",
        "",
        f"`python bench/trusted_cost.py --repeats {given.repeats}`. Machine: {processor()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; "
        + ", ".join(f"{one} {version(one)}" for one in packages),
        "",
        __doc__.split("\n\n", 2)[2].strip(),
        "",
        "Seconds of processor time, medians; parts as multiples of the fits (final and five folds together). `again`:",
        "calibrators fitted again without each row, where the choice did not; log losses are those of held-out rows.",
        "",
        "| problem | rows x columns | classes | fits, s | whole/fits | choice | again | unknown | rest | loss | then |",
        "|" + "---|" * 11,
    ]  # fmt: skip
    nx.TrustedClassifier().fit(*made(300, 4, 3))  # compiles
    nx.TrustedClassifier().fit(*made(300, 4, 2))
    for name, read in problems(given.data).items():
        if given.only and not any(part in name for part in given.only):
            continue
        lines.append(line(name, *read(), given.repeats))
        print(lines[-1], flush=True)
        if given.output:
            given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
