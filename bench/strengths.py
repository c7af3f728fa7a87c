"""Every strength of penalty on tables in any units: does the default fit end at a proof, or in words.

    python bench/strengths.py [--only NAME ...] [--strengths C ...] [--max-iter 1000] [--out FILE.md]

Tables raw and with every column in units of 10^U(-3, 3); C from 1e-6 to 1e10, and no penalty at all. One line for each
fit: outcome, Newton steps, passes over the rows, certified gap, seconds. A fit fails here when it ends neither at its
tolerance nor, without a penalty, at the sentence that no optimum exists.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np

from machine import processor
from normexp import SoftmaxClassifier
from solvers.problems import bundled, table

STRENGTHS = (1e-6, 1e-3, 1.0, 1e3, 1e5, 1e7, 1e10, np.inf)


def covertype():
    """3 000 rows of covertype, drawn once."""
    X, y = table("covertype")
    rows = np.random.default_rng(0).choice(len(y), 3000, replace=False)
    return X[rows], np.unique(y[rows], return_inverse=True)[1]


def two_classes(name):
    """The rows of a table's first two classes."""
    X, y = bundled(name)
    return X[y < 2], y[y < 2]


def narrow(name):
    """A table in float32."""
    X, y = bundled(name)
    return X.astype(np.float32), y


TABLES = {
    "iris": lambda: bundled("iris"),
    "wine": lambda: bundled("wine"),
    "breast-cancer": lambda: bundled("breast-cancer"),
    "digits": lambda: bundled("digits"),
    "covertype, 3000 rows": covertype,
    "wine, two classes": lambda: two_classes("wine"),
    "digits, two classes": lambda: two_classes("digits"),
    "wine, float32": lambda: narrow("wine"),
    "digits, float32": lambda: narrow("digits"),
}


def in_units(X):
    """Columns in units of 10^U(-3, 3)."""
    unit = 10.0 ** np.random.default_rng(0).uniform(-3, 3, size=X.shape[1])
    return X * unit.astype(X.dtype)


def one(X, y, C, max_iter):
    """Fit once; the facts of a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        model = SoftmaxClassifier(C=C, max_iter=max_iter).fit(X, y)
        seconds = time.perf_counter() - start
    found = model.solution_
    free = np.isinf(C)
    none_exists = free and found.outcome.name in {"SEPARABLE", "QUASI_SEPARABLE", "GROWING"}
    return found, seconds, found.outcome.name == "CERTIFIED" or none_exists or (free and found.converged)


def main():
    """Fit all, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(TABLES))
    parser.add_argument("--strengths", nargs="*", type=float, default=list(STRENGTHS))
    parser.add_argument("--max-iter", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    SoftmaxClassifier().fit(*bundled("iris"))  # imports and compiles
    SoftmaxClassifier().fit(bundled("iris")[0][:100], bundled("iris")[1][:100])
    lines = [
        "# The default fit at every strength of penalty, in any units",
        "",
        "Written by `bench/strengths.py`, whose text says what counts; each fit once, beside other work.",
        "",
        f"{processor()}, NumPy {np.__version__}",
        "",
        "| table | C | outcome | steps | passes | objective | gap | seconds | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    failed = 0
    for name in options.only:
        X, y = TABLES[name]()
        for units, rows in (("raw", X), ("units", in_units(X))):
            for C in options.strengths:
                found, seconds, good = one(rows, y, C, options.max_iter)
                failed += not good
                lines.append(
                    f"| {name}, {units} | {C:g} | {found.outcome.name} | {found.n_iter} | {found.n_passes} | "
                    f"{found.objective:.10g} | {found.suboptimality:.1e} | {seconds:.3f} | "
                    f"{'' if good else 'not proven'} |"
                )
                print(lines[-1], flush=True)
    lines.append(f"\n{failed} of {len(options.only) * 2 * len(options.strengths)} without their proof.")
    print(lines[-1])
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
