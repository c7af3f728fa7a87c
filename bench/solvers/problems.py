"""The problems of the solver benchmark: a table, its classes, a penalty; and the objective that all are judged by."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BUNDLED = ("iris", "wine", "breast-cancer", "digits")
TABLES = (
    "abalone-rings", "covertype", "date-fruit", "dry-bean", "ecoli", "fruit-colors", "glass", "letter", "nci60",
    "satimage", "shuttle", "vowel", "wine-quality-red", "wine-quality-white", "yeast",
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """C sum loss + penalty, on X (N, D), y (N,) class indices; limit_s: seconds for each contestant."""

    name: str
    load: Callable[[], tuple]
    C: float = 1.0
    l1_ratio: float = 0.0
    penalised: bool = True
    limit_s: float = 120.0

    def objective(self, X, y, coef, intercept) -> float:
        """Sum of losses + penalty / C in float64, block by block; coef (S, D)."""
        total = 0.0
        coef, intercept = np.asarray(coef, np.float64), np.asarray(intercept, np.float64)
        for first in range(0, len(y), 4096):
            rows = slice(first, first + 4096)
            scores = np.asarray(X[rows] @ coef.T, np.float64) + intercept
            if scores.shape[1] == 1:
                scores = np.hstack([np.zeros_like(scores), scores])
            scores -= scores.max(axis=1, keepdims=True)
            own = scores[np.arange(len(scores)), y[rows]]
            total += float(np.sum(np.log(np.exp(scores).sum(axis=1)) - own))
        if not self.penalised:
            return total
        size = self.l1_ratio * np.abs(coef).sum() + (1 - self.l1_ratio) / 2 * np.square(coef).sum()
        return total + float(size) / self.C


def bundled(name):
    """One of scikit-learn's own tables."""
    from sklearn import datasets

    loaders = {
        "iris": datasets.load_iris, "wine": datasets.load_wine, "breast-cancer": datasets.load_breast_cancer,
        "digits": datasets.load_digits,
    }  # fmt: skip
    return loaders[name](return_X_y=True)


def table(name):
    """A table of the shared data: numbers as they come, words as indicators, gaps as the median."""
    import pandas as pd

    folder = DATA / name
    path = next(p for p in (folder / "data.csv.gz", folder / "train.csv.gz") if p.exists())
    frame = pd.read_csv(path)
    X = pd.get_dummies(frame.drop(columns="label")).astype(float)
    X = X.fillna(X.median()).fillna(0.0)
    return X.to_numpy(), np.unique(frame["label"].astype(str), return_inverse=True)[1]


def skewed(load):
    """The same with every column in units of 10^U(-3, 3) and shifted by up to ten of its spreads."""
    X, y = load()
    rng = np.random.default_rng(0)
    unit = 10.0 ** rng.uniform(-3, 3, size=X.shape[1])
    return (X + X.std(axis=0) * rng.uniform(-10, 10, size=X.shape[1])) * unit, y


def standardised(load):
    """The same with columns of mean 0 and variance 1: what scikit-learn's users are told to do."""
    X, y = load()
    spread = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0), y


def three(name):
    """A table with ordered labels, these cut into three classes of about the same size: none is separable."""
    import pandas as pd

    X, y = table(name)
    order = np.unique(pd.read_csv(DATA / name / "data.csv.gz")["label"].astype(str))
    grade = order[y].astype(float)
    return X, np.searchsorted(np.quantile(grade, [1 / 3, 2 / 3]), grade).astype(np.intp)


def fashion():
    """60 000 images of clothes, as they come divided by 255."""
    stored = np.load(DATA / "fashion-mnist" / "fashion-mnist.npz")
    return stored["x_train"].reshape(60_000, -1) / np.float32(255), stored["y_train"].astype(np.intp)


def words(name):
    """Texts as TF-IDF of words and pairs of words, sublinear, CSR."""
    import pandas as pd
    from sklearn.feature_extraction.text import TfidfVectorizer

    frame = pd.read_csv(DATA / name / "train.csv.gz", dtype=str, keep_default_na=False)
    X = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(frame["text"])
    return sparse.csr_matrix(X), np.unique(frame["label"], return_inverse=True)[1]


def embeddings(n_rows, n_features, n_classes, dtype=np.float32):
    """Synthetic embeddings: unit vectors around one centre for each class, with a decaying spectrum."""
    rng = np.random.default_rng(1)
    decay = np.geomspace(1.0, 0.05, n_features)
    centres = rng.normal(size=(n_classes, n_features)) * decay
    y = rng.integers(0, n_classes, size=n_rows)
    X = centres[y] + 1.5 * rng.normal(size=(n_rows, n_features)) * decay
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return (X * np.sqrt(n_features)).astype(dtype), y


def problems():
    """All problems, by name, small ones first."""
    found = []
    for name in BUNDLED + TABLES:
        load = (lambda n=name: bundled(n)) if name in BUNDLED else (lambda n=name: table(n))
        limit = 300.0 if name in {"covertype", "shuttle", "letter", "nci60"} else 120.0
        found.append(Problem(name, load, limit_s=limit))
        found.append(Problem(f"{name}, skewed", lambda f=load: skewed(f), limit_s=limit))
        found.append(Problem(f"{name}, standardised", lambda f=load: standardised(f), limit_s=limit))
    found += [
        Problem(f"{name} in three, no penalty", lambda n=name: standardised(lambda: three(n)), penalised=False)
        for name in ("abalone-rings", "wine-quality-white", "wine-quality-red")
    ]
    found += [
        Problem(f"{name}, L1", lambda n=name: standardised(lambda: bundled(n)), l1_ratio=1.0)
        for name in ("wine", "digits")
    ]
    found.append(Problem("dry-bean, L1", lambda: standardised(lambda: table("dry-bean")), C=0.1, l1_ratio=1.0))
    found += [
        Problem("clinc150, 1-2-grams", lambda: words("clinc150"), C=10.0, limit_s=600.0),
        Problem("newsgroups20, 1-2-grams", lambda: words("newsgroups20"), C=10.0, limit_s=900.0),
        Problem("newsgroups20, L1", lambda: words("newsgroups20"), l1_ratio=1.0, limit_s=900.0),
        Problem("icd10cm, 1-2-grams", lambda: words("icd10cm"), C=10.0, limit_s=1200.0),
        Problem("fashion-mnist", fashion, C=0.01, limit_s=900.0),
        Problem("embeddings K=100", lambda: embeddings(50_000, 768, 100), limit_s=900.0),
        Problem("embeddings K=1000", lambda: embeddings(50_000, 768, 1000), limit_s=1800.0),
    ]
    return {problem.name: problem for problem in found}
