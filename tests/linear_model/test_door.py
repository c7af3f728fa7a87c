"""What comes in wrong is refused in a sentence that names the function, what came and what would be right."""

import numpy as np
import pytest
from scipy import sparse

import normexp as nx
from normexp import NormexpError, SoftmaxClassifier, SoftmaxClassifierCV, TrustedClassifier, explain, rows
from normexp.linear_model import LinearDiscriminant, NaiveBayesSoftmax, alpha_max, softmax_path

X = np.random.default_rng(0).uniform(0.1, 1.0, size=(60, 3))
Y = np.arange(60) % 3
FITS = {
    "SoftmaxClassifier.fit": lambda X, y: SoftmaxClassifier().fit(X, y),
    "SoftmaxClassifierCV.fit": lambda X, y: SoftmaxClassifierCV(Cs=2, cv=3).fit(X, y),
    "LinearDiscriminant.fit": lambda X, y: LinearDiscriminant().fit(X, y),
    "NaiveBayesSoftmax.fit": lambda X, y: NaiveBayesSoftmax().fit(X, y),
    "SoftmaxClassifier.partial_fit": lambda X, y: SoftmaxClassifier().partial_fit(X, y, classes=[0, 1, 2]),
    "alpha_max": alpha_max,
    "softmax_path": lambda X, y: softmax_path(X, y, Cs=2),
    "coef_intervals": lambda X, y: SoftmaxClassifier().fit(globals()["X"], Y).coef_intervals(X, y),
}


def holed(value):
    wrong = X.astype(object if isinstance(value, str) else float)
    wrong[7, 2] = value
    return wrong


WRONG = {
    "too few labels": (X, Y[:-1], ValueError, "X has 60 rows and y has 59 labels"),
    "NaN": (holed(np.nan), Y, ValueError, "Input X contains NaN, first in row 7, column 2"),
    "infinity": (holed(np.inf), Y, ValueError, "contains infinity.*, first in row 7, column 2"),
    "sparse NaN": (sparse.csr_matrix(holed(np.nan)), Y, ValueError, "contains NaN, first in row 7, column 2"),
    "text": (holed("red"), Y, ValueError, "X holds text, which is no number.*'red'.*encode"),
    "one dimension": (X[:, 0], Y, ValueError, r"Expected 2D array, got 1D array instead, X of shape \(60,\).*Reshape"),
    "NaN among labels": (X, np.where(np.arange(60) == 4, np.nan, Y), ValueError, "Input y contains NaN.*row 4"),
    "measurements as labels": (X, X[:, 0], ValueError, "Unknown label type"),
    "complex": (X * 1j, Y, ValueError, "Complex data not supported"),
    "no labels": (X, None, ValueError, "y"),
    "objects": (np.array([[{}] * 3] * 60), Y, TypeError, "dict"),
}


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_rows_are_refused_in_words(fit, wrong):
    rows_, labels, builtin, words = WRONG[wrong]
    with pytest.raises(NormexpError, match=f"(?s)^{fit}: .*{words}") as caught:
        FITS[fit](rows_, labels)
    assert isinstance(caught.value, builtin)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function"])
def test_another_width_names_the_method(method):
    model = SoftmaxClassifier().fit(X, Y)
    for wrong, words in ((X[:, :2], "X has 2 features, but SoftmaxClassifier is expecting 3"), (holed(np.nan), "NaN")):
        with pytest.raises(NormexpError, match=f"^SoftmaxClassifier.{method}: .*{words}"):
            getattr(model, method)(wrong)


def test_partial_fit_of_another_width_is_refused_in_words():
    model = SoftmaxClassifier().partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(NormexpError, match=r"^SoftmaxClassifier.partial_fit: X has 2 features, but .* expecting 3"):
        model.partial_fit(X[:, :2], Y)


def test_the_trusted_classifier_says_what_came():
    with pytest.raises(NormexpError, match=r"^TrustedClassifier.fit: .*X has 60 rows and y has 59 labels"):
        TrustedClassifier(cv=3).fit(X, Y[:-1])
    with pytest.raises(NormexpError, match=r"^TrustedClassifier.fit: Unknown label type"):
        TrustedClassifier(cv=3).fit(X, X[:, 0])
    with pytest.raises(NormexpError, match="contains NaN, first in row 7, column 2"):
        TrustedClassifier(cv=3).fit(holed(np.nan), Y)


def test_importance_says_what_came():
    model = SoftmaxClassifier().fit(X, Y)
    with pytest.raises(NormexpError, match="contains NaN, first in row 7, column 2"):
        explain.importance(model, holed(np.nan), Y)
    with pytest.raises(NormexpError, match="importance: y has shape"):
        explain.importance(model, X, Y[:-1])


@pytest.mark.parametrize(
    "fit", ["SoftmaxClassifierCV.fit", "LinearDiscriminant.fit", "NaiveBayesSoftmax.fit", "alpha_max", "softmax_path",
            "SoftmaxClassifier.partial_fit", "coef_intervals"],
)  # fmt: skip
def test_rows_on_disk_are_refused_by_what_needs_memory(fit, tmp_path):
    np.save(tmp_path / "rows.npy", X)
    with pytest.raises(NormexpError, match=f"^{fit}: the rows in .*rows.npy are not in memory"):
        FITS[fit](rows.from_npy(tmp_path / "rows.npy"), Y)


@pytest.mark.parametrize("fit", ["SoftmaxClassifier.fit", "SoftmaxClassifierCV.fit", "LinearDiscriminant.fit",
                                 "NaiveBayesSoftmax.fit", "SoftmaxClassifier.partial_fit"])  # fmt: skip
@pytest.mark.parametrize("form", ["csr_matrix", "csr_array", "csc_matrix"])
def test_int64_indices_give_the_same_coefficients(fit, form):
    short = sparse.random(60, 3, density=0.6, random_state=0, format="csr")
    long = getattr(sparse, form)(short)
    long.indices, long.indptr = long.indices.astype(np.int64), long.indptr.astype(np.int64)
    assert long.indices.dtype == np.int64
    np.testing.assert_array_equal(FITS[fit](long, Y).coef_, FITS[fit](short, Y).coef_)
    assert long.indices.dtype == np.int64  # the caller's matrix is as it was


def test_int64_indices_give_the_same_path():
    short = sparse.random(60, 3, density=0.6, random_state=0, format="csr")
    long = short.copy()
    long.indices, long.indptr = long.indices.astype(np.int64), long.indptr.astype(np.int64)
    assert alpha_max(long, Y) == alpha_max(short, Y)
    np.testing.assert_array_equal(softmax_path(long, Y, Cs=3).coefs, softmax_path(short, Y, Cs=3).coefs)


def test_a_model_that_is_not_fitted_says_so_as_scikit_learn_does():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        nx.SoftmaxClassifier().predict_top_k(X, 2)


def _calls():
    X, y = np.random.default_rng(0).normal(size=(90, 3)), np.arange(90) % 3
    wrong = {"penalty": "zz", "penalty_factor": [1.0], "class_weight": "none", "l1_ratio": 2.0}
    for name, value in wrong.items():
        yield f"alpha_max, {name}", lambda n=name, v=value: alpha_max(X, y, **{n: v}), "alpha_max"
        yield f"softmax_path, {name}", lambda n=name, v=value: softmax_path(X, y, **{n: v}), "softmax_path"
    yield "softmax_path, tol", lambda: softmax_path(X, y, tol=-1.0), "softmax_path"
    yield "softmax_path, l2", lambda: softmax_path(X, y, penalty="l2", sample_weight=[1.0]), "softmax_path"
    yield "alpha_max, weights", lambda: alpha_max(X, y, sample_weight=-np.ones(90)), "alpha_max"
    yield "alpha_max, cell", lambda: alpha_max(X * 1e200, y), "alpha_max"
    for name in ("penalty", "penalty_factor", "class_weight"):
        call = lambda n=name: SoftmaxClassifierCV(**{n: wrong[n]}).fit(X, y)  # noqa: E731  (one of a list)
        yield f"search, {name}", call, "SoftmaxClassifierCV.fit"
    yield "search, tol", lambda: SoftmaxClassifierCV(tol=-1.0).fit(X, y), "SoftmaxClassifierCV.fit"
    yield "batch", lambda: SoftmaxClassifier(C=-1).partial_fit(X, y), "SoftmaxClassifier.partial_fit"
    yield "lda", lambda: LinearDiscriminant().fit(X, y, [1.0]), "LinearDiscriminant.fit"


@pytest.mark.parametrize(("call", "called"), [pytest.param(c, w, id=n) for n, c, w in _calls()])
def test_a_sentence_names_the_function_that_was_called(call, called):
    with pytest.raises(NormexpError, match=f"^{called}: "):
        call()


IN_MEMORY = {
    "LinearDiscriminant.fit": lambda X, y: LinearDiscriminant().fit(X, y).coef_,
    "NaiveBayesSoftmax.fit": lambda X, y: NaiveBayesSoftmax().fit(X, y).coef_,
    "SoftmaxClassifierCV.fit": lambda X, y: SoftmaxClassifierCV(Cs=2).fit(X, y).coef_,
    "TrustedClassifier.fit": lambda X, y: TrustedClassifier().fit(X, y).predict_proba(np.ones((1, 3))),
    "alpha_max": alpha_max,
    "softmax_path": lambda X, y: softmax_path(X, y, Cs=2).coefs,
}


@pytest.mark.parametrize("called", IN_MEMORY)
def test_small_dask_arrays_are_computed_and_large_ones_refused(called):
    """Without the refusal a collection of any size was computed, until the memory was full."""
    dask_array = pytest.importorskip("dask.array")
    X, y = np.random.default_rng(0).uniform(size=(90, 3)), np.arange(90) % 3
    lazy = dask_array.from_array(X, chunks=(30, 3))
    np.testing.assert_array_equal(IN_MEMORY[called](lazy, y), IN_MEMORY[called](X, y))
    huge = dask_array.zeros((10**9, 300), chunks=(10**7, 300))
    with pytest.raises(NormexpError, match=rf"^{called}: X is a Dask collection of 2\.4e\+03 GB"):
        IN_MEMORY[called](huge, y)
    unknown = lazy[lazy[:, 0] > 0.5]
    with pytest.raises(NormexpError, match="unknown number of bytes"):
        IN_MEMORY[called](unknown, y)
