"""TrustedClassifier around many bases: honest probabilities, kept promises, the cost, and words for bad input."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.model_selection import GroupKFold, StratifiedKFold, train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

import normexp as nx
from contract import checks_of
from normexp import metrics
from normexp.base.errors import NormexpError, NormexpWarning
from normexp.calibration import AutoCalibrator, EnsembleTemperatureScaling, TemperatureScaling, VectorScaling
from normexp.trusted.adjusting import adjusted, fit_adjusters
from normexp.trusted.reporting import promises

QUICK = {"calibrate": "temperature", "cv": 3}


def checks(estimator):
    return checks_of(estimator)


@pytest.mark.filterwarnings("ignore")  # the checks feed degenerate data on purpose
@pytest.mark.parametrize(("estimator", "check"), checks(nx.TrustedClassifier(**QUICK)))
def test_scikit_learns_contract_is_kept(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "check"),
    [*checks(nx.TrustedClassifier()), *checks(nx.TrustedClassifier(GaussianNB(), calibrate="temperature"))],
)
def test_scikit_learns_contract_is_kept_by_default_and_around_probabilities(estimator, check):
    check(estimator)


def clouds(n_rows, counts, seed=0, gap=1.5, width=6):
    """Rows of classes in the given shares, around corners of a cube; their logits are linear."""
    rng = np.random.default_rng(seed)
    share = np.asarray(counts, dtype=float)
    y = rng.choice(len(share), n_rows, p=share / share.sum())
    return rng.normal(size=(n_rows, width)) + gap * np.eye(len(share), width)[y], y


class Counting(ClassifierMixin, BaseEstimator):
    """A logistic regression that notes which rows it was fitted on and which it was asked about."""

    fits: list = []  # noqa: RUF012  (shared by all clones on purpose)

    def __init__(self, C=1.0):
        self.C = C

    def fit(self, X, y):
        self.model_ = LogisticRegression(C=self.C).fit(X, y)
        self.classes_ = self.model_.classes_
        self.asked_ = set()
        Counting.fits.append(({row.tobytes() for row in np.asarray(X)}, self.asked_))
        return self

    def predict_proba(self, X):
        self.asked_ |= {row.tobytes() for row in np.asarray(X)}
        return self.model_.predict_proba(X)


@pytest.mark.parametrize("folds", [2, 5])
def test_the_cost_is_one_fit_for_each_fold_and_one_more(folds):
    X, y = clouds(300, [1, 1, 1])
    Counting.fits.clear()
    model = nx.TrustedClassifier(Counting(), cv=folds, calibrate="temperature").fit(X, y)
    assert len(Counting.fits) == model.n_fits_ == folds + 1 <= 1.5 * folds
    assert len(Counting.fits[0][0]) == model.n_held_out_ == 300
    for fitted, asked in Counting.fits[1:]:
        assert len(fitted | asked) == 300
        assert not fitted & asked


@pytest.mark.parametrize(
    ("base", "source"),
    [
        (None, "decision_function"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "decision_function"),
        (make_pipeline(StandardScaler(), LinearSVC()), "decision_function"),
        (GaussianNB(), "predict_log_proba"),
        (RandomForestClassifier(20, random_state=0, n_jobs=1), "predict_log_proba"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_any_base_gets_probabilities_sets_and_refusals(base, source, load):
    X, y = load(return_X_y=True)
    model = nx.TrustedClassifier(base, **QUICK).fit(X[::2], y[::2])
    assert model.source_ == source
    new = X[1::2]
    prob = model.predict_proba(new)
    np.testing.assert_allclose(prob.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(new)), prob, rtol=1e-12)
    assert np.isfinite(model.predict_log_proba(new)).all()  # forests say 0, and this is not 0
    assert (model.predict(new) == model.classes_[prob.argmax(axis=1)]).all()
    assert model.predict_set(new).any(axis=1).all()
    assert metrics.coverage(y[1::2], model.predict_set(new)) > 0.83
    refused = model.predict_or_reject(new) == -1
    assert (refused == (model.unknown_score(new) > model.detector_.threshold_)).all()
    assert refused.mean() < 0.2
    assert model.score(new, y[1::2]) > 0.85


def test_a_base_that_is_too_sure_is_calibrated_on_rows_it_has_not_seen():
    X, y = load_breast_cancer(return_X_y=True)
    base = make_pipeline(StandardScaler(), GaussianNB())  # counts correlated columns several times
    plain = clone(base).fit(X[::2], y[::2])
    model = nx.TrustedClassifier(base).fit(X[::2], y[::2])
    before = metrics.log_loss(y[1::2], plain.predict_proba(X[1::2]), from_logits=False)
    after = metrics.log_loss(y[1::2], model.predict_proba(X[1::2]), from_logits=False)
    assert after < 0.6 * before
    assert model.loss_after_ < 0.7 * model.loss_before_
    assert model.loss_before_ == pytest.approx(before, rel=0.5)  # an in-sample loss would be far smaller


@pytest.mark.parametrize(
    "base",
    [
        LogisticRegression(class_weight="balanced"),
        make_pipeline(StandardScaler(), LogisticRegression(class_weight={0: 1.0, 1: 30.0, 2: 5.0})),
        nx.SoftmaxClassifier(class_weight="balanced"),
        RandomForestClassifier(25, class_weight="balanced", min_samples_leaf=10, random_state=0, n_jobs=1),
    ],
    ids=["balanced", "pipeline", "ours", "forest"],
)
def test_class_weights_are_undone(base):
    """The mean probability of each class is its share, as though nothing had been weighted."""
    X, y = clouds(3000, [90, 3, 7])
    model = nx.TrustedClassifier(base, **QUICK).fit(X, y)
    new, truth = clouds(20_000, [90, 3, 7], seed=1)
    share = np.bincount(truth) / len(truth)
    weighted = clone(base).fit(X, y).predict_proba(new).mean(axis=0)
    assert np.abs(weighted - share).max() > 0.05  # what is undone
    np.testing.assert_allclose(model.predict_proba(new).mean(axis=0), share, atol=0.01)
    assert model.moved_
    assert not nx.TrustedClassifier(**QUICK).fit(X, y).moved_


class Leaning(ClassifierMixin, BaseEstimator):
    """A logistic regression that prefers its first class, as a strong penalty on rare words does."""

    def __init__(self, lean=1.0, sharp=1.0):
        self.lean = lean
        self.sharp = sharp

    def fit(self, X, y):
        self.model_ = LogisticRegression().fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def decision_function(self, X):
        logits = self.sharp * self.model_.decision_function(X)
        logits[:, 0] += self.lean
        return logits


@pytest.mark.parametrize("calibrate", ["temperature", AutoCalibrator(keep_decisions=True)], ids=["named", "keeping"])
@pytest.mark.parametrize("sharp", [1.0, 0.5], ids=["right", "timid"])
def test_a_class_that_is_named_too_often_without_weights_is_set_right(calibrate, sharp):
    X, y = clouds(3000, [50, 30, 20])
    new, truth = clouds(20_000, [50, 30, 20], seed=1)
    share = np.bincount(truth) / len(truth)
    model = nx.TrustedClassifier(Leaning(sharp=sharp), calibrate=calibrate, cv=3).fit(X, y)
    assert model.matched_
    assert not model.moved_  # no weights, no resampling
    prob = model.predict_proba(new)
    np.testing.assert_allclose(prob.mean(axis=0), share, atol=0.012)
    left = nx.TrustedClassifier(Leaning(sharp=sharp), calibrate=None, cv=3).fit(X, y)
    assert np.abs(left.predict_proba(new).mean(axis=0) - share).max() > 0.05  # what is mended; None leaves it
    assert not left.matched_
    assert model.score(new, truth) > left.score(new, truth) + 0.01
    assert (
        metrics.log_loss(truth, prob, from_logits=False) < metrics.log_loss(truth, left.decision_function(new)) - 0.05
    )
    told = dict(promises(model))
    assert "named too often" in told["shares"]
    assert told["calibration"].startswith("temperature" if sharp < 1.0 or calibrate == "temperature" else "none needed")


def test_shares_that_chance_alone_misses_are_left():
    matched = [nx.TrustedClassifier(**QUICK).fit(*clouds(400, [6, 3, 1], seed=s)).matched_ for s in range(12)]
    assert matched == [False] * 12


def test_the_commonest_disease_of_ohsumed_comes_as_often_as_it_is_said_to(shared_data):
    frame = pd.read_csv(shared_data / "ohsumed23" / "train.csv.gz")
    train, test = train_test_split(frame, test_size=0.3, random_state=0, stratify=frame.label)
    base = make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2), nx.SoftmaxClassifier(C=30.0))
    share = test.label.value_counts(normalize=True).sort_index().to_numpy()

    def worst(prob):
        return np.abs(prob.mean(axis=0) - share).max()

    model = nx.TrustedClassifier(base, calibrate=AutoCalibrator(keep_decisions=True), cv=3)
    model.fit(train.text.to_numpy(), train.label.to_numpy())
    assert worst(model.estimator_.predict_proba(test.text.to_numpy())) > 0.018
    assert worst(model.predict_proba(test.text.to_numpy())) < 0.01


def test_on_the_held_out_rows_the_means_are_the_shares_to_six_digits(rng):
    y = rng.choice(4, 900, p=[0.9, 0.06, 0.03, 0.01])
    logits = 6.0 * np.eye(4)[y] + 3.0 * rng.normal(size=(900, 4)) + [0.0, 3.0, 4.0, 5.0]
    weight = rng.random(900)
    share = np.bincount(y, weight) / weight.sum()
    for calibrator in (TemperatureScaling(), EnsembleTemperatureScaling(), VectorScaling(), None):
        maps = fit_adjusters(logits, y, weight, calibrator, moved=True, counted=False)
        mean = weight @ np.asarray(nx.softmax(adjusted(maps, logits))) / weight.sum()
        np.testing.assert_allclose(mean, share, atol=1e-6)
    calibrated = fit_adjusters(logits, y, weight, TemperatureScaling(), moved=False, counted=False)
    assert np.abs(weight @ np.asarray(nx.softmax(adjusted(calibrated, logits))) / weight.sum() - share).max() > 0.01


def test_resampling_inside_a_pipeline_is_undone():
    imblearn = pytest.importorskip("imblearn.pipeline", reason="imbalanced-learn is not installed")
    from imblearn.over_sampling import SMOTE
    from imblearn.under_sampling import RandomUnderSampler

    X, y = clouds(3000, [90, 4, 6])
    new, truth = clouds(20_000, [90, 4, 6], seed=1)
    share = np.bincount(truth) / len(truth)
    for sampler in (SMOTE(random_state=0), RandomUnderSampler(random_state=0)):  # more rows, and fewer
        base = imblearn.Pipeline([("sample", sampler), ("fit", LogisticRegression())])
        resampled = clone(base).fit(X, y).predict_proba(new)
        model = nx.TrustedClassifier(base, **QUICK).fit(X, y)
        assert np.abs(resampled.mean(axis=0) - share).max() > 0.1
        np.testing.assert_allclose(model.predict_proba(new).mean(axis=0), share, atol=0.012)
        plain = LogisticRegression().fit(X, y).predict_proba(new)
        ours, theirs, best = (
            metrics.log_loss(truth, p, from_logits=False) for p in (model.predict_proba(new), resampled, plain)
        )
        assert ours < theirs - 0.1
        assert ours < best + 0.02


def test_what_weights_did_for_rare_classes_is_kept_in_the_balanced_decision():
    """Probabilities as good as those of the fit without weights, decisions as good as those of the fit with weights."""
    rng = np.random.default_rng(0)

    def drawn(n):
        y = rng.choice(3, n, p=[0.9, 0.06, 0.04])
        x = rng.normal(size=(n, 2)) * np.array([1.0, 0.4, 2.0])[y, None]  # no linear rule is right
        return x + np.array([[0.0, 0.0], [1.0, 0.5], [1.0, -2.0]])[y], y

    (X, y), (new, truth) = drawn(3000), drawn(20_000)
    weighted = nx.SoftmaxClassifier(class_weight="balanced")
    model = nx.TrustedClassifier(weighted, objective="balanced").fit(X, y)
    assert model.adjusters_[1].keep_decisions

    def loss(one):
        return metrics.log_loss(truth, one.predict_proba(new), from_logits=False)

    assert mean_recall(truth, model.predict(new)) > mean_recall(truth, weighted.fit(X, y).predict(new)) - 0.01
    assert loss(model) < loss(nx.SoftmaxClassifier().fit(X, y)) + 0.01 < loss(weighted) - 0.2


def crooked(n, rng):
    """A common class and two rare ones between which no linear rule is right."""
    y = rng.choice(3, n, p=[0.9, 0.06, 0.04])
    x = rng.normal(size=(n, 2)) * np.array([[1.0, 1.0], [3.0, 0.4], [1.0, 1.0]])[y]
    return x + np.array([[0.0, 0.0], [1.0, 1.0], [0.0, -2.0]])[y], y


def test_rows_in_the_place_of_logits_are_sent_to_predict():
    X, y = clouds(200, [1, 1, 1])
    model = nx.TrustedClassifier(**QUICK).fit(X, y)
    for wrong in (X, X[0], pd.DataFrame(X).assign(name="a")):
        with pytest.raises(
            ValueError, match=r"TrustedClassifier.decide: .*\(N, 3\), as logits\(X\).* predict\(X\)"
        ) as caught:
            model.decide(wrong)
        assert isinstance(caught.value, NormexpError)
    logits = model.logits(X)
    np.testing.assert_array_equal(model.classes_[model.decide(logits)], model.predict(X))
    with pytest.raises(ValueError, match=r"TrustedClassifier\.decide: logits hold NaN in row 4"):
        model.decide(np.where(np.arange(200)[:, None] == 4, np.nan, logits))


def mean_recall(truth, decided):
    return metrics.per_class(truth, np.eye(3)[decided], from_logits=False).recall.mean()


@pytest.mark.parametrize(
    "base",
    [nx.SoftmaxClassifier(), make_pipeline(StandardScaler(), LogisticRegression())],  # weights of rows, of classes
)
def test_the_balanced_objective_has_the_decisions_of_weights_and_the_probabilities_of_none(base, rng):
    (X, y), (new, truth) = crooked(2000, rng), crooked(20_000, rng)
    model = nx.TrustedClassifier(base, calibrate=None, objective="balanced").fit(X, y)
    weighted = clone(base)
    (name,) = [name for name in base.get_params() if name.split("__")[-1] == "class_weight"]
    weighted.set_params(**{name: "balanced"}).fit(X, y)
    assert model.balanced_.share_ == 0.0
    assert (model.predict(new) == weighted.predict(new)).mean() > 0.9999  # two solvers stop within their tolerances
    np.testing.assert_allclose(model.predict_proba(new), clone(base).fit(X, y).predict_proba(new), atol=1e-4)
    assert model.n_fits_ == model.balanced_.n_fits_ == 6
    moved = nx.TrustedClassifier(base, calibrate=None, adjustment=1.0).fit(X, y)
    assert moved.balanced_ is None
    assert mean_recall(truth, model.predict(new)) > mean_recall(truth, moved.predict(new)) + 0.02  # what it is for
    np.testing.assert_array_equal(model.decide(model.logits(new)), moved.predict(new))  # without the rows
    np.testing.assert_array_equal(model.set_params(objective=None).predict(new), model.logits(new).argmax(axis=1))


def test_where_weights_hardly_move_a_model_the_moved_decision_is_kept(rng):
    """The leaves of a grown tree hold single classes: weights of rows change no vote."""
    (X, y), (new, truth) = crooked(2000, rng), crooked(20_000, rng)
    forest = RandomForestClassifier(60, random_state=0)
    model = nx.TrustedClassifier(forest, objective="balanced", cv=3).fit(X, y)
    weighted = RandomForestClassifier(60, random_state=0, class_weight="balanced").fit(X, y)
    assert model.balanced_.share_ > 0.0
    assert mean_recall(truth, model.predict(new)) > mean_recall(truth, weighted.predict(new)) + 0.03


def test_the_balanced_fit_honours_weights_and_costs_and_is_saved(rng, tmp_path):
    (X, y), (new, _) = crooked(900, rng), crooked(500, rng)
    twice = np.where(y == 1, 2.0, 1.0)
    cost = np.column_stack([1 - np.eye(3), np.full(3, 0.3)])
    model = nx.TrustedClassifier(objective="balanced", cost_matrix=cost, reject=None, **QUICK).fit(X, y, twice)
    inner = model.balanced_.estimator_
    heavy = twice * twice.sum() / (3 * np.bincount(y, twice)[y])
    np.testing.assert_allclose(inner.coef_, nx.SoftmaxClassifier().fit(X, y, heavy).coef_, atol=1e-5)
    refused = model.predict_or_reject(new) == -1
    prob = model.balanced_.scaling_.predict_proba(inner.decision_function(new))
    np.testing.assert_array_equal(refused, prob.max(axis=1) < 0.7)
    assert 0.05 < refused.mean() < 0.95
    nx.save(model, tmp_path / "m.nx")
    np.testing.assert_array_equal(nx.load(tmp_path / "m.nx").predict_or_reject(new), model.predict_or_reject(new))


def test_a_base_that_takes_no_weights_has_its_decision_moved(rng):
    X, y = crooked(600, rng)
    model = nx.TrustedClassifier(KNeighborsClassifier(25), objective="balanced", **QUICK).fit(X, y)
    assert model.balanced_ is None
    moved = nx.TrustedClassifier(KNeighborsClassifier(25), adjustment=1.0, **QUICK).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), moved.predict(X))


def test_decisions_move_while_probabilities_stay():
    X, y = clouds(3000, [90, 3, 7])
    new, truth = clouds(20_000, [90, 3, 7], seed=1)
    plain = nx.TrustedClassifier(**QUICK).fit(X, y)
    prob, decided = plain.predict_proba(new), plain.predict(new)

    def with_options(**options):
        model = nx.TrustedClassifier(**QUICK, **options).fit(X, y)
        np.testing.assert_array_equal(model.predict_proba(new), prob)
        return model

    balanced = with_options(adjustment=1.0).predict(new)
    refitted = with_options(objective="balanced").predict(new)
    first, *others = [
        metrics.per_class(truth, np.eye(3)[d], from_logits=False).recall.mean() for d in (decided, balanced, refitted)
    ]
    assert min(others) > first + 0.05
    np.testing.assert_array_equal(with_options(adjustment=0).predict(new), decided)
    np.testing.assert_array_equal(with_options(prior=[1 / 3] * 3).predict(new), balanced)
    np.testing.assert_array_equal(with_options(thresholds=plain.prior_).predict(new), balanced)
    cost = 1 - np.eye(3)
    cost[1] *= 40
    careful = with_options(cost_matrix=cost).predict(new)
    paid = [cost[truth, d].mean() for d in (decided, balanced, careful)]
    assert paid[2] < min(paid[:2])


def test_refusing_may_be_a_decision_with_a_cost():
    X, y = clouds(2000, [1, 1, 1])
    cost = np.column_stack([1 - np.eye(3), np.full(3, 0.2)])
    model = nx.TrustedClassifier(cost_matrix=cost, reject=None, reject_label="ask", **QUICK).fit(X, y)
    answer = model.predict_or_reject(X)
    unsure = model.predict_proba(X).max(axis=1) < 0.8
    assert ((answer == "ask") == unsure).all()
    assert 0.05 < unsure.mean() < 0.95


def test_the_promised_coverage_and_false_alarms_hold_on_new_rows():
    """Each within the binomial band of 5 standard deviations around what the held-out rows promise."""
    X, y = clouds(4000, [3, 2, 1], gap=1.0)
    new, truth = clouds(4000, [3, 2, 1], seed=1, gap=1.0)
    for coverage, reject in ((0.8, 0.1), (0.95, 0.02)):
        model = nx.TrustedClassifier(coverage=coverage, reject=reject, **QUICK).fit(X, y)
        band = 5 * np.sqrt(coverage * (1 - coverage) / 2000)
        assert abs(metrics.coverage(truth, model.predict_set(new)) - coverage) < band
        alarms = (model.unknown_score(new) > model.detector_.threshold_).mean()
        assert abs(alarms - reject) < 5 * np.sqrt(reject * (1 - reject) / 2000)


def test_a_target_risk_is_kept_by_refusing():
    X, y = clouds(4000, [1, 1, 1], gap=1.4)
    new, truth = clouds(20_000, [1, 1, 1], seed=1, gap=1.4)
    model = nx.TrustedClassifier(reject=None, target_risk=0.1, **QUICK).fit(X, y)
    answer = model.predict_or_reject(new)
    kept = answer != -1
    assert (model.predict(new) != truth).mean() > 0.2
    assert (answer[kept] != truth[kept]).mean() < 0.11
    assert 0.2 < kept.mean() < 0.9


def test_rows_from_elsewhere_are_refused():
    X, y = load_digits(return_X_y=True)
    known = y < 8
    model = nx.TrustedClassifier(**QUICK).fit(X[known][::2], y[known][::2])
    false_alarms = (model.predict_or_reject(X[known][1::2]) == -1).mean()
    found = (model.predict_or_reject(X[~known]) == -1).mean()
    assert false_alarms < 0.09
    assert found > 0.4
    far = model.predict_or_reject(20 * X[known][:50])  # the logits are surer than ever; the distance tells
    assert (far == -1).all()
    assert (model.predict_proba(20 * X[known][:50]).max(axis=1) > 0.999).mean() > 0.5


def test_labels_are_refused_by_their_own_kind():
    X, y = load_wine(return_X_y=True)
    words = np.array(["red", "white", "rosé"])[y]
    strange = np.vstack([X[:1], 1000 * X[:1]])
    model = nx.TrustedClassifier(**QUICK).fit(X, words)
    assert model.predict_or_reject(strange).tolist() == ["red", "unknown"]
    assert nx.TrustedClassifier(reject_label=99, **QUICK).fit(X, y).predict_or_reject(strange).tolist() == [0, 99]
    assert nx.TrustedClassifier(reject_label="?", **QUICK).fit(X, y).predict_or_reject(strange).tolist() == [0, "?"]
    assert nx.TrustedClassifier(reject=0, **QUICK).fit(X, y).predict_or_reject(strange).tolist()[0] == 0


def test_frames_texts_and_sparse_rows_go_through():
    X, y = load_wine(return_X_y=True, as_frame=True)
    model = nx.TrustedClassifier(make_pipeline(StandardScaler(), LogisticRegression()), **QUICK).fit(X, y)
    assert model.feature_names_in_.tolist() == X.columns.tolist()
    assert model.predict(X).shape == (178,)
    rng = np.random.default_rng(0)
    words = {"spam": ["win", "cash", "prize"], "ham": ["see", "you", "lunch"]}
    y = rng.choice(["spam", "ham"], 200)
    texts = [" ".join(rng.choice(words[name], 6)) + f" {i}" for i, name in enumerate(y)]
    model = nx.TrustedClassifier(make_pipeline(TfidfVectorizer(), nx.SoftmaxClassifier()), **QUICK).fit(texts, y)
    assert model.score(texts, y) == 1.0
    assert model.unknown_score(["win lunch cash you"]) > model.unknown_score(["win cash win cash"])
    counts = sparse.csr_matrix(rng.poisson(1 + np.eye(2, 8)[(y == "ham").astype(int)] * 3).astype(float))
    assert nx.TrustedClassifier(**QUICK).fit(counts, y).predict_proba(counts).shape == (200, 2)


def test_what_the_base_can_do_is_passed_on_but_not_its_fitting():
    X, y = load_wine(return_X_y=True)
    model = nx.TrustedClassifier(**QUICK)
    with pytest.raises(AttributeError, match="not fitted"):
        _ = model.coef_
    model.fit(X, y)
    assert model.coef_ is model.estimator_.coef_
    assert model.predict_top_k(X[:2], 2)[0].shape == (2, 2)
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match="no_such"):
        _ = model.no_such


def test_a_calibrator_of_your_own_is_used_and_none_leaves_the_base_alone():
    X, y = clouds(600, [1, 1])
    own = nx.TrustedClassifier(calibrate=TemperatureScaling(shrinkage=5.0)).fit(X, y)
    assert own.adjusters_[-1].shrinkage == 5.0
    none = nx.TrustedClassifier(calibrate=None).fit(X, y)
    np.testing.assert_array_equal(none.predict_proba(X), nx.SoftmaxClassifier().fit(X, y).predict_proba(X))
    assert none.loss_before_ == none.loss_after_


def test_starting_the_folds_at_all_rows_leaves_no_trace():
    """The held-out logits agree with those of fits from zero far below what a row changes."""
    X, y = clouds(400, [2, 1, 1], gap=1.0)

    class FromZero(nx.SoftmaxClassifier):
        """Any other type starts at zero."""

    warm = nx.TrustedClassifier(nx.SoftmaxClassifier(tol=1e-10), calibrate=None).fit(X, y)
    cold = nx.TrustedClassifier(FromZero(tol=1e-10), calibrate=None).fit(X, y)
    in_sample = metrics.log_loss(y, warm.predict_proba(X), from_logits=False)
    assert warm.loss_before_ == pytest.approx(cold.loss_before_, abs=1e-4)
    assert abs(warm.loss_before_ - in_sample) > 50e-4


def test_copies_stay_on_one_side_and_are_mentioned():
    X, y = clouds(300, [1, 1], gap=0.5)
    twice, labels = np.vstack([X, X]), np.concatenate([y, y])
    tree = RandomForestClassifier(30, random_state=0, n_jobs=1)
    with pytest.warns(NormexpWarning, match="300 of the 600 rows are copies"):
        nx.TrustedClassifier(tree, cv=5, calibrate=None).fit(twice, labels)
    once = nx.TrustedClassifier(tree, cv=5, calibrate="temperature").fit(X, y)
    leaked = nx.TrustedClassifier(tree, cv=StratifiedKFold(5, shuffle=True, random_state=0), calibrate="temperature")
    leaked.fit(twice, labels)
    assert leaked.loss_after_ < 0.7 * once.loss_after_  # what copies on both sides make one believe
    held = nx.TrustedClassifier(tree, cv=5, calibrate="temperature")
    with pytest.warns(NormexpWarning, match="copies"):
        held.fit(twice, labels)
    assert held.loss_after_ == pytest.approx(once.loss_after_, rel=0.15)


def test_coarse_rows_repeat_by_nature():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, size=(400, 2)).astype(float)
    y = (X[:, 0] + rng.random(400) > 0.8).astype(int)
    nx.TrustedClassifier(**QUICK).fit(X, y)  # a warning would be an error here


def test_groups_stay_together_and_splits_with_common_rows_are_mentioned():
    X, y = clouds(300, [1, 1])
    group = np.repeat(np.arange(30), 10)
    Counting.fits.clear()
    model = nx.TrustedClassifier(Counting(), calibrate="temperature", cv=3).fit(X, y, groups=group)
    assert model.n_fits_ == 4
    for rows, _ in Counting.fits[1:]:
        for g in range(30):
            there = [row.tobytes() in rows for row in X[group == g]]
            assert all(there) or not any(there)
    by_splitter = nx.TrustedClassifier(calibrate="temperature", cv=GroupKFold(3)).fit(X, y, groups=group)
    assert by_splitter.n_fits_ == 4
    leaky = [(np.arange(300), np.arange(150)), (np.arange(300), np.arange(150, 300))]
    with pytest.warns(NormexpWarning, match="hold out 300 rows that they also fit"):
        nx.TrustedClassifier(calibrate="temperature", cv=leaky).fit(X, y)


def test_a_perfect_model_on_held_out_rows_is_suspected_of_a_leak():
    """A base that remembers every row of the table, as one whose features hold the answer: none wrong, yet unsure."""
    X, y = clouds(400, [1, 1], gap=0.3)
    X = np.column_stack([X, 0.9 * (2 * y - 1)])
    base = LogisticRegression(C=1e-2)
    with pytest.warns(NormexpWarning, match="trained on"):
        nx.TrustedClassifier(make_pipeline(StandardScaler(), base)).fit(X, y)


def test_rare_classes_are_said_and_never_break_a_fold():
    X, y = clouds(200, [1, 1])
    X, y = np.vstack([X, X[:3] + 5]), np.concatenate([y, [2, 2, 3]])
    with pytest.warns(NormexpWarning, match=r"2 of the 4 classes \(2, 3\) have fewer than 5 rows; 1 with a single"):
        model = nx.TrustedClassifier(calibrate="temperature").fit(X, y)
    assert model.predict_proba(X).shape == (203, 4)
    assert model.n_held_out_ == 202


@pytest.mark.filterwarnings("ignore::normexp.base.errors.NormexpWarning")
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros(10, int), "one class"),
        (np.arange(5), "single row"),
        (np.array([0, 0, 0, 0, 0, 0, 1]), "only rows of the class"),
    ],
)
def test_too_few_rows_are_a_sentence(rows, words):
    X = np.random.default_rng(0).normal(size=(len(rows), 3))
    with pytest.raises(NormexpError, match=words) as caught:
        nx.TrustedClassifier().fit(X, rows)
    assert str(caught.value).startswith("TrustedClassifier.fit: ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coverage": 1.0}, "coverage is 1.0"),
        ({"coverage": "most"}, "coverage is 'most'"),
        ({"reject": -0.1}, "reject is -0.1"),
        ({"target_risk": 2}, "target_risk is 2"),
        ({"calibrate": "platt"}, "calibrate is 'platt'"),
        ({"calibrate": 3}, "calibrate is 3"),
        ({"cv": 0}, "cv is 0"),
        ({"cv": "many"}, "cv is 'many'"),
        ({"cv": 2.5}, "cv is 2.5"),
        ({"objective": "f1"}, "objective is 'f1'"),
        ({"objective": "balanced", "adjustment": 1.0}, "adjustment=1.0"),
        ({"objective": "balanced", "prior": [0.5, 0.5]}, "give one of them"),
        ({"adjustment": -1}, "adjustment is -1"),
        ({"prior": [0.5, 0.2]}, "prior sums to 0.7"),
        ({"prior": [1.0]}, "prior has shape"),
        ({"thresholds": [0.5, 0.0]}, "thresholds hold 0"),
        ({"thresholds": [0.5]}, "thresholds has shape"),
        ({"cost_matrix": [[0, 1]]}, "cost_matrix has shape"),
        ({"cost_matrix": [[1, 0], [1, 0]]}, "must not cost"),
        ({"cost_matrix": "cheap"}, "cost_matrix is 'cheap'"),
        ({"cost_matrix": [[0, 1], [1]]}, "unequal lengths"),
        ({"cost_matrix": {0: 1, 1: 2}}, "cost_matrix gives 0 the cost 1"),
        ({"random_state": "a"}, "random_state is 'a'"),
        ({"random_state": -1}, "random_state is -1"),
        ({"cv": [([0, 1, 2], [60])]}, "beyond the 60 rows"),
        ({"cost_matrix": [[0, np.nan], [1, 0]]}, "not finite"),
        ({"estimator": SVC(decision_function_shape="ovo")}, None),
        ({"estimator": StandardScaler()}, "neither decision_function nor predict_proba"),
    ],
    ids=str,
)
def test_options_without_a_meaning_are_refused_in_a_sentence(options, words):
    X, y = clouds(60, [1, 1])
    if words is None:  # pairwise votes have one column for each pair
        X, y = clouds(80, [1, 1, 1, 1])
        words = "one column for each class is needed"
    with pytest.raises(NormexpError, match=words) as caught:
        nx.TrustedClassifier(**options).fit(X, y)
    assert str(caught.value).startswith("TrustedClassifier.fit: ")


class Answers(ClassifierMixin, BaseEstimator):
    """Centres of the classes, and what its methods make of the distances to them."""

    def __init__(self, kind="softmax"):
        self.kind = kind

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.centres_ = np.array([X[y == label].mean(axis=0) for label in self.classes_])
        return self

    def predict_proba(self, X):
        z = -((X[:, None] - self.centres_) ** 2).sum(axis=2)
        prob = np.exp(z - z.max(axis=1, keepdims=True))
        prob /= prob.sum(axis=1, keepdims=True)
        if self.kind == "float16":
            return prob.astype(np.float16)
        if self.kind == "one column":
            return prob[:, 1]
        if self.kind == "negative":
            return np.column_stack([prob[:, 0] + 0.5, prob[:, 1:-1], prob[:, -1] - 0.5])
        return {"softmax": prob, "sigmoids": 1 / (1 + np.exp(-z)), "0.9": np.full(z.shape, 0.9)}[self.kind]


class LogAnswers(Answers):
    def predict_log_proba(self, X):
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))


@pytest.mark.parametrize("base", [Answers, LogAnswers])
@pytest.mark.parametrize(
    ("kind", "words"),
    [("0.9", "row 0 sums to 2.7"), ("sigmoids", "row 0 sums to"), ("one column", "one column for each class")],
)
def test_probabilities_that_are_none_are_refused_by_the_estimators_name_and_a_row(base, kind, words):
    X, y = clouds(90, [1, 1, 1])
    with pytest.raises(NormexpError, match=words) as caught:
        nx.TrustedClassifier(base(kind), **QUICK).fit(X, y)
    assert str(caught.value).startswith("TrustedClassifier.fit: ")
    assert f"of the estimator {base.__name__} " in str(caught.value) or kind == "one column"


def test_negative_probabilities_are_refused_and_rounded_ones_taken():
    X, y = clouds(90, [1, 1, 1])
    with pytest.raises(NormexpError, match=r"Answers .* holds a negative number"):
        nx.TrustedClassifier(Answers("negative"), **QUICK).fit(X, y)
    rounded = nx.TrustedClassifier(Answers("float16"), **QUICK).fit(X, y)
    exact = nx.TrustedClassifier(Answers("softmax"), **QUICK).fit(X, y)
    np.testing.assert_allclose(rounded.predict_proba(X), exact.predict_proba(X), atol=2e-3)


@pytest.mark.parametrize(
    ("groups", "words"), [(np.arange(59), "shape .59,."), (np.zeros(60, int), "1 group"), (3, "shape")]
)
def test_groups_that_cannot_be_split_are_refused_in_a_sentence(groups, words):
    X, y = clouds(60, [1, 1])
    with pytest.raises(NormexpError, match=words) as caught:
        nx.TrustedClassifier().fit(X, y, groups=groups)
    assert str(caught.value).startswith("TrustedClassifier.fit: groups ")


def test_weights_need_a_base_that_takes_them():
    X, y = clouds(60, [1, 1])
    weight = np.ones(60)
    with pytest.raises(NormexpError, match="takes none"):
        nx.TrustedClassifier(make_pipeline(StandardScaler(), LogisticRegression())).fit(X, y, sample_weight=weight)
    by_name = {"logisticregression__sample_weight": weight}
    nx.TrustedClassifier(make_pipeline(StandardScaler(), LogisticRegression()), **QUICK).fit(X, y, **by_name)
    nx.TrustedClassifier(Perceptron(), **QUICK).fit(X, y)  # margins alone are enough


def test_rows_of_weight_zero_promise_nothing():
    X, y = clouds(400, [1, 1], gap=0.8)
    weight = np.where(np.arange(400) < 200, 1.0, 0.0)
    model = nx.TrustedClassifier(**QUICK).fit(X, y, sample_weight=weight)
    assert model.n_held_out_ == 200


def test_one_hold_out_is_two_fits_and_a_fifth_of_the_rows():
    X, y = clouds(500, [1, 1, 1])
    model = nx.TrustedClassifier(cv=1, calibrate="temperature").fit(X, y)
    assert (model.n_fits_, model.n_held_out_) == (2, 100)


def test_the_folds_follow_the_counted_cost(monkeypatch):
    from normexp.trusted import cross_fit

    X, y = clouds(400, [1, 1, 1])
    cheap = nx.TrustedClassifier(cv="auto", calibrate="temperature").fit(X, y)
    assert cheap.n_fits_ == 6
    work = cheap.estimator_.solution_.n_passes * X.size * 3
    for affordable, fits in ((0.8 * 3.5 * work, 4), (0.8 * 2 * work, 2)):
        monkeypatch.setattr(cross_fit, "AFFORDABLE", affordable)
        assert nx.TrustedClassifier(cv="auto", calibrate="temperature").fit(X, y).n_fits_ == fits


def test_a_loaded_model_answers_alike(tmp_path):
    X, y = load_wine(return_X_y=True)
    model = nx.TrustedClassifier(cost_matrix=1 - np.eye(3), target_risk=0.3).fit(X, y)
    nx.save(model, tmp_path / "m.nx")
    again = nx.load(tmp_path / "m.nx")
    for ask in ("predict", "predict_proba", "predict_set", "unknown_score", "predict_or_reject"):
        assert np.array_equal(getattr(again, ask)(X), getattr(model, ask)(X))


def test_the_report_is_a_page(tmp_path):
    X, y = load_wine(return_X_y=True)
    model = nx.TrustedClassifier(**QUICK).fit(X[::2], y[::2])
    model.report(X[1::2], y[1::2], tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    with pytest.raises(NormexpError, match="row 1"):
        model.report(X[:2], [0, 7], tmp_path / "no.html")
    assert not (tmp_path / "no.html").exists()
    frame = pd.DataFrame(X[1::2], columns=[f"c{j}" for j in range(13)])
    nx.TrustedClassifier(**QUICK).fit(frame, y[1::2]).report(frame, y[1::2], tmp_path / "f.html")
    assert "c0=" in (tmp_path / "f.html").read_text(encoding="utf-8")
