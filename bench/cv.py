"""The choice of C by cross-validation: normexp and scikit-learn on the same rows, folds, values and score.

    python bench/cv.py [--only digits wine] [--limit 300] [--output bench/results/cv.md]

Contestants, each in a process of its own, after one small fit that loads kernels:

- `normexp`: SoftmaxClassifierCV, whose folds tell each other where to begin;
- `warm`: the same, each fit begun at the stronger penalty's optimum of its own fold (the usual warm start);
- `separate`: the same, each fit begun at zero;
- `scikit-learn`: LogisticRegressionCV with its own defaults (lbfgs, 100 steps; saga for the elastic net);
- `scikit-learn, long`: the same with up to 10 000 steps.

Columns: seconds (wall and CPU; the median of three where a run takes less than a second), peak memory beyond what was
there before the fit (VmHWM, Linux), passes over the rows; then how far the worst of the folds' fits is above its
minimum, relative, and how many of them are within 1e-4 of it, which is what normexp's path certifies. The minimum is
that of SoftmaxClassifier at tol=1e-9 (1e-7 from a million numbers on). Last the chosen C and its mean log loss.

Prediction, written before the first run: `normexp` takes half the passes of `warm` and a fifth of those of `separate`
where fits take many (digits, letter), less where a fit is five passes long; seconds follow, but for the smallest
tables, where Python's own time stays. scikit-learn's default stops early on every table that is not scaled, and takes
three times as long all the same; run to its end it takes ten times. Peak memory: four fifths of X, for a fold's rows
are copied, and 20 MB.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold

from machine import processor
from solvers.problems import bundled, table, words

WAYS = ("normexp", "warm", "separate", "scikit-learn", "scikit-learn, long")
GRID = np.logspace(-4, 4, 10)


def synthetic():
    """20 000 x 100 correlated normal numbers, ten classes that overlap."""
    rng = np.random.default_rng(0)
    slope = 0.3 * rng.normal(size=(100, 10))
    X = rng.normal(size=(20_000, 100)) @ (np.eye(100) + 0.03 * rng.normal(size=(100, 100)))
    return X, (X @ slope + rng.gumbel(size=(20_000, 10))).argmax(axis=1)


def some_texts():
    """Every fifth text of CLINC150, all its classes."""
    X, y = words("clinc150")
    return X[::5], y[::5]


# name: (rows, values of C, l1_ratio, folds)
PROBLEMS = {
    "wine": (lambda: bundled("wine"), GRID, None, 5),
    "breast cancer": (lambda: bundled("breast-cancer"), GRID, None, 5),
    "digits": (lambda: bundled("digits"), GRID, None, 5),
    "letter": (lambda: table("letter"), GRID, None, 5),
    "synthetic": (synthetic, GRID, None, 5),
    "clinc150, 1-2-grams": (some_texts, np.array([0.1, 1.0, 10.0, 100.0]), None, 3),
    "breast cancer, elastic net": (lambda: bundled("breast-cancer"), GRID[1:8], 0.5, 5),
    "digits, elastic net": (lambda: bundled("digits"), GRID[2:7], 0.5, 3),
}


def memory_mb(what: str) -> float:
    """One of Linux's counts of this process, in MB."""
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) / 1e3


def searcher(way, grid, ratio, folds):
    """An unfitted search."""
    if way.startswith("scikit"):
        from sklearn.linear_model import LogisticRegressionCV

        more = {} if ratio is None else {"penalty": "elasticnet", "solver": "saga", "l1_ratios": [ratio]}
        steps = 10_000 if way.endswith("long") else 100
        return LogisticRegressionCV(Cs=grid, cv=folds, scoring="neg_log_loss", max_iter=steps, **more)
    from normexp import SoftmaxClassifierCV

    more = {} if ratio is None else {"penalty": "elasticnet", "l1_ratios": [ratio]}
    return SoftmaxClassifierCV(Cs=grid, cv=folds, **more)


def watched(way) -> list:
    """Take from the search what this way does without; what each fit came to is noted in the list."""
    from normexp.linear_model import penalty_path
    from normexp.solvers import CornerProblem, Forecast, RidgeProblem

    class LastOptimum(Forecast):
        def start(self):
            return self._own[-1] if self._own else None

    class NoGuess(Forecast):
        def start(self):
            return None

    reached: list = []

    def noting(solve):
        def noted(*given, **options):
            reached.append(solve(*given, **options))
            return reached[-1]

        return noted

    for kind in (RidgeProblem, CornerProblem):
        kind.solve = noting(kind.solve)
    if way in {"warm", "separate"}:
        penalty_path.Forecast = LastOptimum if way == "warm" else NoGuess
    return reached


def objective(X, y, coef, intercept, C, ratio) -> float:
    """Sum of the losses and the penalty; coef (S, D)."""
    scores = np.asarray(X @ coef.T) + intercept
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    scores -= scores.max(axis=1, keepdims=True)
    loss = float(np.sum(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]))
    ratio = ratio or 0.0
    return loss + (ratio * np.abs(coef).sum() + 0.5 * (1 - ratio) * np.square(coef).sum()) / C


def coefficients_of(model, reached, n_folds, grid):
    """Yield fold, position of C, coef (S, D) and intercept of each of the folds' fits."""
    if reached:  # those of a fold in a row, the last fit after all of them
        for place, fitted in enumerate(reached[: n_folds * len(grid)]):
            yield place // len(grid), place % len(grid), fitted.coef.T, fitted.intercept
        return
    paths = model.coefs_paths_
    stacked = np.stack(list(paths.values()), axis=-2) if isinstance(paths, dict) else np.asarray(paths)
    stacked = stacked.reshape(n_folds, len(grid), -1, model.n_features_in_ + 1)
    for fold in range(n_folds):
        for m in range(len(grid)):
            yield fold, m, stacked[fold, m, :, :-1], stacked[fold, m, :, -1]


def measure(name: str, way: str, minima: Path) -> dict[str, object]:
    """Search in this process."""
    load, grid, ratio, n_folds = PROBLEMS[name]
    X, y = load()
    y = np.unique(y, return_inverse=True)[1]
    folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=0).split(np.zeros(len(y)), y))
    reached = watched(way)
    small, classes = bundled("iris")
    searcher(way, grid[:2], ratio, 2).fit(small, classes)
    walls, cpus = [], []
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = memory_mb("VmRSS")
    while not walls or (sum(walls) < 1.0 and len(walls) < 3):
        reached.clear()
        began, cpu = time.perf_counter(), time.process_time()
        model = searcher(way, grid, ratio, folds).fit(X, y)
        walls.append(time.perf_counter() - began)
        cpus.append(time.process_time() - cpu)
    peak = memory_mb("VmHWM") - before
    least = np.load(minima)
    worse = np.zeros(least.shape)
    for fold, m, coef, intercept in coefficients_of(model, reached, n_folds, grid):
        used = folds[fold][0]
        worse[fold, m] = objective(X[used], y[used], coef, intercept, grid[m], ratio) / least[fold, m] - 1
    scores = np.asarray(next(iter(model.scores_.values())) if isinstance(model.scores_, dict) else model.scores_)
    scores = scores.reshape(n_folds, len(grid)).mean(axis=0)
    return {
        "name": name, "way": way, "shape": list(X.shape), "classes": int(y.max() + 1), "fits": int(worse.size),
        "wall_s": statistics.median(walls), "cpu_s": statistics.median(cpus), "peak_mb": peak,
        "passes": sum(one.solution.n_passes for one in reached) or None,
        "worst": float(worse.max()), "there": int(np.sum(worse <= 1e-4)),
        "C": float(np.ravel(model.C_)[0]), "log_loss": float(-scores.max()),
    }  # fmt: skip


def find_minima(name: str, path: Path) -> None:
    """The minimum of each of the folds' problems."""
    from normexp import SoftmaxClassifier

    load, grid, ratio, n_folds = PROBLEMS[name]
    X, y = load()
    y = np.unique(y, return_inverse=True)[1]
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0).split(np.zeros(len(y)), y)
    more = {} if ratio is None else {"penalty": "elasticnet", "l1_ratio": ratio}
    tol = 1e-7 if X.shape[0] * X.shape[1] > 1_000_000 else 1e-9
    fit = [[SoftmaxClassifier(C=C, tol=tol, **more).fit(X[used], y[used]) for C in grid] for used, _ in folds]
    np.save(path, [[one.solution_.objective for one in row] for row in fit])


def row(one) -> str:
    """A line of the table."""
    if "wall_s" not in one:
        return f"| {one['name']} | {one['way']} | {one['note']} | | | | | | | |"
    passes = one["passes"] or ""
    return (
        f"| {one['name']} | {one['way']} | {one['wall_s']:.2f} | {one['cpu_s']:.2f} | {one['peak_mb']:.0f} | {passes} "
        f"| {max(0.0, one['worst']):.1e} | {one['there']} of {one['fits']} | {one['C']:.3g} | {one['log_loss']:.4f} |"
    )


def main() -> None:
    """Measure every contestant on every problem and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for each")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "cv.md")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        warnings.simplefilter("ignore")
        name, way, path = given.child
        if way == "minima":
            find_minima(name, Path(path))
        else:
            print(json.dumps(measure(name, way, Path(path))))
        return
    kept = given.output.with_suffix(".jsonl")
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    for name in given.only:
        path = given.output.with_name(f".cv-{name.replace(' ', '-')}.npy")
        for way in ("minima", *given.ways):
            if any(one["name"] == name and one["way"] == way for one in done) or (way == "minima" and path.exists()):
                continue
            command = [sys.executable, __file__, "--child", name, way, str(path)]
            limit = None if way == "minima" else given.limit
            try:
                ran = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=True, env=os.environ)
                if way == "minima":
                    continue
                one = json.loads(ran.stdout.splitlines()[-1])
            except subprocess.TimeoutExpired:
                one = {"name": name, "way": way, "note": f"> {given.limit:.0f}"}
            done.append(one)
            with kept.open("a") as file:
                file.write(json.dumps(one) + "\n")
            print(row(one), flush=True)
    done.sort(key=lambda one: (list(PROBLEMS).index(one["name"]), WAYS.index(one["way"])))
    names = ("normexp", "scikit-learn", "numpy", "scipy", "numba")
    versions = ", ".join(f"{one} {version(one)}" for one in names)
    head = "| rows | way | wall, s | CPU, s | peak, MB | passes | worst fit | within 1e-4 | C | log loss |"
    lines = [
        "# Cross-validation",
        "",
        "`python bench/cv.py`; its head says what is compared, and what was predicted.",
        "",
    ]
    lines += [f"Machine: {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}; {versions}.", ""]
    lines += [head, "|" + "---|" * 10, *map(row, done), ""]
    given.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
