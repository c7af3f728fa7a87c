"""The facts of an audit against networks whose faults are known by construction."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from normexp.base.errors import InputError, RangeError
from normexp.metrics import log_loss
from normexp.report import audit, audit_json, render_audit
from normexp.report.audit_input import tell_kind
from normexp.report.audit_verdicts import cure_name
from normexp.report.evidence import percent


def drawn(n=800, k=4, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    z = scale * rng.normal(size=(n, k))
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def verdict(found, name):
    return next(v for v in found.verdicts if v.name == name)


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        (softmax(drawn(50)[0]), "probabilities"),
        (softmax(drawn(50)[0]).astype(np.float16).astype(np.float32), "probabilities"),
        (np.log(softmax(drawn(50)[0])), "log-probabilities"),
        (np.log(softmax(drawn(50)[0])) + 0.1, "logits"),
        (np.log(softmax(drawn(50)[0])) - 0.1, "logits"),
        (drawn(50)[0], "logits"),
        (-np.abs(drawn(50)[0]), "logits"),
    ],
)
def test_logits_and_probabilities_are_told_apart(numbers, kind):
    assert tell_kind(numbers)[0] == kind


def test_a_half_of_rows_that_do_not_sum_to_one_is_neither():
    p = softmax(drawn(50)[0])
    p[::2] *= 0.7
    with pytest.raises(RangeError, match=r"rows 0, 2, 4, 6, 8 and 20 more"):
        tell_kind(p)


def test_the_cure_is_judged_on_rows_that_it_has_not_seen():
    z, y = drawn(300, k=3, seed=2)
    found = audit(3.0 * z, y)
    fold = found.cure.score("log_loss")
    assert fold.before == pytest.approx(log_loss(y, 3.0 * z))
    seen = log_loss(y, 3.0 * z / found.cure.temperature)
    after_temperature = fold.before - found.cure.temperature_gain
    assert after_temperature > seen  # what a temperature loses on rows that it has seen is too little
    assert after_temperature < seen + 0.05


def test_an_over_rated_class_is_named():
    z, y = drawn(1000)
    z[:, 2] += 1.0
    found = audit(z, y, classes=("ant", "bee", "fly", "gnat"), n_resamples=20)
    said = verdict(found, "leans")
    assert said.level == "amber"
    assert "over-rated: “fly”" in said.sentence
    assert found.classes[2].lean_sigmas > 6
    assert found.cure.chosen in ("vector", "matrix")


def test_a_cure_that_mixes_methods_is_not_called_after_one_of_them():
    z, y = drawn(1000)
    z[:, 2] += 1.0
    found = audit(3.0 * z, y, n_resamples=20)
    assert len(found.cure.shares) > 1
    assert found.cure.chosen in found.cure.shares
    said = verdict(found, "cure").sentence
    largest = max(found.cure.shares.values())
    assert re.search(rf"Cross-validation prefers a mean of [a-z ]+ \({percent(largest, 0)}\) and ", said)
    page = render_audit(found)
    assert "After the mean of these methods, on rows" in page
    told = re.findall(r'<span class="mark">(\S+?)\s?% of the mean</span>', page)
    assert len(told) == len(found.cure.shares)
    assert sum(float(one.strip("<&lt;")) for one in told) == pytest.approx(100.0, abs=len(told))
    alone = replace(found.cure, shares={"temperature": 1.0})
    assert cure_name(alone) == "one temperature"


def test_chance_alone_leans_no_class_in_nearly_all_draws():
    levels = [verdict(audit(*drawn(200, k=3, seed=s), n_resamples=20), "leans").level for s in range(4)]
    assert levels == ["green"] * 4


def test_a_certain_error_is_an_infinite_loss_with_a_finite_cure():
    z, y = drawn(400)
    p = softmax(z)
    wrong = np.arange(0, 400, 25)  # several, so that each fold sees some
    p[wrong] = 0.0
    p[wrong, (y[wrong] + 1) % 4] = 1.0
    found = audit(p, y)
    loss = found.cure.score("log_loss")
    assert math.isinf(found.score("log_loss").value)
    assert math.isinf(loss.gain)
    assert math.isfinite(loss.after)
    page = render_audit(found)
    assert "∞" in page
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL), re.IGNORECASE)
    json.dumps(audit_json(found), allow_nan=False)


def test_sets_hold_what_they_promise_and_sorted_rows_do_not_fool_them():
    z, y = drawn(1500, k=6, scale=1.0)
    order = np.argsort(y, kind="stable")
    for rows in (np.arange(1500), order):
        found = audit(z[rows], y[rows], coverage=0.8, n_resamples=20)
        for one in found.sets:
            assert abs(one.coverage - 0.8) < 0.05
            assert one.mean_size > 1.2
        assert found.sets[0].mean_size <= min(one.mean_size for one in found.sets) + 0.05


def test_features_help_to_see_strangers():
    rng = np.random.default_rng(0)
    z, y = drawn(600)
    x = np.eye(4)[y] + 0.2 * rng.normal(size=(600, 4))
    x[5] = 30.0 * np.array([1, -1, 1, -1])
    found = audit(z, y, features=x)
    assert found.unknown.with_features
    assert found.unknown.scores[0].name == "auto"
    assert 5 in [row.row for row in found.unknown.strangest]


def test_a_hundred_classes_make_a_small_page():
    rng = np.random.default_rng(0)
    y = np.r_[np.arange(100), rng.integers(0, 100, 80)]  # too few rows for more than a temperature
    z = 3.0 * rng.normal(size=(180, 100)) + 8.0 * np.eye(100)[y]
    names = tuple(f"<class {k}>" for k in range(100))
    found = audit(z, y, classes=names, n_resamples=20)
    page = render_audit(found)
    assert len(page) < 500_000
    assert "The 30 worst of 100 classes" in page
    assert "<class" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert len(audit_json(found)["classes"]) == 100


def test_two_classes_and_few_rows_have_a_page_too():
    z, y = drawn(24, k=2, seed=1)
    page = render_audit(audit(z, y))
    assert "Audit of" in page
    with pytest.raises(InputError, match="19 rows came for 2 classes"):
        audit(z[:19], y[:19])


def test_with_more_classes_than_rows_the_prior_of_the_training_rows_is_the_one_to_beat():
    """The shares among the audited rows know which of 800 classes come at all: nobody without the answers does."""
    rng = np.random.default_rng(9)
    share = rng.dirichlet(np.full(800, 0.5)) + 1e-6
    share /= share.sum()
    y = rng.choice(800, size=150, p=share)
    informed = np.log(share) + 0.5 * rng.normal(size=(150, 800))
    informed[np.arange(150), y] += 1.25
    own = audit(informed, y, anyway=True, n_resamples=20)
    told = audit(informed, y, prior=share, anyway=True, n_resamples=20)
    assert verdict(own, "prior").title == "No better than the prior"
    assert verdict(told, "prior").level == "green"
    assert told.score("log_loss").prior == pytest.approx(-np.log(share[y]).mean())
    assert told.score("log_loss").value == own.score("log_loss").value


@pytest.mark.parametrize(("prior", "told"), [([0.5, 0.5], r"\(4,\), is right"), ([0.5, 0.5, 0.0, 0.0], "above 0")])
def test_a_prior_that_is_none_is_refused(prior, told):
    z, y = drawn(50)
    with pytest.raises(ValueError, match=f"audit: prior .*{told}"):
        audit(z, y, prior=prior)
