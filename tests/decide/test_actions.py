"""Costs, refusals with a guarantee, balanced decisions, new classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, balanced_accuracy_score

from normexp.base.errors import DtypeError, NormexpError, NormexpWarning, RangeError, ShapeError
from normexp.decide import SelectiveClassifier, balanced_decision, cost_decision, propose_classes, threshold_decision


def drawn(n, k=4, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(n, k))
    return logits, (logits + rng.gumbel(size=(n, k))).argmax(axis=1)


# ---------------------------------------------------------------- costs


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(2, 5), extra=st.integers(0, 2))
def test_no_other_decision_has_a_smaller_expected_cost(seed, k, extra):
    rng = np.random.default_rng(seed)
    prob = rng.dirichlet(np.ones(k), size=20)
    cost = rng.uniform(0.5, 5.0, size=(k, k + extra))
    np.fill_diagonal(cost, 0.0)
    expected = np.array([[sum(p[t] * cost[t, a] for t in range(k)) for a in range(k + extra)] for p in prob])
    found = cost_decision(prob, cost)
    np.testing.assert_allclose(expected[np.arange(20), found], expected.min(axis=1), rtol=1e-12)


def test_equal_costs_decide_for_the_most_probable_class():
    prob = np.random.default_rng(0).dirichlet(np.ones(4), size=100)
    np.testing.assert_array_equal(cost_decision(prob, 1 - np.eye(4)), prob.argmax(axis=1))


BAD_COSTS = {
    "shape": (np.ones((3, 3)), ShapeError, "(3, 3)"),
    "narrow": (np.ones((2, 1)), ShapeError, "(2, 1)"),
    "flat": (np.ones(2), ShapeError, "(2,)"),
    "gap": ([[0, 1], [-1, 0]], RangeError, "true class 1 deciding 0 costs -1"),
    "text": ("cheap", DtypeError, "'cheap'"),
    "words": ([["a", "b"], ["c", "d"]], DtypeError, "numbers"),
    "ragged": ([[0, 1], [1]], ShapeError, "unequal lengths"),
    "nan": ([[0, np.nan], [1, 0]], RangeError, "row 0"),
}


@pytest.mark.parametrize("case", BAD_COSTS)
def test_a_wrong_cost_matrix_is_answered_with_a_sentence(case):
    cost, kind, words = BAD_COSTS[case]
    with pytest.raises(kind, match="cost_decision") as caught:
        cost_decision([[0.5, 0.5]], cost)
    assert words in str(caught.value)


@pytest.mark.parametrize("strength", [np.nan, np.inf, "a", None])
def test_a_strength_that_is_no_number_is_refused(strength):
    with pytest.raises(NormexpError, match="balanced_decision: strength is"):
        balanced_decision([[1.0, 0.0]], [0.9, 0.1], strength=strength)
    with pytest.raises(NormexpError, match="balanced_decision: prior is"):
        balanced_decision([[1.0, 0.0]], ["a", "b"])


def test_costs_need_probabilities():
    with pytest.raises(NormexpError, match="sums to 2"):
        cost_decision([[0.5, 1.5]], 1 - np.eye(2))


def test_balanced_decisions_have_the_better_balanced_accuracy_on_real_rare_classes(shared_data):
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = pd.read_csv(shared_data / "yeast" / "data.csv.gz")
    label, y = np.unique(table["label"], return_inverse=True)
    x = table.drop(columns="label").to_numpy(float)
    scores = {"plain": [], "balanced": []}
    for seed in range(5):
        train, test = train_test_split(np.arange(y.size), test_size=0.4, stratify=y, random_state=seed)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x[train], y[train])
        logits = model.decision_function(x[test])
        prior = np.bincount(y[train]) / train.size
        scores["plain"].append(balanced_accuracy_score(y[test], logits.argmax(axis=1)))
        scores["balanced"].append(balanced_accuracy_score(y[test], balanced_decision(logits, prior)))
    assert label.size == 10
    assert np.mean(scores["balanced"]) > np.mean(scores["plain"]) + 0.02
    with pytest.raises(RangeError, match="above 0"):
        balanced_decision(logits, np.eye(10)[0])


# ---------------------------------------------------------------- selective


def broken_promises(select, risk, n_runs=300, n_fit=400):
    """Share of calibration sets whose accepted rows err more often than `risk` on fresh rows."""
    fresh, truth = drawn(40_000, seed=12345)
    wrong = fresh.argmax(axis=1) != truth
    broken = 0
    for seed in range(n_runs):
        accepted = select(*drawn(n_fit, seed=seed), fresh)
        broken += bool(accepted.any() and wrong[accepted].mean() > risk)
    return broken / n_runs


def ours(logits, y, fresh):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NormexpWarning)
        return SelectiveClassifier(0.1, 0.9).fit(logits, y).predict(fresh)


def confidence(z):
    return z.max(axis=1) - np.log(np.exp(z).sum(axis=1))


def naive(logits, y, fresh):
    """The lowest threshold whose observed error rate is small enough."""
    order = np.argsort(-confidence(logits))
    rate = np.cumsum((logits.argmax(axis=1) != y)[order]) / np.arange(1, y.size + 1)
    most = np.flatnonzero(rate <= 0.1).max(initial=-1)
    return confidence(fresh) > confidence(logits)[order][most] if most >= 0 else np.zeros(len(fresh), bool)


def test_the_guarantee_holds_for_the_stated_share_of_calibration_sets():
    assert broken_promises(ours, 0.1) <= 0.1


def test_the_observed_error_rate_alone_breaks_the_promise():
    assert broken_promises(naive, 0.1) > 0.3


def test_the_guarantee_leaves_most_rows_of_a_good_network(shared_data):
    stored = np.load(shared_data / "cifar10-probs-pytorch" / "cifar10.npz")
    prob, y = stored["probs_vgg19_bn"], stored["y"].astype(int)
    model = SelectiveClassifier(0.05).fit(prob[:5000], y[:5000], from_logits=False)
    accepted = model.predict(prob[5000:])
    assert accepted.mean() > 0.85
    assert (prob[5000:].argmax(axis=1) != y[5000:])[accepted].mean() < 0.05
    assert model.risk_ < model.risk_bound_ <= 0.05


def test_rows_of_equal_confidence_are_accepted_together_or_not_at_all():
    logits = np.repeat([[5.0, 0.0], [1.0, 0.0]], 200, axis=0)
    y = np.r_[np.zeros(200, int), np.arange(200) % 2]
    model = SelectiveClassifier(0.05).fit(logits, y)
    np.testing.assert_array_equal(model.predict(logits), np.arange(400) < 200)


def test_when_nothing_can_be_promised_nothing_is_accepted_and_it_is_said():
    logits, y = drawn(20)
    with pytest.warns(NormexpWarning, match="no row will be accepted"):
        model = SelectiveClassifier(0.01).fit(logits, y)
    assert not model.predict(logits).any()
    assert model.coverage_ == 0.0
    assert model.predict(logits[:0]).shape == (0,)
    for bad in ({"target_risk": 0}, {"target_risk": 0.1, "confidence": 1}):
        with pytest.raises(RangeError, match="SelectiveClassifier"):
            SelectiveClassifier(**bad).fit(logits, y)


# ---------------------------------------------------------------- new classes


def blobs(n_groups, seed=0, n=50, width=8):
    rng = np.random.default_rng(seed)
    centre = 10.0 * rng.normal(size=(n_groups, width))
    y = np.repeat(np.arange(n_groups), n)
    return centre[y] + rng.normal(size=(y.size, width)), y, centre


@pytest.mark.parametrize("n_groups", [2, 3, 6, 10])
def test_the_number_of_new_classes_is_found(n_groups):
    x, y, _ = blobs(n_groups)
    assert adjusted_rand_score(y, propose_classes(x)) > 0.99


def test_one_cloud_is_one_group():
    x = np.random.default_rng(0).normal(size=(300, 10))
    np.testing.assert_array_equal(propose_classes(x), 0)


def test_rows_beside_a_known_class_join_it_and_the_others_are_new():
    x, y, centre = blobs(5)
    group = propose_classes(x, known=centre[:2])
    np.testing.assert_array_equal(group[y == 0], 0)
    np.testing.assert_array_equal(group[y == 1], 1)
    assert set(group[y > 1]) == {2, 3, 4}
    assert adjusted_rand_score(y, group) == 1.0


def test_the_grouping_does_not_depend_on_units_and_is_repeatable():
    x, _, _ = blobs(4)
    np.testing.assert_array_equal(propose_classes(x), propose_classes(1e-9 * x + 5.0))
    assert propose_classes(x, n_classes=2).max() == 1
    assert propose_classes(x[:0]).shape == (0,)
    np.testing.assert_array_equal(propose_classes(x[:1]), [0])
    for arguments in ((x, x[:, :2]), (x, None, 0), (x[:3], None, 4), (np.full((3, 2), np.nan),)):
        with pytest.raises(NormexpError, match="propose_classes"):
            propose_classes(*arguments)


def test_thresholds_of_two_classes_are_the_usual_rule(rng):
    prob = rng.dirichlet([1.0, 1.0], size=2000)
    for t in (0.1, 0.5, 0.93):
        assert ((threshold_decision(prob, [1 - t, t]) == 1) == (prob[:, 1] > t)).all()


def test_equal_thresholds_change_nothing_and_the_shares_as_thresholds_balance(rng):
    prob = rng.dirichlet(np.ones(5), size=500)
    assert (threshold_decision(prob, np.full(5, 0.3)) == prob.argmax(axis=1)).all()
    share = prob.mean(axis=0)
    balanced = balanced_decision(np.log(prob), share)
    assert (threshold_decision(prob, share) == balanced).all()


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [([0.5], "shape"), ([0.5, 0.0], "hold 0"), ([0.5, np.nan], "hold nan"), ("high", "one number for each class")],
)
def test_thresholds_without_a_meaning_are_refused(thresholds, words):
    with pytest.raises(NormexpError, match=words):
        threshold_decision([[0.5, 0.5]], thresholds)
