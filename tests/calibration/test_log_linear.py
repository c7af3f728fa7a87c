"""The mixture of calibrators: its shares are the optimum, and it is what its members say, together."""

import numpy as np
import pytest
from sklearn.base import clone

import normexp as nx
from normexp import calibration as cal
from normexp.calibration import log_linear
from normexp.calibration.log_linear import EVENNESS, LogLinearPool, pool_shares, same_method
from normexp.metrics import log_loss
from normexp.trusted import TrustedClassifier
from normexp.trusted.reporting import promises


def opinions(seed, n=400, k=4):
    """Three opinions of different worth, with the classes."""
    rng = np.random.default_rng(seed)
    right = 2.0 * rng.normal(size=(n, k))
    y = (right + rng.gumbel(size=right.shape)).argmax(axis=1).astype(np.intp)
    noise = [0.5, 1.0, 6.0]
    return [np.asarray(nx.log_softmax(right + s * rng.normal(size=right.shape))) for s in noise], y


def objective(share, log_prob, y, weight):
    mixed = sum(w * one for w, one in zip(share, log_prob, strict=True))
    loss = np.log(np.exp(mixed).sum(axis=1)) - mixed[np.arange(len(y)), y]
    return float(weight @ loss) - EVENNESS * float(np.log(share).sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_no_other_shares_are_better(seed):
    log_prob, y = opinions(seed)
    weight = np.random.default_rng(seed).uniform(0.5, 2.0, len(y))
    share = pool_shares(log_prob, y, weight)
    assert share.sum() == pytest.approx(1.0)
    assert share[2] < 0.1 < share[0]
    best = objective(share, log_prob, y, weight)
    for other in np.random.default_rng(5).dirichlet(np.ones(3), size=200):
        assert objective(np.maximum(other, 1e-12), log_prob, y, weight) >= best - 1e-4
    assert objective(np.full(3, 1 / 3), log_prob, y, weight) > best + 1.0  # equal shares would not do


def test_an_eighth_of_many_rows_leads_to_the_shares_of_all(monkeypatch):
    log_prob, y = opinions(3, n=4000)
    weight = np.random.default_rng(3).uniform(0.5, 2.0, len(y))
    every = pool_shares(log_prob, y, weight)
    monkeypatch.setattr(log_linear, "MANY_ROWS", 1000)
    found = pool_shares(log_prob, y, weight)
    assert found.sum() == pytest.approx(1.0)
    worth = every >= log_linear.LEAST_SHARE
    assert worth.sum() == 2
    assert (found[~worth] < log_linear.LEAST_SHARE).all()
    kept = [one for one, is_worth in zip(log_prob, worth, strict=True) if is_worth]
    ours, best = (objective(one[worth] / one[worth].sum(), kept, y, weight) for one in (found, every))
    assert ours <= best + 1e-3
    eighth = pool_shares([one[::8] for one in log_prob], y[::8], weight[::8])
    assert np.abs(eighth - every).max() > 3 * np.abs(found - every).max()  # the eighth alone would not do


def test_classes_that_are_impossible_stay_so():
    log_prob, y = opinions(2)
    for one in log_prob:
        one[:, 3] = -np.inf
    y = np.minimum(y, 2)
    share = pool_shares(log_prob, y, np.ones(len(y)))
    assert np.isfinite(share).all()


def test_the_mixture_is_the_mean_of_log_probabilities(rng):
    logits, y = 3.0 * rng.normal(size=(600, 3)), rng.integers(0, 3, 600)
    members = [cal.TemperatureScaling(), cal.VectorScaling(strength=2.0)]
    pool = LogLinearPool(members, [0.25, 0.75]).fit(logits, y)
    parts = [np.asarray(nx.log_softmax(clone(one).fit(logits, y).transform(logits))) for one in members]
    mean = nx.log_softmax(0.25 * parts[0] + 0.75 * parts[1])
    np.testing.assert_allclose(nx.log_softmax(pool.transform(logits)), mean, atol=1e-12)
    again = clone(pool).fit(logits, y)
    np.testing.assert_array_equal(again.transform(logits), pool.transform(logits))


def drifted(seed, n):
    """Too sharp and biased, so that something is to be mended."""
    rng = np.random.default_rng(seed)
    right = 2.0 * rng.normal(size=(n, 5))
    y = (right + rng.gumbel(size=right.shape)).argmax(axis=1)
    return 1.8 * right + [0.8, 0.0, 0.0, 0.0, -0.8], y


def test_the_choice_mixes_its_methods_and_can_be_saved(tmp_path):
    logits, y = drifted(0, 1500)
    model = cal.AutoCalibrator().fit(logits, y)
    assert model.chosen_ in model.shares_
    assert len(model.shares_) > 1
    assert sum(model.shares_.values()) == pytest.approx(1.0)
    assert isinstance(model.calibrator_, LogLinearPool)
    nx.save(model, tmp_path / "calibrator.nx")
    np.testing.assert_array_equal(nx.load(tmp_path / "calibrator.nx").transform(logits), model.transform(logits))
    refit = same_method(model.calibrator_).fit(logits, y)
    np.testing.assert_allclose(refit.transform(logits), model.transform(logits), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "columns"), [({"keep_decisions": True}, 5), ({}, 2)], ids=["decisions kept", "two classes"]
)
def test_some_choices_are_not_mixed(options, columns):
    logits, y = drifted(1, 1500)
    rows = y < columns
    model = cal.AutoCalibrator(**options).fit(logits[rows, :columns], y[rows])
    assert model.shares_ == {model.chosen_: 1.0}
    assert not isinstance(model.calibrator_, LogLinearPool)


def test_nothing_is_mixed_where_nothing_is_to_be_mended(rng):
    logits = 2.0 * rng.normal(size=(1000, 4))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    model = cal.AutoCalibrator().fit(logits, y)
    assert model.shares_ == {"identity": 1.0}


def test_real_networks_gain_more_than_by_the_published_strength(shared_data):
    """From 300 rows, where the published strength is a guess as much as the choice of one method."""
    stored = np.load(shared_data / "cifar10-probs-pytorch" / "cifar10.npz")
    y = stored["y"].astype(np.intp)
    order = np.random.default_rng(0).permutation(y.size)
    fit, test = order[:300], order[300:]
    gains = []
    for name in ("densenet121", "resnet18", "resnet50", "vgg11_bn", "vgg19_bn", "mobilenet_v2"):
        logits = np.log(stored[f"probs_{name}"].astype(np.float64))
        ours = cal.AutoCalibrator().fit(logits[fit], y[fit]).transform(logits[test])
        theirs = cal.StructuredMatrixScaling(strength=1.0).fit(logits[fit], y[fit]).transform(logits[test])
        gains.append([log_loss(y[test], logits[test]) - log_loss(y[test], z) for z in (ours, theirs)])
    mean = np.mean(gains, axis=0)
    assert mean[0] > mean[1] > 0


def test_the_report_tells_the_mixture(rng):
    from sklearn.naive_bayes import GaussianNB

    X = rng.normal(size=(1500, 6))
    X = np.hstack([X, X, X[:, :2], X[:, :2]])  # naive Bayes counts two columns four times, the others twice
    y = (X[:, :4] + rng.gumbel(size=(1500, 4))).argmax(axis=1)
    model = TrustedClassifier(GaussianNB(), random_state=0).fit(X, y)
    title, sentence = promises(model)[0]
    assert title == "calibration"
    assert sentence.startswith("a mixture of ")
