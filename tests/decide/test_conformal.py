"""Conformal sets: their coverage is what the theory says, they are never empty, and small groups are said."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, kstest
from sklearn.base import clone

from normexp.base.errors import NormexpError, NormexpWarning
from normexp.base.finite_samples import fewest_rows, finite_sample_rank
from normexp.decide import ConformalClassifier
from normexp.decide.conformal import DRAWS
from normexp.metrics import coverage

SCORES = ("lac", "aps", "raps")


def drawn(n, k=8, seed=0, scale=1.0):
    """Logits, classes drawn from their softmax; accuracy is far below 0.9."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(n, k))
    return logits, (logits + rng.gumbel(size=(n, k))).argmax(axis=1)


def coverages(fit, logits, y, n_fit, n_splits, seed=0):
    """Coverage on the other rows, for many resplits."""
    found = np.empty(n_splits)
    for split in range(n_splits):
        order = np.random.default_rng([seed, split]).permutation(y.size)
        sets = fit(logits[order[:n_fit]], y[order[:n_fit]], logits[order[n_fit:]])
        found[split] = sets[np.arange(y.size - n_fit), y[order[n_fit:]]].mean()
    return found


def beta_bands(n_fit, n_test, share):
    """The law of the coverage on n_test rows, simulated from its Beta law."""
    rank = finite_sample_rank(n_fit, share)
    rng = np.random.default_rng(1)
    return rng.binomial(n_test, rng.beta(rank, n_fit + 1 - rank, size=100_000)) / n_test


def within_the_band(found, n_fit, n_test, share):
    """Mean and spread over resplits agree with the Beta law. Resplits share rows, so the mean is loose by 1/sqrt(n)."""
    law = beta_bands(n_fit, n_test, share)
    inside = (found >= np.quantile(law, 0.005)) & (found <= np.quantile(law, 0.995))
    return inside.mean() >= 0.97 and abs(found.mean() - law.mean()) <= 0.3 * law.std()


@pytest.mark.parametrize("score", SCORES)
def test_over_a_thousand_resplits_the_coverage_lies_in_its_beta_band(score):
    logits, y = drawn(1400)

    def fit(z, target, fresh):
        return ConformalClassifier(score, 0.8).fit(z, target).predict_set(fresh)

    assert within_the_band(coverages(fit, logits, y, 200, 1000), 200, 1200, 0.8)


def test_a_naive_quantile_fails_the_band():
    """np.quantile of the scores, without the +1: with 30 rows it falls short by a good point."""
    logits, y = drawn(1400)

    def log_prob(z):
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    def naive(z, target, fresh):
        q = np.quantile(-log_prob(z)[np.arange(len(z)), target], 0.9)
        return -log_prob(fresh) <= q

    def ours(z, target, fresh):
        return ConformalClassifier("lac", 0.9).fit(z, target).predict_set(fresh)

    assert not within_the_band(coverages(naive, logits, y, 29, 1000), 29, 1371, 0.9)
    assert within_the_band(coverages(ours, logits, y, 29, 1000), 29, 1371, 0.9)


def test_sets_built_from_cumulated_probability_alone_miss_their_coverage_on_a_real_network(shared_data):
    stored = np.load(shared_data / "cifar10-probs-pytorch" / "cifar10.npz")
    prob, y = stored["probs_resnet_orig"].astype(np.float64), stored["y"].astype(int)
    order = np.argsort(-prob, axis=1)
    before = np.cumsum(np.take_along_axis(prob, order, axis=1), axis=1) - np.take_along_axis(prob, order, axis=1)
    believed = np.zeros(prob.shape, dtype=bool)
    np.put_along_axis(believed, order, before < 0.99, axis=1)
    assert coverage(y[5000:], believed[5000:]) < 0.985
    sets = ConformalClassifier("aps", 0.99).fit(prob[:5000], y[:5000], from_logits=False).predict_set(prob[5000:])
    assert coverage(y[5000:], sets) > 0.985


@pytest.mark.parametrize("network", ["resnet_orig", "mobilenet_v2", "densenet121"])
@pytest.mark.parametrize("share", [0.95, 0.99])
def test_real_networks_are_covered_by_small_sets(shared_data, network, share):
    stored = np.load(shared_data / "cifar10-probs-pytorch" / "cifar10.npz")
    prob, y = stored[f"probs_{network}"], stored["y"].astype(int)
    size = {}
    for score in SCORES:
        found, inside = [], 0
        for split in range(10):
            order = np.random.default_rng(split).permutation(y.size)
            model = ConformalClassifier(score, share).fit(prob[order[:5000]], y[order[:5000]], from_logits=False)
            sets = model.predict_set(prob[order[5000:]])
            found.append(sets.sum(axis=1).mean())
            low, high = model.coverage_interval_
            inside += low - 0.005 <= coverage(y[order[5000:]], sets) <= high + 0.005
            assert sets.any(axis=1).all()
        size[score] = np.mean(found)
        assert inside >= 9
    assert size["lac"] <= 1.05 * size["raps"]
    assert size["lac"] <= 1.05 * size["aps"]
    assert size["aps"] < 3.5


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(20, 60),
    k=st.integers(2, 6),
    score=st.sampled_from(SCORES),
    share=st.sampled_from([0.05, 0.5, 0.9]),
    scale=st.sampled_from([0.0, 1.0, 500.0]),
)
def test_a_set_is_never_empty_and_always_the_same(seed, n, k, score, share, scale):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(n, k))
    y = rng.integers(k, size=n)
    model = ConformalClassifier(score, share).fit(logits, y)
    sets = model.predict_set(logits)
    assert sets.any(axis=1).all()
    assert sets[np.arange(n), logits.argmax(axis=1)].all()
    np.testing.assert_array_equal(sets, ConformalClassifier(score, share).fit(logits, y).predict_set(logits))
    mean = sets[np.arange(n), y].mean()
    assert mean >= share  # on its own rows at least


def test_certain_rows_do_not_get_all_classes():
    prob = np.zeros((100, 3))
    prob[np.arange(100), np.arange(100) % 3] = 1.0
    y = np.arange(100) % 3
    y[:4] = 2 - y[:4]
    for score in SCORES:
        sets = ConformalClassifier(score, 0.9).fit(prob, y, from_logits=False).predict_set(prob)
        np.testing.assert_array_equal(sets.sum(axis=1), 1), score


def test_logits_and_their_probabilities_give_the_same_sets():
    logits, y = drawn(500)
    prob = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for score in SCORES:
        first = ConformalClassifier(score).fit(logits, y).predict_set(logits)
        second = ConformalClassifier(score).fit(prob, y, from_logits=False).predict_set(prob)
        assert (first != second).mean() < 1e-3, score


def test_each_class_is_covered_when_asked_for():
    rng = np.random.default_rng(0)
    y = rng.choice(3, p=[0.6, 0.3, 0.1], size=20_000)
    logits = 0.8 * np.eye(3)[y] + np.array([0.8, 0.2, -0.8]) + rng.normal(size=(20_000, 3))
    fit, test = slice(0, 8000), slice(8000, None)
    per_class = {}
    for groups in (None, "class"):
        model = ConformalClassifier("lac", 0.9, groups).fit(logits[fit], y[fit])
        sets = model.predict_set(logits[test])
        per_class[groups] = [sets[y[test] == k, k].mean() for k in range(3)]
        assert coverage(y[test], sets) > 0.89
    assert min(per_class[None]) < 0.7  # the rare class pays for the average
    np.testing.assert_allclose(per_class["class"], 0.9, atol=0.035)
    assert model.group_coverage_interval_.shape == (3, 2)
    low, high = model.coverage_interval_
    assert low < coverage(y[test], sets) < high


def test_clusters_share_thresholds_and_cover_rare_classes_better():
    rng = np.random.default_rng(0)
    k = 30
    share = 1.0 / np.arange(1, k + 1)
    y = rng.choice(k, p=share / share.sum(), size=24_000)
    hard = np.where(np.arange(k) % 2, 1.0, 2.5)  # odd classes are hard
    logits = hard[y][:, None] * np.eye(k)[y] + rng.normal(size=(y.size, k))
    fit, test = slice(0, 6000), slice(6000, None)

    def gap(groups):
        model = ConformalClassifier("lac", 0.9, groups).fit(logits[fit], y[fit])
        sets = model.predict_set(logits[test])
        cover = np.array([sets[y[test] == c, c].mean() for c in range(k)])
        assert abs(coverage(y[test], sets) - 0.9) < 0.03
        return np.abs(cover - 0.9).mean(), model

    apart, model = gap("cluster")
    assert apart < 0.7 * gap(None)[0]
    assert 1 < model.group_.max() + 1 < k


def test_too_few_rows_for_the_promise_are_said_and_the_promise_kept():
    logits, y = drawn(8)
    with pytest.warns(NormexpWarning, match="takes 9"):
        model = ConformalClassifier(coverage=0.9).fit(logits, y)
    assert model.predict_set(logits).all()
    assert tuple(model.coverage_interval_) == (1.0, 1.0)
    logits, y = drawn(200, k=3)
    y[y == 2] = 0
    y[:3] = 2
    with pytest.warns(NormexpWarning, match="rows of class 2"):
        model = ConformalClassifier(groups="class").fit(logits, y)
    sets = model.predict_set(logits)
    assert sets[:, 2].all()
    assert not sets[:, 0].all()


@pytest.mark.parametrize(
    ("n", "share", "rank"), [(9, 0.9, 9), (99, 0.9, 90), (999, 0.95, 950), (10, 0.9, 10), (8, 0.9, 9)]
)
def test_the_rank_is_not_moved_by_rounding(n, share, rank):
    assert finite_sample_rank(n, share) == rank


@pytest.mark.parametrize("share", [0.5, 0.6, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_the_fewest_rows_are_the_first_with_a_rank_among_them(share):
    fewest = fewest_rows(share)
    assert finite_sample_rank(fewest, share) <= fewest
    assert finite_sample_rank(fewest - 1, share) > fewest - 1


def test_the_interval_is_the_beta_law_and_the_statement_says_it():
    logits, y = drawn(999)
    model = ConformalClassifier(coverage=0.9).fit(logits, y)
    np.testing.assert_allclose(model.coverage_interval_, beta(900, 100).ppf([0.025, 0.975]), rtol=1e-12)
    assert "90 %" in model.statement_
    assert "999 calibration rows" in model.statement_


def test_over_calibration_sets_the_coverage_follows_the_beta_law():
    found = []
    fresh, truth = drawn(20_000, seed=99)
    for seed in range(200):
        logits, y = drawn(99, seed=seed)
        sets = ConformalClassifier("aps", 0.8).fit(logits, y).predict_set(fresh)
        found.append(coverage(truth, sets))
    assert kstest(found, beta(80, 20).cdf).pvalue > 0.01


BAD = {
    "coverage 0": ({"coverage": 0.0}, "coverage is 0.0"),
    "coverage 1": ({"coverage": 1.0}, "coverage is 1.0"),
    "coverage 90": ({"coverage": 90}, "coverage is 90"),
    "coverage text": ({"coverage": "high"}, "coverage is 'high'"),
    "score": ({"score": "best"}, "'lac', 'aps' or 'raps'"),
    "groups": ({"groups": "all"}, "'class' or 'cluster'"),
    "penalty": ({"penalty": -1}, "penalty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_answered_with_a_sentence(case):
    options, words = BAD[case]
    logits, y = drawn(50)
    with pytest.raises(NormexpError, match="ConformalClassifier") as caught:
        ConformalClassifier(**options).fit(logits, y)
    assert words in str(caught.value)


def test_bad_rows_are_answered_with_a_sentence():
    logits, y = drawn(50)
    with pytest.raises(NormexpError, match="sum to 1"):
        ConformalClassifier().fit(np.abs(logits), y, from_logits=False)
    with pytest.raises(NormexpError, match="row 3 says 8"):
        ConformalClassifier().fit(logits, np.where(np.arange(50) == 3, 8, y))
    with pytest.raises(NormexpError, match="NaN in row 7"):
        ConformalClassifier().fit(np.where(np.arange(50)[:, None] == 7, np.nan, logits), y)
    model = ConformalClassifier().fit(logits, y)
    with pytest.raises(NormexpError, match="8 classes"):
        model.predict_set(logits[:, :5])
    assert model.predict_set(logits[:0]).shape == (0, 8)
    assert clone(model).get_params()["coverage"] == 0.9


def test_thousands_of_groups_need_no_array_of_groups_and_draws():
    """5 000 classes of which 20 have rows: 4 000 draws for each would be 160 MB."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 5000))
    y = np.arange(400) % 20
    tracemalloc.start()
    try:
        with pytest.warns(NormexpWarning, match="too few"):
            model = ConformalClassifier(groups="class", coverage=0.8).fit(logits, y)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken < 0.75 * 8 * 5000 * DRAWS
    low, high = model.coverage_interval_
    means = [beta(17, 4).rvs((DRAWS, 20), random_state=1).mean(axis=1)]
    np.testing.assert_allclose((low, high), np.quantile(means, [0.025, 0.975]), atol=0.005)
    alone = model.group_coverage_interval_[0]
    assert alone[1] - alone[0] > 3 * (high - low)  # twenty groups together are told far more closely than one
