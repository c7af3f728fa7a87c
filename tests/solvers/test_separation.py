"""Without a penalty it is decided whether an optimum exists: complete, quasi-complete separation, overlap."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_iris

from normexp import SoftmaxClassifier
from normexp.solvers import separation
from normexp.solvers.outcome import Outcome
from normexp.solvers.separation import Separation, separation_of


def clouds(n_rows=120, n_classes=3, apart=0.0, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n_rows) % n_classes
    return rng.normal(size=(n_rows, 3)) + apart * np.eye(n_classes, 3)[y], y


def one_feature_of_a_single_class():
    """The textbook's case: an indicator that is 1 in rows of one class only, beside classes that overlap."""
    X, y = clouds(n_classes=2)
    return np.column_stack([X, (np.arange(len(y)) % 7 == 1) & (y == 1)]), y


def one_class_apart():
    """Two classes overlap, the third lies far from both."""
    X, y = clouds()
    X[y == 2] += 50.0
    return X, y


def a_tie_at_the_border():
    return np.array([[0.0], [1.0], [2.0], [2.0], [3.0], [4.0]]), np.array([0, 0, 0, 1, 1, 1])


COMPLETE = {
    "two classes in a line": lambda: (np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])),
    "three clouds far apart": lambda: clouds(apart=40.0),
}
QUASI = {
    "an indicator of one class": one_feature_of_a_single_class,
    "one class apart": one_class_apart,
    "a tie at the border": a_tie_at_the_border,
    "iris": lambda: load_iris(return_X_y=True),  # setosa lies apart, the others overlap
}
OVERLAP = {
    "two clouds": lambda: clouds(n_classes=2),
    "three clouds": clouds,
    "a row on the wrong side": lambda: (np.array([[0.0], [1.0], [2.0], [0.5]]), np.array([0, 0, 1, 1])),
}
CASES = [
    *((name, make, Separation.COMPLETE) for name, make in COMPLETE.items()),
    *((name, make, Separation.QUASI) for name, make in QUASI.items()),
    *((name, make, Separation.OVERLAP) for name, make in OVERLAP.items()),
]
OUTCOMES = {
    Separation.COMPLETE: {Outcome.SEPARABLE},
    Separation.QUASI: {Outcome.QUASI_SEPARABLE},
    Separation.OVERLAP: {Outcome.GRADIENT, Outcome.FLAT},
}


def found(X, y, weight=None, *, fit_intercept=True):
    weight = np.ones(len(y)) if weight is None else weight
    dense = X.toarray() if sparse.issparse(X) else X
    centre, scale = dense.mean(axis=0), np.where(dense.std(axis=0) > 0, dense.std(axis=0), 1.0)
    if sparse.issparse(X) or not fit_intercept:
        centre = np.zeros_like(centre)
    return separation_of(
        X, y, weight, n_classes=int(y.max()) + 1, fit_intercept=fit_intercept, centre=centre, scale=scale
    )


def fitted(X, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SoftmaxClassifier(penalty=None, **options).fit(X, y)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize(("name", "make", "truth"), CASES, ids=[name for name, _, _ in CASES])
def test_the_program_decides(name, make, truth, kind):
    X, y = make()
    assert found(kind(X.astype(float)), y) is truth


@pytest.mark.parametrize(("name", "make", "truth"), CASES, ids=[name for name, _, _ in CASES])
def test_a_fit_says_it(name, make, truth):
    X, y = make()
    model = fitted(X.astype(float), y)
    assert model.solution_.outcome in OUTCOMES[truth]
    assert model.solution_.converged == (truth is Separation.OVERLAP)


def test_looking_at_the_training_accuracy_misses_quasi_complete_separation():
    """The textbook's test of separability: no row is classified wrongly. It fails each of these."""

    def textbook(X, y):
        return fitted(X, y).score(X, y) == 1.0

    assert all(textbook(*make()) for make in COMPLETE.values())
    assert not any(textbook(X.astype(float), y) for X, y in (make() for make in QUASI.values()))


def test_a_shift_and_a_scale_of_the_columns_change_nothing():
    for _, make, truth in CASES:
        X, y = make()
        assert found(X * np.geomspace(1e-4, 1e4, X.shape[1]) + 1e3, y) is truth


def test_rows_without_weight_and_the_intercept_matter():
    X, y = OVERLAP["a row on the wrong side"]()
    assert found(X, y, np.array([1.0, 1.0, 1.0, 0.0])) is Separation.COMPLETE
    X, y = COMPLETE["two classes in a line"]()
    assert found(X + 1.0, y, fit_intercept=False) is Separation.OVERLAP


def test_tables_too_large_for_the_program_stay_undecided_and_the_sentence_says_why(monkeypatch):
    monkeypatch.setattr(separation, "_MOST_ENTRIES", 10)
    X, y = one_class_apart()
    assert found(X, y) is Separation.UNDECIDED
    assert "too large, or read in blocks" in Outcome.GROWING.value
    assert separation.decided(Outcome.GROWING, Separation.UNDECIDED) is Outcome.GROWING
    assert separation.decided(Outcome.GROWING, Separation.OVERLAP) is Outcome.MAX_ITER


def test_classes_that_overlap_and_have_no_sure_row_need_no_program(monkeypatch):
    def never(*_, **__):
        raise AssertionError("a program was solved")

    monkeypatch.setattr(separation, "linprog", never)
    X, y = clouds()
    assert fitted(X, y).solution_.converged
    with pytest.raises(AssertionError):  # the test of the test
        fitted(*one_class_apart())


def test_sure_rows_of_overlapping_classes_need_no_program(monkeypatch):
    """A Newton step that moves nothing shows the optimum; the program took a hundred times as long as such a fit."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("the program was asked")

    monkeypatch.setattr("normexp.solvers.fit.separation_of", refuse)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 2))
    y = (3.0 * X[:, 0] + rng.logistic(size=500) > 0).astype(int)
    model = SoftmaxClassifier(penalty=None).fit(X, y)
    assert model.predict_proba(X).max() > 0.9999
    assert model.solution_.converged
    X[:, 1] = (y == 1) * (np.arange(500) < 40)  # of the rows with a 1 there all belong to one class
    with pytest.raises(AssertionError, match="the program was asked"):
        SoftmaxClassifier(penalty=None).fit(X, y)
