"""SoftmaxClassifier: scikit-learn's contract, its objective, and the bad input it must refuse in words."""

import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from contract import checks_of
from normexp import NormexpError, SoftmaxClassifier, SoftmaxClassifierCV


@pytest.mark.filterwarnings("ignore")  # the checks feed degenerate data on purpose
@pytest.mark.parametrize(("estimator", "check"), checks_of(SoftmaxClassifier()))
def test_scikit_learns_contract_is_kept(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("load", "minimum"), [(load_wine, 11.077958), (load_digits, 17.032352)])
def test_the_known_minimum_is_reached_at_default_settings(load, minimum):
    X, y = load(return_X_y=True)
    model = SoftmaxClassifier().fit(X, y)
    assert model.solution_.objective == pytest.approx(minimum, rel=2e-6)
    assert model.suboptimality_ <= 1e-6


def test_the_textbook_fit_does_not_reach_that_minimum():
    """scikit-learn's default stops early on the same table: the test above can fail."""
    X, y = load_wine(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression().fit(X, y)
    log_prob = model.predict_log_proba(X)
    objective = -log_prob[np.arange(len(y)), y].sum() + 0.5 * np.sum(model.coef_**2)
    assert objective > 11.077958 * 1.01


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_coefficients_agree_with_the_best_of_scikit_learn(load):
    X, y = load(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    ours = SoftmaxClassifier(tol=1e-13).fit(X, y)
    theirs = LogisticRegression(solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(X, y)
    assert ours.coef_.shape == theirs.coef_.shape
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)


def test_the_certificate_bounds_the_true_distance_from_the_minimum():
    X, y = load_digits(return_X_y=True)
    best = SoftmaxClassifier(tol=1e-13).fit(X, y).solution_.objective
    for tol in (1e-1, 1e-2, 1e-4):
        rough = SoftmaxClassifier(tol=tol).fit(X, y)
        true_distance = (rough.solution_.objective - best) / best
        assert true_distance <= rough.suboptimality_ <= tol


def test_units_of_the_columns_change_no_prediction_of_an_unpenalised_fit():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    y = (X @ rng.normal(size=(5, 3)) + rng.gumbel(size=(400, 3)) * 2).argmax(axis=1)
    unit, shift = 10.0 ** rng.uniform(-6, 6, size=5), rng.normal(size=5)
    plain = SoftmaxClassifier(C=np.inf, tol=1e-10).fit(X, y)
    scaled = SoftmaxClassifier(C=np.inf, tol=1e-10).fit((X + shift) * unit, y)
    np.testing.assert_allclose(scaled.predict_proba((X + shift) * unit), plain.predict_proba(X), atol=1e-6)


# Three times the largest of what eight fits show (wine, cancer, digits and iris, raw and standardised): 3.3e-11 between
# sparse and dense, 1.6e-6 and 1.1e-7 (probabilities, coefficients) between float32 and float64 rows.
AS_SPARSE, AS_FLOAT32, COEF_AS_FLOAT32 = 1e-10, 5e-6, 3.3e-7


def tables():
    """Rows that float32 holds exactly, raw and standardised."""
    for load in (load_wine, load_breast_cancer, load_digits):
        X, y = load(return_X_y=True)
        spread = X.std(axis=0)
        for rows in (X, (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)):
            yield rows.astype(np.float32).astype(np.float64), y


def test_sparse_and_dense_rows_give_the_same_fit():
    for X, y in tables():
        dense = SoftmaxClassifier(tol=1e-12).fit(X, y)
        for form in (sparse.csr_matrix, sparse.csc_matrix):
            thin = SoftmaxClassifier(tol=1e-12).fit(form(X), y)
            np.testing.assert_allclose(thin.coef_, dense.coef_, atol=AS_SPARSE * np.abs(dense.coef_).max() * 1.3)
            np.testing.assert_allclose(thin.predict_proba(form(X)), dense.predict_proba(X), atol=AS_SPARSE)


def test_float32_is_kept_and_agrees_with_float64():
    for X, y in tables():
        wide, narrow = (SoftmaxClassifier(tol=1e-12).fit(X.astype(dtype), y) for dtype in (np.float64, np.float32))
        assert narrow.coef_.dtype == np.float32
        prob = narrow.predict_proba(X.astype(np.float32))
        assert prob.dtype == np.float32
        np.testing.assert_allclose(prob, wide.predict_proba(X), atol=AS_FLOAT32)
        np.testing.assert_allclose(narrow.coef_, wide.coef_, atol=COEF_AS_FLOAT32)


def test_a_looser_fit_does_not_agree_so_closely():
    """Fits that stop earlier differ by more than these bounds: the two tests above can fail."""
    X, y = next(tables())
    best = SoftmaxClassifier(tol=1e-12).fit(X, y)
    rough = SoftmaxClassifier(tol=1e-4).fit(X, y)
    assert np.abs(rough.predict_proba(X) - best.predict_proba(X)).max() > AS_FLOAT32
    assert np.abs(rough.coef_ - best.coef_).max() > COEF_AS_FLOAT32


def test_data_frames_of_polars_are_taken_with_their_names():
    polars = pytest.importorskip("polars")
    X, y = load_wine(return_X_y=True)
    names = [f"measure {k}" for k in range(X.shape[1])]
    frame, labels = polars.DataFrame(X, schema=names), polars.Series("kind", y)
    for estimator in (SoftmaxClassifier(), SoftmaxClassifierCV(Cs=2, cv=3)):
        model = clone(estimator).fit(frame, labels)
        assert model.feature_names_in_.tolist() == names
        np.testing.assert_array_equal(model.predict_proba(frame), clone(estimator).fit(X, y).predict_proba(X))
        with pytest.raises(NormexpError, match="feature names should match"):
            model.predict(frame.rename({"measure 0": "other"}))


def test_verbose_tells_of_each_step_and_silence_of_none(caplog):
    X, y = load_wine(return_X_y=True)
    with caplog.at_level("INFO", logger="normexp"):
        SoftmaxClassifier().fit(X, y)
        assert not caplog.records
        model = SoftmaxClassifier(verbose=1).fit(X, y)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) >= model.n_iter_[0] > 0
    assert all("objective" in words and "certified within" in words for words in told)


def test_the_solution_tells_where_the_time_went():
    X, y = load_wine(return_X_y=True)
    seconds = SoftmaxClassifier().fit(X, y).solution_.seconds
    assert seconds
    assert all(isinstance(part, str) and np.isfinite(spent) and spent >= 0 for part, spent in seconds.items())
    assert sum(seconds.values()) > 0


def test_weights_count_as_repeated_rows():
    X, y = load_wine(return_X_y=True)
    weight = np.random.default_rng(0).integers(0, 4, size=len(y))
    weighted = SoftmaxClassifier(tol=1e-12).fit(X, y, sample_weight=weight)
    repeated = SoftmaxClassifier(tol=1e-12).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)


def test_balanced_class_weight_means_what_it_means_in_scikit_learn():
    X, y = load_wine(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    keep = np.r_[0:50, 59:80, 130:140]
    ours = SoftmaxClassifier(class_weight="balanced", tol=1e-12).fit(X[keep], y[keep])
    theirs = LogisticRegression(class_weight="balanced", solver="newton-cholesky", tol=1e-12).fit(X[keep], y[keep])
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)


def test_separable_classes_without_a_penalty_are_found_out_and_said():
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    with pytest.warns(ConvergenceWarning, match="separable"):
        model = SoftmaxClassifier(C=np.inf).fit(X, [0, 0, 1, 1])
    assert not model.solution_.converged
    assert list(model.predict(X)) == [0, 0, 1, 1]


def test_columns_that_add_up_to_a_constant_have_a_finite_unpenalised_fit():
    rng = np.random.default_rng(0)
    kind, X = rng.integers(0, 3, size=300), rng.normal(size=(300, 2))
    X = np.column_stack([X, np.eye(3)[kind]])
    y = (X @ rng.normal(size=(5, 3)) + rng.gumbel(size=(300, 3))).argmax(axis=1)
    whole = SoftmaxClassifier(penalty=None, tol=1e-9).fit(X, y)
    dropped = SoftmaxClassifier(penalty=None, tol=1e-9).fit(X[:, :-1], y)
    assert whole.solution_.converged
    assert whole.n_iter_[0] < 30
    assert np.abs(whole.coef_).max() < 100
    np.testing.assert_allclose(whole.predict_proba(X), dropped.predict_proba(X[:, :-1]), atol=1e-6)


def test_too_few_steps_are_said_and_the_model_still_predicts():
    X, y = load_digits(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        model = SoftmaxClassifier(max_iter=1).fit(X, y)
    assert model.score(X, y) > 0.5


def test_zero_steps_leave_the_start_and_do_not_warn():
    X, y = load_wine(return_X_y=True)
    model = SoftmaxClassifier(max_iter=0).fit(X, y)
    assert not model.coef_.any()


def test_a_warm_start_needs_no_step_at_the_optimum():
    X, y = load_wine(return_X_y=True)
    model = SoftmaxClassifier(warm_start=True).fit(X, y)
    assert model.n_iter_[0] > 0
    assert model.fit(X, y).n_iter_[0] <= 1


def test_the_most_probable_classes_come_first():
    X, y = load_digits(return_X_y=True)
    model = SoftmaxClassifier().fit(X, y)
    labels, prob = model.predict_top_k(X[:20], 3)
    assert np.array_equal(labels[:, 0], model.predict(X[:20]))
    np.testing.assert_array_equal(prob, -np.sort(-model.predict_proba(X[:20]), axis=1)[:, :3])


def test_log_probabilities_of_sure_rows_are_not_zero():
    model = SoftmaxClassifier(C=1e6).fit([[-1.0], [-0.9], [0.9], [1.0]], [0, 0, 1, 1])
    sure = model.predict_log_proba([[30.0]])[0, 1]
    assert -1e-20 < sure < 0.0


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"C": 0}, "C is 0; it must be a number above 0"),
        ({"C": -1.0}, "C is -1.0"),
        ({"C": "big"}, "C is 'big'"),
        ({"tol": -1e-3}, "tol is -0.001"),
        ({"max_iter": 1.5}, "max_iter is 1.5; it must be a whole number"),
        ({"penalty": "l3"}, "penalty is .l3.; it must be"),
        ({"solver": "sag"}, "solver is 'sag'; it must be one of"),
        ({"init": [[0.0]]}, "init has shape"),
    ],
)
def test_a_parameter_without_meaning_is_refused_in_a_sentence(parameters, sentence):
    X, y = load_wine(return_X_y=True)
    with pytest.raises(ValueError, match=sentence) as caught:
        SoftmaxClassifier(**parameters).fit(X, y)
    assert isinstance(caught.value, NormexpError)


@pytest.mark.parametrize(
    ("weight", "sentence"),
    [([1.0, -1.0, 1.0, 1.0], "row 1 is -1.0"), ([0.0] * 4, "zero"), ([1.0] * 3, "expected")],
)
def test_row_weights_without_meaning_are_refused_in_a_sentence(weight, sentence):
    with pytest.raises(NormexpError, match=sentence):
        SoftmaxClassifier().fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1], sample_weight=weight)


def test_one_class_only_is_refused_by_name():
    with pytest.raises(NormexpError, match="one class only"):
        SoftmaxClassifier().fit([[0.0], [1.0]], ["a", "a"])


def test_whole_numbers_that_are_nearly_all_different_are_warned_of_as_scikit_learn_does():
    X = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.warns(UserWarning, match="greater than 50%"):
        SoftmaxClassifier().fit(X, np.arange(30) // 1.5 // 1)
    with pytest.warns(UserWarning, match="greater than 50%"):
        SoftmaxClassifier().fit(X, (np.arange(30) // 1.5).astype(int))
    with pytest.raises(ValueError, match="continuous"):
        SoftmaxClassifier().fit(X, np.arange(30) / 4)
