"""Classes that come after the fit: added from five rows each, against a refit of everything; and how many there are.

    python bench/new_classes.py [--data ../shared/data] [--output bench/results/new_classes.md]

Prediction, written before the first run: `add_class` with five rows reaches the unseen accuracy of a refit on the same
rows within five points and costs the seen classes less than one; the level of the new logits, calibrated on known
classes that are taken out and added again, moves accuracy between seen and unseen by some points and lowers the log
loss. The estimated number of new classes is right within a factor of two where groups are round (satimage) and far too
low where there are many (omniglot, letter).

omniglot: 28 x 28 drawings of 242 characters by 20 people, shrunk to 14 x 14; 15 people train, 5 test. 20 characters
are held out, three draws. Of these five drawings each are given to `add_class` and to the refit; ten train nothing.
"""

import argparse
import os
import platform
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

import normexp as nx
from normexp.decide import add_class, propose_classes, remove_class

HELD, GIVEN, DRAWS = 20, 5, 3
KNOWN_ROWS = 1000

Floats = NDArray[np.float64]


def omniglot(data: Path) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Shrunk drawings, characters and drawers."""
    stored = np.load(data / "omniglot-small" / "omniglot-small.npz")
    x = stored["x"].astype(np.float64)
    x = x.reshape(len(x), 14, 2, 14, 2).mean(axis=(2, 4)).reshape(len(x), -1)
    return x / x.std(), stored["y"].astype(np.int64), stored["drawer"].astype(np.int64)


def added(model: nx.SoftmaxClassifier, X: Floats, y: NDArray[np.int64], known: Floats) -> nx.SoftmaxClassifier:
    """The model with every class of y added, one after the other."""
    for label in np.unique(y).tolist():
        model = add_class(model, X[y == label], label, known=known)
    return model


def moved(model: nx.SoftmaxClassifier, new: NDArray[np.int64], by: float) -> nx.SoftmaxClassifier:
    """The model with the logits of some classes moved."""
    out = nx.SoftmaxClassifier.from_sklearn(model.to_sklearn())
    out.intercept_ = model.intercept_ + by * np.isin(model.classes_, new)
    return out


def level(model: nx.SoftmaxClassifier, X: Floats, y: NDArray[np.int64], known: Floats, seed: int) -> float:
    """How much to add to new logits: known classes are taken out and added again from five rows; the others judge."""
    chosen = np.random.default_rng(seed).choice(model.classes_, HELD, replace=False)
    rest = model
    for label in chosen.tolist():
        rest = remove_class(rest, label)
    few = np.concatenate([np.flatnonzero(y == label)[:GIVEN] for label in chosen])
    again = added(rest, X[few], y[few], known)
    judged = np.setdiff1d(np.arange(len(y)), few)
    z, target = again.decision_function(X[judged]), np.searchsorted(again.classes_, y[judged])
    new = np.isin(again.classes_, chosen)
    # Seen rows trained the model and new ones did not: each side counts half by its own mean.
    heavy = np.where(new[target], 0.5 * HELD / len(again.classes_) / new[target].mean(), 1.0)
    found = minimize_scalar(
        lambda by: float(heavy @ nx.cross_entropy(z + by * new, target, reduction="none")), bounds=(-5, 5)
    )
    return float(found.x)


def judge(model: nx.SoftmaxClassifier, X: Floats, y: NDArray[np.int64], new: NDArray[np.bool_]) -> list[float]:
    """Accuracy of seen and unseen rows, their harmonic mean, and the log loss."""
    right = model.predict(X) == y
    seen, unseen = float(right[~new].mean()), float(right[new].mean())
    z, target = model.decision_function(X), np.searchsorted(model.classes_, y)
    known = np.isin(y, model.classes_)
    loss = float(nx.cross_entropy(z[known], target[known])) if known.all() else float("nan")
    return [seen, unseen, 2 * seen * unseen / max(seen + unseen, 1e-9), loss]


def addition(data: Path) -> list[str]:
    """The table of added classes."""
    X, y, drawer = omniglot(data)
    found: dict[str, list[list[float]]] = {}
    levels = []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        new = rng.choice(np.unique(y), HELD, replace=False)
        people = rng.permutation(20)
        train, fresh = np.isin(drawer, people[:15]), np.isin(y, new)
        few = np.concatenate([np.flatnonzero(train & (y == label))[:GIVEN] for label in new])
        seen = np.flatnonzero(train & ~fresh)
        test = ~train
        old = nx.SoftmaxClassifier(C=0.1, tol=1e-4).fit(X[seen], y[seen])
        known = X[rng.choice(seen, KNOWN_ROWS, replace=False)]
        wider = added(old, X[few], y[few], known)
        both = np.concatenate([seen, few])
        levels.append(level(old, X[seen], y[seen], known, draw))
        for title, model in {
            "before": old,
            "add_class, five rows each": wider,
            "the same, level calibrated": moved(wider, new, levels[-1]),
            "refit on the same rows": nx.SoftmaxClassifier(C=0.1, tol=1e-4).fit(X[both], y[both]),
        }.items():
            found.setdefault(title, []).append(judge(model, X[test], y[test], fresh[test]))
    lines = ["| model | seen | unseen | harmonic mean | log loss |", "|---|---|---|---|---|"]
    for title, rows in found.items():
        a, b, h, loss = np.mean(rows, axis=0)
        lines.append(f"| {title} | {a:.4f} | {b:.4f} | {h:.4f} | {loss:.4f} |")
    return [*lines, "", "Levels added to the new logits: " + ", ".join(f"{one:+.2f}" for one in levels) + "."]


def table(data: Path, name: str) -> tuple[Floats, NDArray[np.int64]]:
    """Standardised columns and classes of at most 3000 rows."""
    folder = data / name
    frame = pl.read_csv(next(iter(sorted(folder.glob("*.csv.gz")))), infer_schema_length=None)
    y = np.unique(frame["label"].to_numpy(), return_inverse=True)[1]
    x = frame.drop("label").select(pl.selectors.numeric()).to_numpy().astype(np.float64)
    kept = np.random.default_rng(0).permutation(len(y))[:3000]
    return (x[kept] - x[kept].mean(axis=0)) / (x[kept].std(axis=0) + 1e-12), y[kept]


def estimation(data: Path) -> list[str]:
    """True and estimated numbers of groups."""
    lines = ["| rows | groups in truth | estimate | agreement with the truth |", "|---|---|---|---|"]
    sets = {name: table(data, name) for name in ("satimage", "letter", "dry-bean")}
    X, y, _ = omniglot(data)
    for name, (x, label) in {**sets, "omniglot": (X, y)}.items():
        classes = np.random.default_rng(0).permutation(np.unique(label))
        for number in (3, 6, 12, 24):
            if number > len(classes):
                continue
            rows = np.isin(label, classes[:number])
            group = propose_classes(x[rows])
            lines.append(
                f"| {name}, {int(rows.sum())} of {number} classes | {number} | {len(np.unique(group))} | "
                f"{_agreement(label[rows], group):.2f} |"
            )
            print(lines[-1], flush=True)
    return lines


def strangers(data: Path) -> list[str]:
    """What is proposed for out-of-scope rows of CLINC150, and for the same number of rows of known intents."""
    frames = [pl.read_csv(data / "clinc150" / f"{part}.csv.gz") for part in ("train", "test")]
    words = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=3, sublinear_tf=True)
    space = make_pipeline(words, TruncatedSVD(100, random_state=0), Normalizer())
    train, test = (frame.filter(pl.col("label") != "oos") for frame in frames)
    space.fit(train["text"].to_list())
    oos = frames[1].filter(pl.col("label") == "oos")["text"].to_list()
    lines = ["| rows | groups in truth | estimate | sizes | agreement with the truth |", "|---|---|---|---|---|"]
    labels = test["label"].to_numpy()
    for title, chosen in [
        (f"{number} intents", np.random.default_rng(0).permutation(np.unique(labels))[:number])
        for number in (3, 6, 12, 24)
    ]:
        rows = np.isin(labels, chosen)
        group = propose_classes(space.transform(test.filter(pl.Series(rows))["text"].to_list()))
        truth = np.unique(labels[rows], return_inverse=True)[1]
        lines.append(
            _proposed(f"{title}, {rows.sum()} rows", str(len(chosen)), group, f"{_agreement(truth, group):.2f}")
        )
    lines.append(_proposed(f"out of scope, {len(oos)} rows", "not known", propose_classes(space.transform(oos)), ""))
    return lines


def _proposed(title: str, truth: str, group: NDArray[np.intp], agreement: str) -> str:
    """One line of that table."""
    sizes = np.bincount(group).tolist()
    shown = ", ".join(map(str, sizes[:6])) + (", ..." if len(sizes) > 6 else "")
    return f"| {title} | {truth} | {len(sizes)} | {shown} | {agreement} |"


def _agreement(truth: NDArray[np.int64], group: NDArray[np.intp]) -> float:
    """Adjusted Rand index."""
    return float(adjusted_rand_score(truth, group))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1].parent / "shared" / "data")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    packages = ("normexp", "numpy", "scipy", "scikit-learn")
    lines = [
        f"`python bench/new_classes.py`. Machine: {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}; " + ", ".join(f"{name} {version(name)}" for name in packages),
        "",
        __doc__.split("\n\n", 2)[2].strip(),
        "",
        f"## omniglot: {HELD} classes added to 222, mean of {DRAWS} draws",
        "",
        *addition(given.data),
        "",
    ]
    print("\n".join(lines[4:]), flush=True)
    lines += ["## The number of new classes, estimated by `propose_classes`", "", *estimation(given.data), ""]
    lines += ["## The same on texts of CLINC150 (character n-grams in 100 components)", "", *strangers(given.data), ""]
    print("\n".join(lines[-8:]), flush=True)
    if given.output:
        given.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
