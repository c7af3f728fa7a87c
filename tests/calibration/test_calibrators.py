"""Each calibrator: what it learns, where its bounds lie, what it leaves alone."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.base import clone

from normexp import calibration as cal
from normexp.base.errors import NormexpError, NormexpWarning, RangeError, ShapeError
from normexp.metrics import log_loss

ANY_K = [
    cal.TemperatureScaling,
    cal.EnsembleTemperatureScaling,
    cal.VectorScaling,
    cal.StructuredMatrixScaling,
    cal.IsotonicScaling,
    cal.AutoCalibrator,
    cal.PriorShift,
]
TWO = [cal.QuadraticScaling, cal.BetaScaling]


def drawn(n, k, seed=0, factor=1.0, scale=2.0):
    """Logits, `factor` times too large, and classes drawn from the softmax of the right ones."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(n, k))
    return factor * logits, (logits + rng.gumbel(size=(n, k))).argmax(axis=1)


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0, 50.0])
def test_the_temperature_is_the_factor_the_logits_are_too_large_by(factor):
    logits, y = drawn(6000, 4, factor=factor)
    assert cal.TemperatureScaling().fit(logits, y).temperature_ == pytest.approx(factor, rel=0.06)


def test_the_temperature_is_the_optimum_of_its_objective():
    logits, y = drawn(300, 5, factor=2.5)

    def objective(log_beta):
        beta = np.exp(log_beta)
        return 300 * log_loss(y, beta * logits) + 0.7 * (beta - 1 - np.log(beta))

    best = minimize_scalar(objective, bounds=(-5, 3), method="bounded", options={"xatol": 1e-10}).x
    model = cal.TemperatureScaling(shrinkage=0.7).fit(logits, y)
    assert np.log(model.temperature_) == pytest.approx(-best, abs=1e-6)
    assert model.n_iter_ <= 12


def bounds_of_temperature(logits, y, strength=1.0):
    """What the Notes promise."""
    n, k = logits.shape
    widest = np.ptp(logits, axis=1).max()
    return 1 / (1 + n * (k - 1) / (np.e * strength)), min(1 + n * widest / strength, 100 * max(1, widest))


HARD = {
    "all right": lambda z: z.argmax(axis=1),
    "all wrong": lambda z: z.argmin(axis=1),
    "noise": lambda z: np.random.default_rng(1).integers(z.shape[1], size=len(z)),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_the_temperature_stays_within_its_bounds_on_hopeless_rows(case, scale):
    logits = scale * np.random.default_rng(0).normal(size=(500, 3))
    y = HARD[case](logits)
    model = cal.TemperatureScaling().fit(logits, y)
    low, high = bounds_of_temperature(logits, y)
    assert low <= model.temperature_ <= high
    assert np.isfinite(model.predict_proba(logits)).all()


def test_without_its_prior_the_temperature_breaks_the_bound():
    """Plain maximum likelihood on rows that are all right: the slope never changes its sign."""
    logits = np.random.default_rng(0).normal(size=(500, 3))
    y = logits.argmax(axis=1)
    low, _ = bounds_of_temperature(logits, y)
    losses = [log_loss(y, logits / t) for t in (1.0, low, low / 10, low / 1000)]
    assert losses == sorted(losses, reverse=True)  # always colder, beyond the bound
    assert cal.TemperatureScaling().fit(logits, y).temperature_ > low


@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(2, 40), k=st.integers(2, 6), scale=st.sampled_from([1e-6, 1.0, 1e6])
)
def test_a_temperature_never_changes_a_decision_and_is_always_finite(seed, n, k, scale):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(n, k))
    y = np.r_[0, 1, rng.integers(k, size=n - 2)]
    with pytest.warns(NormexpWarning) if len(set(y)) < k else contextlib.nullcontext():
        model = cal.TemperatureScaling().fit(logits, y)
    assert 0 < model.temperature_ < np.inf
    assert (model.transform(logits).argmax(axis=1) == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("kind", [*ANY_K, *TWO], ids=lambda c: c.__name__)
def test_every_calibrator_is_a_scikit_learn_object_and_leaves_its_input_alone(kind):
    logits, y = drawn(400, 2, factor=2.0)
    logits = logits.astype(np.float32)
    logits.setflags(write=False)
    model = clone(kind())
    assert model.get_params() == kind().get_params()
    assert model.fit(logits, y) is model
    out = model.transform(logits)
    assert out.shape == logits.shape
    assert out.dtype == np.float32
    np.testing.assert_allclose(model.predict_proba(logits).sum(axis=1), 1.0, rtol=1e-6)
    assert model.transform(logits[:0]).shape == (0, 2)


@pytest.mark.parametrize("kind", [*ANY_K, *TWO], ids=lambda c: c.__name__)
def test_a_weight_of_two_is_the_row_twice(kind):
    if kind is cal.AutoCalibrator:
        pytest.skip("rows are dealt out to folds whole")
    logits, y = drawn(300, 2, factor=2.0)
    options = {"strength": 1.0} if kind in {cal.VectorScaling, cal.StructuredMatrixScaling} else {}
    twice = np.r_[np.arange(300), np.arange(40)]
    weight = np.bincount(twice).astype(float)
    weighted = kind(**options).fit(logits, y, sample_weight=weight).predict_proba(logits)
    repeated = kind(**options).fit(logits[twice], y[twice]).predict_proba(logits)
    np.testing.assert_allclose(weighted, repeated, atol=2e-4)


@pytest.mark.parametrize("kind", [k for k in ANY_K if k is not cal.PriorShift], ids=lambda c: c.__name__)
def test_an_overconfident_model_gets_a_better_log_loss_on_fresh_rows(kind):
    logits, y = drawn(4000, 5, factor=3.0)
    model = kind().fit(logits[:2000], y[:2000])
    before = log_loss(y[2000:], logits[2000:])
    best = log_loss(y[2000:], logits[2000:] / 3.0)
    assert log_loss(y[2000:], model.transform(logits[2000:])) < best + 0.15 * (before - best)


@pytest.mark.parametrize("kind", TWO, ids=lambda c: c.__name__)
def test_two_class_methods_never_reverse_the_ranking(kind):
    rng = np.random.default_rng(4)
    s = rng.normal(scale=3.0, size=2000)
    y = (rng.random(2000) < 1 / (1 + np.exp(-(s**2 / 3 - 2)))).astype(int)  # truly U-shaped
    model = kind().fit(np.c_[0 * s, s], y)
    grid = np.linspace(-30, 30, 601)
    out = model.transform(np.c_[0 * grid, grid])
    assert (np.diff(out[:, 1] - out[:, 0]) >= -1e-12).all()


@pytest.mark.parametrize("kind", TWO, ids=lambda c: c.__name__)
def test_two_class_methods_say_that_three_classes_are_too_many(kind):
    logits, y = drawn(60, 3)
    with pytest.raises(ShapeError, match="two classes") as caught:
        kind().fit(logits, y)
    assert kind.__name__ in str(caught.value)


def test_beta_scaling_finds_the_map_the_rows_were_drawn_from():
    rng = np.random.default_rng(0)
    p = rng.beta(0.7, 0.7, size=200_000)
    s = np.log(p) - np.log1p(-p)
    truth = 1 / (1 + np.exp(-(0.5 * np.log(p) - 2.0 * np.log1p(-p) - 0.3)))
    y = (rng.random(p.size) < truth).astype(int)
    model = cal.BetaScaling().fit(np.c_[0 * s, s], y)
    np.testing.assert_allclose(model.coef_, [0.5, 2.0, -0.3], atol=0.12)


def test_isotonic_scaling_gives_no_certainty_and_keeps_rows_apart():
    logits, y = drawn(3000, 2, scale=4.0)
    prob = cal.IsotonicScaling().fit(logits, y).predict_proba(logits)
    assert prob.min() > 0
    assert prob.max() < 1
    s = logits[:, 1] - logits[:, 0]
    order = np.argsort(s)
    assert (np.diff(prob[order, 1]) >= 0).all()


def test_the_textbook_isotonic_map_is_certain_and_pays_for_it():
    from sklearn.isotonic import IsotonicRegression

    logits, y = drawn(300, 2, scale=4.0)
    fresh, truth = drawn(3000, 2, scale=4.0, seed=1)
    s, t = logits[:, 1] - logits[:, 0], fresh[:, 1] - fresh[:, 0]
    p = IsotonicRegression(out_of_bounds="clip").fit(s, y).predict(t)
    assert log_loss(truth, np.c_[1 - p, p], from_logits=False) == np.inf
    assert log_loss(truth, cal.IsotonicScaling().fit(logits, y).transform(fresh)) < log_loss(truth, fresh) + 0.05


def test_a_zero_that_happened_is_raised_and_one_that_did_not_stays():
    rng = np.random.default_rng(0)
    votes = rng.multinomial(10, [0.6, 0.3, 0.1], size=500) / 10
    with np.errstate(divide="ignore"):
        logits = np.log(votes)
    y = rng.choice(3, p=[0.6, 0.3, 0.1], size=500)
    assert log_loss(y, logits) == np.inf
    for kind in ANY_K[:6]:
        prob = kind().fit(logits, y).predict_proba(logits)
        assert prob.min() > 0, kind
        assert log_loss(y, prob, from_logits=False) < 2, kind
    possible = np.where(np.isneginf(logits[np.arange(500), y]), votes.argmax(axis=1), y)
    for kind in ANY_K[:6]:
        prob = kind().fit(logits, possible).predict_proba(logits)
        assert (prob[votes == 0] == 0).all(), kind
        np.testing.assert_allclose(prob.sum(axis=1), 1, rtol=1e-9)


def test_known_shares_move_the_odds_by_their_ratio():
    logits, y = drawn(1000, 3)
    model = cal.PriorShift([0.2, 0.3, 0.5]).fit(logits, y)
    share = np.bincount(y) / 1000
    np.testing.assert_allclose(model.prior_, share)
    np.testing.assert_allclose(model.transform(logits), logits + np.log(np.array([0.2, 0.3, 0.5]) / share), rtol=1e-12)


def test_unknown_shares_are_found_without_labels():
    rng = np.random.default_rng(0)
    centre = 2.0 * np.eye(3)

    def rows(share, n):
        y = rng.choice(3, p=share, size=n)
        x = centre[y] + rng.normal(size=(n, 3))
        return x @ centre.T - 2.0, y  # Bayes' logits under equal shares

    logits, y = rows([1 / 3] * 3, 6000)
    fresh, truth = rows([0.8, 0.15, 0.05], 6000)
    model = cal.PriorShift().fit(logits, y)
    gain = log_loss(truth, fresh) - log_loss(truth, model.transform(fresh))
    np.testing.assert_allclose(model.target_prior_, [0.8, 0.15, 0.05], atol=0.02)
    assert gain > 0.1
    naive = model.predict_proba(logits).mean(axis=0)  # the same shares again: the estimate must not drift
    np.testing.assert_allclose(naive, np.bincount(y) / 6000, atol=0.02)


def test_the_mean_probability_alone_underestimates_the_shift():
    rng = np.random.default_rng(0)
    y = rng.choice(2, p=[0.95, 0.05], size=20_000)
    s = rng.normal(np.where(y == 1, 1.0, -1.0), 1.0)
    logits = np.c_[-s, s]  # Bayes' log-odds 2s under equal shares
    half = np.r_[np.zeros(50, int), np.ones(50, int)]
    model = cal.PriorShift().fit(np.zeros((100, 2)), half)
    model.transform(logits)
    assert model.target_prior_[1] == pytest.approx(0.05, abs=0.01)
    mean = cal.PriorShift([0.5, 0.5]).fit(np.zeros((100, 2)), half).predict_proba(logits)[:, 1].mean()
    assert mean > 0.12


def test_a_pool_of_members_is_the_mean_of_their_probabilities():
    rng = np.random.default_rng(0)
    members = rng.normal(scale=30.0, size=(4, 50, 6))
    e = np.exp(members - members.max(axis=2, keepdims=True))
    mean = (e / e.sum(axis=2, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(np.exp(cal.pool(members)), mean, rtol=1e-9, atol=1e-300)
    third = np.log(e[2] / e[2].sum(axis=1, keepdims=True))
    np.testing.assert_allclose(cal.pool(members, weight=[0, 0, 1, 0]), third, atol=1e-14)
    with pytest.raises(ShapeError, match="no members"):
        cal.pool([])
    with pytest.raises(ShapeError, match="same rows"):
        cal.pool([np.zeros((2, 2)), np.zeros((3, 2))])
    with pytest.raises(RangeError, match="weight"):
        cal.pool(members, weight=[1, 1])


def test_the_temperature_reads_a_hundred_thousand_classes_in_blocks():
    import tracemalloc

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(120, 100_000)).astype(np.float32)
    logits[:, :50] += 8
    y = rng.integers(50, size=120)
    tracemalloc.start()
    with pytest.warns(NormexpWarning, match="99"):
        model = cal.TemperatureScaling().fit(logits, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(model.temperature_)
    assert peak < 2.2 * 8 * logits.size / 2  # blocks of a sixth of the rows; one float64 copy alone would be 96 MB


BAD = {
    "nan": ([[0, 1], [np.nan, 1]], [0, 1], {}, "NaN in row 1"),
    "plus inf": ([[0, 1], [np.inf, 1]], [0, 1], {}, "row 1"),
    "label": ([[0, 1], [2, 1]], [0, 2], {}, "row 1 says 2"),
    "lengths": ([[0, 1], [2, 1]], [0, 1, 1], {}, "(2,)"),
    "one class": ([[0, 1], [2, 1]], [1, 1], {}, "at least two classes"),
    "no rows": (np.empty((0, 2)), [], {}, "no rows"),
    "one column": ([0.1, 0.2], [0, 1], {}, "(N, K)"),
    "weights": ([[0, 1], [2, 1]], [0, 1], {"sample_weight": [1, -1]}, "row 1"),
    "text": ([["a", "b"]], [0], {}, "numbers"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("kind", [*ANY_K, *TWO], ids=lambda c: c.__name__)
def test_bad_input_is_answered_with_a_sentence(kind, case):
    logits, y, options, words = BAD[case]
    with pytest.raises(NormexpError, match=kind.__name__) as caught:
        kind().fit(logits, y, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", ANY_K, ids=lambda c: c.__name__)
def test_five_rows_of_a_hundred_classes_are_said_and_survived(kind):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 100))
    with pytest.warns(NormexpWarning, match="95 of the 100 classes"):
        model = kind().fit(logits, np.arange(5))
    prob = model.predict_proba(rng.normal(size=(20, 100)))
    assert np.isfinite(prob).all()
    np.testing.assert_allclose(prob.sum(axis=1), 1.0)


def test_a_wrong_number_of_columns_and_an_unfitted_object_are_sentences():
    logits, y = drawn(50, 3)
    model = cal.TemperatureScaling().fit(logits, y)
    with pytest.raises(ShapeError, match="3 classes"):
        model.transform(logits[:, :2])
    with pytest.raises(ValueError, match="not fitted"):
        cal.TemperatureScaling().transform(logits)
    with pytest.raises(RangeError, match="sum to 1"):
        cal.PriorShift([0.5, 0.2, 0.2]).fit(logits, y)
    with pytest.raises(RangeError, match="cv is 1"):
        cal.AutoCalibrator(cv=1).fit(logits, y)


def test_shared_rows_are_counted():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(30, 4))
    assert cal.shared_rows(z[:20], z[15:]) == 5
    assert cal.shared_rows(z[:20], z[20:]) == 0
    with pytest.raises(ShapeError, match="columns"):
        cal.shared_rows(z, z[:, :2])


@pytest.mark.parametrize("kind", [cal.TemperatureScaling, cal.AutoCalibrator, cal.StructuredMatrixScaling])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_with_a_gradient_are_read_as_their_values(kind, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    z = 2.0 * rng.normal(size=(400, 3))
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    logits = torch.tensor(3.0 * z, dtype=getattr(torch, dtype))
    plain = logits.float().numpy()
    wanted = kind().fit(plain, y).transform(plain)
    logits.requires_grad_()
    model = kind().fit(logits, torch.tensor(y), sample_weight=torch.ones(400, requires_grad=True))
    np.testing.assert_array_equal(model.transform(logits), wanted)
    if kind is cal.AutoCalibrator:
        np.testing.assert_array_equal(kind().fit_held_out(logits, y), kind().fit_held_out(plain, y))


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (np.ma.masked_array([[1.0, 2.0]] * 4, [[0, 1]] * 4), "hidden entries"),
        ([[1.0, 2.0], [1.0]] * 2, "logits"),
        (np.array([[1.0, 2.0 + 1j]] * 4), "complex"),
    ],
)
def test_logits_that_are_no_array_of_numbers_are_refused(logits, words):
    for read in (cal.TemperatureScaling().fit, cal.AutoCalibrator().fit_held_out):
        with pytest.raises(NormexpError, match=words):
            read(logits, [0, 1, 0, 1])
