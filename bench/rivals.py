"""The main job against scikit-learn, PyTorch and fastText: same rows, same split, one run, rivals in turn.

    python bench/rivals.py [--only softmax objective tables text] [--data FOLDER] [--output FILE]

Needs normexp[cli]; torch and fasttext-wheel where they are to be compared (else their rows say so). Times are medians
of the repetitions, warm (each was called once before on a few rows); texts are read, encoded and fitted once.
"""

import argparse
import platform
import resource
import statistics
import tempfile
import time
import warnings
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import normexp as nx
from normexp.tables import open_source
from normexp.trusted import TableClassifier

REPETITIONS = 3
COVERTYPE_ROWS = 92_962


def tables_of(data: Path):
    """Name, features, classes of each table, columns as measured."""
    for name, load in (("wine", load_wine), ("breast cancer", load_breast_cancer), ("digits", load_digits)):
        yield name, *load(return_X_y=True)
    for name in ("dry-bean", "date-fruit", "covertype"):
        frame = pd.read_csv(data / name / "data.csv.gz")
        yield name, frame.drop(columns="label").to_numpy(float), frame["label"].to_numpy()


def timed(work):
    """The result and the seconds."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def fit_file(model: TableClassifier, path: Path) -> TableClassifier:
    """Read, encode and fit."""
    return model.fit(open_source(path, target="label"))


def table_rows(data: Path):
    """Linear models at their defaults on unscaled tables, and the usual advice (scale first)."""
    models = {
        "normexp `SoftmaxClassifier()`": nx.SoftmaxClassifier,
        "scikit-learn `LogisticRegression()`": LogisticRegression,
        "scikit-learn, scaled, 1 000 steps": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "scikit-learn `LinearDiscriminantAnalysis()`": LinearDiscriminantAnalysis,
    }
    for name, X, y in tables_of(data):
        X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
        seconds = {model: [] for model in models}
        found = {}
        for repetition in range(REPETITIONS + 1):
            for label, make in models.items():
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    model, took = timed(partial(make().fit, X_train, y_train))
                if repetition:
                    seconds[label].append(took)
                found[label] = (
                    model.score(X_test, y_test),
                    log_loss(y_test, model.predict_proba(X_test), labels=model.classes_),
                    sorted({warning.category.__name__ for warning in caught}),
                )
        table = TableClassifier()
        with tempfile.TemporaryDirectory() as folder:
            for part, rows, labels in (("train", X_train, y_train), ("test", X_test, y_test)):
                frame = pd.DataFrame(rows, columns=[f"c{j}" for j in range(rows.shape[1])])
                frame.assign(label=labels).to_csv(Path(folder) / f"{part}.csv", index=False)
            _, took = timed(partial(fit_file, table, Path(folder) / "train.csv"))
            judged = table.labelled(open_source(Path(folder) / "test.csv", target="label"))
            prob = nx.softmax(judged.logits)
            found["normexp `fit` (chooses C)"] = (
                float((prob.argmax(axis=1) == judged.target).mean()),
                float(-np.log(prob[np.arange(len(prob)), judged.target]).mean()),
                [],
            )
            seconds["normexp `fit` (chooses C)"] = [took]
        for label, (accuracy, loss, told) in found.items():
            yield (
                name,
                label,
                f"{accuracy:.4f}",
                f"{loss:.4f}",
                f"{statistics.median(seconds[label]):.3f}",
                " ".join(told),
            )


def texts_of(data: Path, name: str):
    """Training and test texts with their labels."""
    for part in ("train", "test"):
        frame = pd.read_csv(data / name / f"{part}.csv.gz", dtype=str, keep_default_na=False)
        yield frame["text"].tolist(), frame["label"].tolist()


def text_rows(data: Path):
    """Text classifiers: accuracy on the standard test rows, seconds of reading, encoding and fitting."""
    for name in ("trec", "newsgroups20"):
        (texts, labels), (fresh, truth) = texts_of(data, name)
        folder = data / name

        def ours(folder=folder):
            model = TableClassifier(target="label", text="text")
            return model.fit(open_source(folder / "train.csv.gz", target="label", text="text"))

        model, took = timed(ours)
        judged = model.labelled(open_source(folder / "test.csv.gz", target="label", text="text"))
        yield (
            name,
            "normexp `fit`",
            f"{(judged.logits.argmax(axis=1) == judged.target).mean():.4f}",
            "",
            f"{took:.1f}",
            "",
        )
        yield fasttext_row(name, texts, labels, fresh, truth)

        def theirs(texts=texts, labels=labels):
            pipeline = make_pipeline(
                TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)
            )
            return pipeline.fit(texts, labels)

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pipeline, took = timed(theirs)
        told = " ".join(sorted({warning.category.__name__ for warning in caught}))
        label = "scikit-learn TF-IDF 1-2-grams, `LogisticRegression(C=10)`"
        yield name, label, f"{pipeline.score(fresh, truth):.4f}", "", f"{took:.1f}", told


def fasttext_row(name, texts, labels, fresh, truth):
    """The rival fastText with 25 epochs and pairs of words."""
    label = "fastText, 25 epochs, pairs of words"
    try:
        import fasttext
    except ImportError:
        return name, label, "", "", "", "not installed"
    with tempfile.TemporaryDirectory() as folder:
        for part, rows, classes in (("train", texts, labels), ("test", fresh, truth)):
            with (Path(folder) / part).open("w", encoding="utf-8") as lines:
                for text, cls in zip(rows, classes, strict=True):
                    lines.write(f"__label__{cls.replace(' ', '_')} {' '.join(text.lower().split())}\n")
        model, took = timed(
            lambda: fasttext.train_supervised(
                str(Path(folder) / "train"), epoch=25, wordNgrams=2, thread=2, lr=0.5, seed=0, verbose=0
            )
        )
        _, precision, _ = model.test(str(Path(folder) / "test"))
    return name, label, f"{precision:.4f}", "", f"{took:.1f}", ""


def softmax_rows():
    """Largest error of a float32 softmax and what log_softmax says of a class that leads by 20."""
    from mpmath import mp, mpf

    rng = np.random.default_rng(0)
    hard = (rng.normal(size=(200, 50)) * 20).astype(np.float32)
    lead = np.array([20.0, 0.0], np.float32)
    functions = {"normexp": (nx.softmax, nx.log_softmax)}
    import scipy.special

    functions["SciPy"] = (lambda z: scipy.special.softmax(z, axis=-1), lambda z: scipy.special.log_softmax(z, axis=-1))
    try:
        import torch

        functions["PyTorch"] = tuple(
            lambda z, of=of: of(torch.from_numpy(z), dim=-1).numpy() for of in (torch.softmax, torch.log_softmax)
        )
    except ImportError:
        pass
    mp.dps = 60
    truth = []
    for row in hard:
        terms = [mp.exp(mpf(float(v)) - mpf(float(row.max()))) for v in row]
        total = mp.fsum(terms)
        truth.append([term / total for term in terms])
    for label, (softmax, log_softmax) in functions.items():
        prob = softmax(hard)
        worst = 0.0
        for mine, right in zip(prob, truth, strict=True):
            for p, q in zip(mine, right, strict=True):
                if q > mpf("1.2e-38"):  # normal numbers
                    worst = max(worst, float(abs(mpf(float(p)) - q) / mpf(float(np.spacing(np.float32(float(q)))))))
        yield "softmax", label, f"{worst:.2f}", f"{log_softmax(lead)[0]:.3g}", "", ""


def objective_rows():
    """Where a fit on all rows of scikit-learn's own data stops: C sum loss + |W|^2 / 2 at C = 1."""
    models = {
        "normexp `SoftmaxClassifier()`": nx.SoftmaxClassifier(),
        "scikit-learn `LogisticRegression()`": LogisticRegression(),
        "scikit-learn `LogisticRegression(max_iter=1000)`": LogisticRegression(max_iter=1000),
    }
    for name, load in (("wine", load_wine), ("digits", load_digits)):
        X, y = load(return_X_y=True)
        for label, model in models.items():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model.fit(X, y)
            losses = -model.predict_log_proba(X)[np.arange(len(y)), y]
            told = " ".join(sorted({warning.category.__name__ for warning in caught}))
            yield name, label, f"{losses.sum() + 0.5 * np.sum(model.coef_**2):.4f}", told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "rivals.md")
    sections = ("softmax", "objective", "tables", "text")
    parser.add_argument("--only", nargs="+", choices=sections, default=sections)
    options = parser.parse_args()
    versions = []
    for package in ("normexp", "numpy", "scipy", "scikit-learn", "torch", "fasttext-wheel"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} not installed")
    where = f"{platform.machine()}, 2 cores, Python {platform.python_version()}"
    lines = [
        "# Against others, in one run",
        "",
        f"`python bench/rivals.py`. {where}; {', '.join(versions)}.",
        "",
    ]
    heads = {
        "softmax": "| function | library | largest error, ULP (float32) | log-probability of a class 20 ahead |",
        "objective": "| data, all rows | model | objective where the fit stops | warnings |",
        "tables": "| data, 25 % held out | model | accuracy | log loss | fit, s | warnings |",
        "text": "| data, standard split | model | accuracy | reading, encoding and fit, s | warnings |",
    }
    for section, rows in (
        ("softmax", softmax_rows),
        ("objective", objective_rows),
        ("tables", lambda: table_rows(options.data)),
        ("text", lambda: text_rows(options.data)),
    ):
        if section not in options.only:
            continue
        lines += [heads[section], "|" + "---|" * (heads[section].count("|") - 1)]
        for row in rows():
            cells = {"softmax": row[:4], "text": (*row[:3], *row[4:])}.get(section, row)
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
        lines.append("")
    lines.append(f"Peak memory of the run: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB.")
    options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
