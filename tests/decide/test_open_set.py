"""Unknown rows: false alarms as stated, indifference to units, and real strangers found."""

import gzip
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from scipy.stats import betabinom

from normexp.base.errors import InputError, NormexpError, NormexpWarning
from normexp.decide import OpenSetDetector
from normexp.decide.feature_scores import ledoit_wolf, telling_columns
from normexp.metrics import auroc

LOGITS = ("gen", "max_logit", "energy", "msp", "p_norm")
FEATURES = ("mahalanobis", "knn", "vim", "auto")


def rows(n, seed=0, known=True):
    """Features of six classes in ten dimensions, or of strangers, with the logits of a linear head."""
    rng = np.random.default_rng(seed)
    centre = 4.0 * np.random.default_rng(5).normal(size=(6, 10)) / np.sqrt(10)
    y = rng.integers(6, size=n)
    x = centre[y] + 0.8 * rng.normal(size=(n, 10)) if known else 1.6 * rng.normal(size=(n, 10))
    return 2.0 * x @ centre.T - (centre**2).sum(axis=1), y, x


def arguments(score, n, **options):
    logits, y, x = rows(n, **options)
    return (logits, y, None) if score in LOGITS else (logits, y, x)


@pytest.mark.parametrize("score", [*LOGITS, *FEATURES])
def test_false_alarms_on_fresh_rows_lie_in_the_binomial_band(score):
    alarms = []
    n, fresh = 600, 4000
    for seed in range(5):
        logits, y, x = arguments(score, n, seed=seed)
        detector = OpenSetDetector(score, false_alarm=0.1).fit(logits, y, x)
        new, _, new_x = arguments(score, fresh, seed=100 + seed)
        alarms.append(detector.predict(new, new_x).sum())
    law = betabinom(fresh, 61, 541)  # of the 601st parts, 61 lie above the threshold; each threshold has its own rate
    slack = 1.25 if score in FEATURES else 1.0  # cross-fitted: the last fit has a quarter more rows
    low, high = law.ppf(0.001) / slack, law.ppf(0.999) * slack
    assert all(low <= count <= high for count in alarms), (low, high, alarms)


@pytest.mark.parametrize(("n_seen", "lowest", "highest"), [(8, 0.075, 0.11), (10, 0.0, 0.05)])
def test_the_tenth_neighbour_of_all_rows_is_compared_with_the_eighth_of_four_fifths(
    monkeypatch, n_seen, lowest, highest
):
    """With the tenth of both, the threshold lay so high that a third of the promised alarms were left, and of power."""
    monkeypatch.setattr("normexp.decide.open_set.NEIGHBOURS_SEEN", n_seen)
    rng = np.random.default_rng(5)
    alarms = []
    for _ in range(15):
        y = rng.integers(4, size=2300)
        x = rng.normal(size=(2300, 8)) + 2.0 * np.eye(4, 8)[y]
        detector = OpenSetDetector("knn", false_alarm=0.1).fit(x[:300, :4], y[:300], x[:300])
        alarms.append(detector.predict(x[300:, :4], x[300:]).mean())
    assert lowest < np.mean(alarms) < highest


def test_a_threshold_from_the_rows_that_fitted_the_score_breaks_that_band():
    """What cross-fitting is for: the rows a covariance was fitted on look too familiar to it."""
    from normexp.decide.feature_scores import Columns, RelativeMahalanobis

    rng = np.random.default_rng(0)
    y = rng.integers(6, size=300)
    centre = rng.normal(size=(6, 100))
    x, new = centre[y] + rng.normal(size=(300, 100)), centre[y] + rng.normal(size=(300, 100))
    columns = Columns(x)
    model = RelativeMahalanobis().fit(columns(x), y, x)
    naive = np.quantile(model.score(columns(x), x), 0.9)
    assert not 0.05 < (model.score(columns(new), new) > naive).mean() < 0.16
    logits = x @ centre.T
    detector = OpenSetDetector("mahalanobis", false_alarm=0.1).fit(logits, y, x)
    assert 0.05 < detector.predict(new @ centre.T, new).mean() < 0.16


@pytest.mark.parametrize("score", [*LOGITS, *FEATURES])
def test_strangers_score_higher(score):
    logits, y, x = arguments(score, 1500)
    detector = OpenSetDetector(score).fit(logits, y, x)
    known, _, known_x = arguments(score, 1500, seed=1)
    strange, _, strange_x = arguments(score, 1500, seed=2, known=False)
    found = np.r_[detector.unknown_score(known, known_x), detector.unknown_score(strange, strange_x)]
    assert auroc(np.repeat([0, 1], 1500), found) > (0.75 if score in FEATURES else 0.6)


@pytest.mark.parametrize("score", FEATURES)
def test_units_of_the_features_do_not_matter(score):
    logits, y, x = rows(400)
    new, _, new_x = rows(100, seed=1)
    unit = 10.0 ** np.random.default_rng(0).uniform(-6, 6, size=10)
    plain = OpenSetDetector(score).fit(logits, y, x).unknown_score(new, new_x)
    scaled = OpenSetDetector(score).fit(logits, y, unit * x + 3.0).unknown_score(new, unit * new_x + 3.0)
    np.testing.assert_allclose(plain, scaled, rtol=1e-5, atol=1e-6)


def test_a_fixed_ridge_would_depend_on_the_units():
    _, _, x = rows(400)
    found = []
    for unit in (1.0, 1e-6):
        centred = unit * (x - x.mean(axis=0))
        inverse = np.linalg.inv(np.cov(centred.T) + 1e-6 * np.eye(10))
        found.append(np.einsum("nd,de,ne->n", centred, inverse, centred))
    assert not np.allclose(found[0], found[1], rtol=0.5)


def test_more_columns_than_rows_and_copied_columns_are_no_obstacle():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(60, 40)), 3, axis=1)  # rank 40 of 120
    logits = x[:, :4]
    for score in FEATURES:
        detector = OpenSetDetector(score).fit(logits, logits.argmax(axis=1), x)
        assert np.isfinite(detector.unknown_score(logits, x)).all(), score


def test_constant_columns_are_left_out_and_said():
    logits, y, x = rows(300)
    with pytest.warns(NormexpWarning, match=r"1 of the 11 columns of the features \(10\)"):
        detector = OpenSetDetector("mahalanobis").fit(logits, y, np.c_[x, np.full(300, 7.0)])
    plain = OpenSetDetector("mahalanobis").fit(logits, y, x)
    np.testing.assert_allclose(
        detector.unknown_score(logits, np.c_[x, np.zeros(300)]), plain.unknown_score(logits, x), rtol=1e-9
    )
    with pytest.raises(InputError, match="every column"):
        OpenSetDetector("mahalanobis").fit(logits, y, np.ones((300, 4)))


@pytest.mark.parametrize("score", FEATURES)
def test_columns_that_differ_in_a_row_or_two_only_are_a_sentence_or_left_out(score):
    """A fit on four fifths of the rows may see one value only, and could not judge the others."""
    logits, y, x = rows(90)
    one, two = np.zeros((90, 2)), np.zeros((90, 2))
    one[7], two[[7, 8]] = 1.0, 1.0
    with pytest.raises(InputError, match="every column of the features is constant, or nearly"):
        OpenSetDetector(score).fit(logits, y, one)
    for rare in (one, two):
        kept = telling_columns(rare)
        assert rare is two or not kept.any()
        wide = np.c_[x, rare[:, ~kept]]
        with pytest.warns(NormexpWarning, match="are left out") if not kept.all() else nullcontext():
            detector = OpenSetDetector(score).fit(logits, y, wide)
        plain = OpenSetDetector(score).fit(logits, y, x)
        np.testing.assert_allclose(detector.unknown_score(logits, wide), plain.unknown_score(logits, x), rtol=1e-9)


@pytest.mark.parametrize("score", FEATURES)
def test_features_of_any_size_are_scored_like_small_ones(score):
    logits, y, x = rows(120)
    plain = OpenSetDetector(score).fit(logits, y, x).unknown_score(logits, x)
    for unit in (2.0**1020, 2.0**-900):  # at 2^1020 the difference of two of them is beyond the largest number
        found = OpenSetDetector(score).fit(logits, y, x * unit).unknown_score(logits, x * unit)
        np.testing.assert_allclose(found, plain, rtol=1e-6, atol=1e-9)
        far = OpenSetDetector(score).fit(logits, y, x).unknown_score(logits, x * unit)
        assert np.isfinite(far).all()


def test_without_features_auto_is_the_generalised_entropy():
    logits, y, x = rows(300)
    assert OpenSetDetector().fit(logits).score_ == "gen"
    assert OpenSetDetector().fit(logits, y, x).score_ == "gen + mahalanobis"
    soft = logits / 10
    prob = np.exp(soft) / np.exp(soft).sum(axis=1, keepdims=True)
    found = OpenSetDetector("gen").fit(soft).unknown_score(soft)
    np.testing.assert_allclose(found, (prob**0.1 * (1 - prob) ** 0.1).sum(axis=1), rtol=1e-6)


def test_few_rows_and_useless_scores_are_said():
    logits, _, _ = rows(10)
    with pytest.warns(NormexpWarning, match="takes 19"):
        detector = OpenSetDetector("gen", false_alarm=0.05).fit(logits)
    assert not detector.predict(logits).any()
    logits, _, _ = rows(200)
    log_prob = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) - logits.max(
        1, keepdims=True
    )  # fmt: skip
    with pytest.warns(NormexpWarning, match="the same for all rows"):
        OpenSetDetector("energy").fit(log_prob)


BAD = {
    "score": (lambda z, y, x: OpenSetDetector("best").fit(z), "'gen'"),
    "false alarm": (lambda z, y, x: OpenSetDetector(false_alarm=1.0).fit(z), "false_alarm is 1.0"),
    "no features": (lambda z, y, x: OpenSetDetector("knn").fit(z, y), "needs features"),
    "rows": (lambda z, y, x: OpenSetDetector("knn").fit(z, y, x[:-1]), "39 rows and logits 40"),
    "nan": (lambda z, y, x: OpenSetDetector("knn").fit(z, y, np.where(x > 2, np.nan, x)), "not finite"),
    "nan logits": (lambda z, y, x: OpenSetDetector().fit(np.where(z > 2, np.nan, z)), "NaN"),
    "labels": (lambda z, y, x: OpenSetDetector().fit(z, y + 6, x), "out of range"),
    "later": (lambda z, y, x: OpenSetDetector().fit(z, y, x).predict(z), "pass those of these rows"),
    "columns": (lambda z, y, x: OpenSetDetector().fit(z, y, x).predict(z, x[:, :3]), "fitted on 10"),
    "few": (lambda z, y, x: OpenSetDetector().fit(z[:5], y[:5], x[:5]), "too few"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_with_a_sentence(case):
    call, words = BAD[case]
    with pytest.raises(NormexpError, match="OpenSetDetector") as caught:
        call(*rows(40))
    assert words in str(caught.value)


def test_intents_out_of_scope_are_found_in_real_utterances(shared_data):
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def read(part):
        with gzip.open(shared_data / "clinc150" / f"{part}.csv.gz", "rt", encoding="utf-8") as file:
            table = pd.read_csv(file, dtype=str, keep_default_na=False)
        return table.iloc[:, 0], table["label"]

    text, label = read("train")
    chosen = sorted(set(label) - {"oos"})[::5]  # 30 of the 150 intents are known
    known = label.isin(chosen).to_numpy()
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(text[known])
    svd = TruncatedSVD(100, random_state=0).fit(words.transform(text[known]))
    model = LogisticRegression(C=30.0, max_iter=300).fit(svd.transform(words.transform(text[known])), label[known])

    def seen(part):
        text, label = read(part)
        x = svd.transform(words.transform(text))
        return model.decision_function(x), label.to_numpy(), x

    z, val, x = seen("val")
    inside = np.isin(val, chosen)
    y = np.searchsorted(model.classes_, val[inside])
    fresh, test, fresh_x = seen("test")
    strange = ~np.isin(test, chosen)
    quality = {}
    for score in ("msp", "gen", "auto"):
        features = x[inside] if score == "auto" else None
        detector = OpenSetDetector(score, false_alarm=0.1).fit(z[inside], y, features)
        given = fresh_x if score == "auto" else None
        quality[score] = auroc(strange, detector.unknown_score(fresh, given))
        alarm = detector.predict(fresh, given)[~strange].mean()
        assert 0.05 < alarm < 0.16, score  # 600 rows set the threshold and 900 judge it
    assert min(quality.values()) > 0.85, quality


@pytest.mark.parametrize(("n", "width"), [(400, 5), (30, 60), (5, 3)])
def test_the_shrunk_covariance_is_that_of_scikit_learn(n, width):
    from sklearn.covariance import empirical_covariance
    from sklearn.covariance import ledoit_wolf as theirs

    x = np.random.default_rng(n).normal(size=(n, width)) @ np.diag(np.arange(1.0, width + 1.0))
    x -= x.mean(axis=0)
    expected = theirs(x, assume_centered=True)[0]
    np.testing.assert_allclose(ledoit_wolf(x), expected, rtol=1e-10, atol=1e-12)
    assert np.abs(empirical_covariance(x, assume_centered=True) - expected).max() > 1e-3  # without shrinkage
