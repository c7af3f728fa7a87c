"""Cells up to 1e150 in magnitude are fitted, and beyond a sentence names the column and the row, wherever rows lie."""

import dask.array
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from normexp import SoftmaxClassifier, rows
from normexp.base.errors import NormexpError
from normexp.base.magnitude import LARGEST, LargeCellError
from normexp.linear_model import LinearDiscriminant, NaiveBayesSoftmax, alpha_max
from normexp.solvers import Outcome


def table(factor=1.0):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = (X @ rng.normal(size=(3, 3)) + rng.gumbel(size=(60, 3))).argmax(axis=1)
    return X * factor, y


def _stored(tmp_path, X):
    np.save(tmp_path / "X.npy", X)
    return rows.from_npy(tmp_path / "X.npy")


PLACES = {
    "memory": lambda _, X: X,
    "stored": _stored,
    "dask": lambda _, X: dask.array.from_array(X, chunks=(20, 3)),
    "csr": lambda _, X: sparse.csr_matrix(X),
}


@pytest.mark.parametrize(
    ("place", "intercept"), [(place, True) for place in PLACES] + [(place, False) for place in ("memory", "stored")]
)
def test_columns_of_any_size_up_to_the_limit_give_the_same_unpenalised_fit(tmp_path, place, intercept):
    X, y = table()
    plain = SoftmaxClassifier(penalty=None, fit_intercept=intercept, tol=1e-10).fit(X, y).predict_proba(X)
    factor = 0.99 * LARGEST / np.abs(X).max()
    huge = PLACES[place](tmp_path, X * factor)
    model = SoftmaxClassifier(penalty=None, fit_intercept=intercept, tol=1e-10).fit(huge, y)
    assert np.abs(model.predict_proba(X * factor) - plain).max() < 1e-6


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [1.1 * LARGEST, -1e200, 1e300, 1.7e308])
def test_a_cell_beyond_the_limit_is_named(tmp_path, place, value):
    X, y = table()
    X[43, 1] = value
    with pytest.raises(LargeCellError, match=rf"column 1 of X holds {value:g}.* in row 43 ".replace("+", r"\+")):
        SoftmaxClassifier().fit(PLACES[place](tmp_path, X), y)


@pytest.mark.parametrize(
    "fit",
    [
        lambda X, y: SoftmaxClassifier(penalty="l1").fit(X, y),
        lambda X, y: SoftmaxClassifier(penalty="group_lasso").fit(X, y),
        lambda X, y: SoftmaxClassifier(fit_intercept=False).fit(X, y),
        lambda X, y: SoftmaxClassifier(init="lda").fit(X, y),
        lambda X, y: SoftmaxClassifier().partial_fit(X, y, classes=[0, 1, 2]),
        lambda X, y: SoftmaxClassifier().partial_fit(table()[0], y, classes=[0, 1, 2]).partial_fit(X, y),
        lambda X, y: LinearDiscriminant().fit(X, y),
        lambda X, y: NaiveBayesSoftmax().fit(np.abs(X), y),
        alpha_max,
        lambda X, y: SoftmaxClassifier().fit(table()[0], y).coef_intervals(X, y),
    ],
)
def test_every_fit_refuses_columns_whose_squares_overflow(fit):
    X, y = table(1e200)
    with pytest.raises(NormexpError, match=r"column 0 of X holds .* in row 53 "):
        fit(X, y)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.filterwarnings("error")
def test_float32_has_no_cell_too_large(kind):
    X, y = table()
    large = SoftmaxClassifier(penalty=None).fit(kind((X * 1e37).astype(np.float32)), y)
    wanted = SoftmaxClassifier(penalty=None).fit(X, y)
    assert np.abs(large.coef_ * 1e37 - wanted.coef_).max() < 1e-2


@pytest.mark.parametrize("parts", [{}, {"progress": lambda _: None}])
def test_columns_with_names_are_called_by_them(parts):
    X, y = table()
    X[3, 2] = 1e160
    with pytest.raises(LargeCellError, match="column 'width' holds 1e\\+160 in row 3 "):
        SoftmaxClassifier().fit(pd.DataFrame(X, columns=["a", "b", "width"]), y, **parts)


def test_weights_that_make_the_squares_overflow_are_said():
    X, y = table(1e149)
    with pytest.raises(NormexpError, match="the weighted squares of column 0 of X sum to more than float64 holds"):
        SoftmaxClassifier().fit(X, y, sample_weight=np.full(60, 1e20))


def test_the_textbook_moments_of_such_a_cell_are_no_numbers():
    X, _ = table()
    X[43, 1] = 1e160
    with np.errstate(over="ignore"):
        assert not np.isfinite(X.std(axis=0)).all()


@pytest.mark.parametrize("unit", [1e20, 1e60, 1e120, 1e140])
def test_more_features_than_rows_are_fitted_in_any_unit(unit):
    """At 1e100 and beyond the fit ended after one step with all coefficients at zero, and called it the optimum."""
    X, y = np.random.default_rng(0).normal(size=(10, 200)), np.arange(10) % 3
    model = SoftmaxClassifier().fit(X * unit, y)
    assert model.solution_.converged
    assert model.score(X * unit, y) == 1.0
    assert model.solution_.objective < 1e-30
    if unit == 1e20:
        assert model.suboptimality_ <= 1e-6


@pytest.mark.parametrize("penalty", ["l1", "group_lasso"])
def test_corners_below_rounding_end_at_the_optimum_to_rounding(penalty):
    """Columns of 1e120 hide any corner: the fit is that without a penalty, and was called STUCK."""
    X, y = table()
    model = SoftmaxClassifier(penalty=penalty).fit(X * 1e120, y)
    assert model.solution_.outcome is Outcome.FLAT
    free = SoftmaxClassifier(penalty=None, tol=1e-10).fit(X * 1e120, y)
    assert np.abs(model.predict_proba(X * 1e120) - free.predict_proba(X * 1e120)).max() < 1e-6
