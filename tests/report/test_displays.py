"""The displays: their numbers, what is drawn of them, and scikit-learn's contract."""

import sys
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from normexp.base.errors import DtypeError, InputError, MissingExtraError, RangeError
from normexp.explain.canvas import short
from normexp.explain.class_tree import ClassTreeDisplay, class_links
from normexp.metrics import ece, reliability_curve, risk_coverage_curve
from normexp.report import ReliabilityDisplay, RiskCoverageDisplay, SetCoverageDisplay

mpl.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def drawn(n=1500, k=3, seed=0):
    rng = np.random.default_rng(seed)
    z = 2.0 * rng.normal(size=(n, k))
    return z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def fitted():
    rng = np.random.default_rng(1)
    y = rng.choice(["ant", "bee", "fly"], 400)
    X = rng.normal(size=(400, 3)) + 1.5 * (y[:, None] == np.array(["ant", "bee", "fly"]))
    return LogisticRegression().fit(X[:200], y[:200]), X[200:], y[200:]


def test_the_curve_that_is_drawn_is_that_of_the_metrics():
    z, y = drawn()
    shown = ReliabilityDisplay.from_logits(y, z, n_bins=12, name="net")
    curve = reliability_curve(y, z, n_bins=12)
    np.testing.assert_array_equal(shown.curve.accuracy, curve.accuracy)
    line = next(line for line in shown.ax_.lines if line.get_label() == "net")
    np.testing.assert_array_equal(line.get_xydata(), np.c_[curve.confidence, curve.accuracy])
    assert shown.figure_ is shown.ax_.figure


def test_the_error_of_each_class_is_the_classwise_calibration_error():
    z, y = drawn(k=5)
    shown = ReliabilityDisplay.from_logits(y, 2 * z, n_bins=15)
    assert shown.class_error.mean() == pytest.approx(ece(y, 2 * z, kind="classwise", n_bins=15))


def test_a_hundred_classes_are_cut_to_the_worst():
    z, y = drawn(3000, k=100)
    spoiled = z.copy()
    spoiled[:, 41] += 3.0
    shown = ReliabilityDisplay.from_logits(y, spoiled, kind="classes", classes=[f"c{k}" for k in range(100)])
    labels = [text.get_text() for text in shown.ax_.get_yticklabels()]
    assert len(labels) == 25
    assert labels[0].startswith("c41 ")
    assert "25 worst of 100" in shown.ax_.get_title(loc="left")
    assert np.isnan(shown.class_gap).any()  # cells with few rows have no colour
    assert np.nanmean(shown.class_gap[41]) < -0.1
    shown.figure_.canvas.draw()
    heights = [text.get_window_extent().height for text in shown.ax_.get_yticklabels()]
    places = [text.get_window_extent().y0 for text in shown.ax_.get_yticklabels()]
    assert min(abs(np.diff(places))) > 0.9 * max(heights)  # one label does not stand on another


def test_an_estimator_is_judged_by_its_own_classes():
    model, X, y = fitted()
    shown = ReliabilityDisplay.from_estimator(model, X, y)
    assert shown.classes == ("ant", "bee", "fly")
    assert shown.name == "LogisticRegression"
    index = np.searchsorted(model.classes_, y)
    curve = reliability_curve(index, model.predict_log_proba(X), n_bins=10)
    np.testing.assert_array_equal(shown.curve.confidence, curve.confidence)
    risk = RiskCoverageDisplay.from_estimator(model, X, y, target_risk=0.05)
    assert risk.curve.risk[-1] == pytest.approx(1 - model.score(X, y))


def test_several_are_drawn_on_the_same_axes():
    z, y = drawn()
    axes = Figure().subplots()
    for factor in (1.0, 2.0):
        shown = ReliabilityDisplay.from_logits(y, factor * z, ax=axes, name=f"times {factor}")
        assert shown.ax_ is axes
    assert len(axes.lines) == 3  # the diagonal once
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["times 1.0", "times 2.0"]


def test_a_perfect_ranking_lies_on_the_lower_curve():
    hits = np.arange(400) < 300
    confidence = np.where(hits, 3.0, 1.0) + np.linspace(0, 0.5, 400)
    z = np.c_[confidence, np.zeros(400)]
    y = np.where(hits, 0, 1)
    shown = RiskCoverageDisplay.from_logits(y, z)
    perfect, curve = shown.ax_.lines[0].get_xydata(), shown.ax_.lines[-1].get_xydata()
    at = np.interp(curve[:, 0], perfect[:, 0], perfect[:, 1])
    np.testing.assert_allclose(curve[5:, 1], at[5:], atol=0.6)


def test_the_mark_is_the_largest_coverage_within_the_target():
    z, y = drawn()
    shown = RiskCoverageDisplay.from_logits(y, z, target_risk=0.1)
    curve = risk_coverage_curve(y, z)
    largest = curve.coverage[curve.risk <= 0.1].max()
    assert any(np.allclose(line.get_xdata(), [100 * largest]) for line in shown.ax_.lines)


def test_sets_are_shown_with_the_class_held_least_first():
    y = np.repeat([0, 1, 2], 20)
    sets = np.ones((60, 4), dtype=bool)
    sets[20:30, 1] = False
    shown = SetCoverageDisplay.from_sets(y, sets, classes=["a", "b", "c", "d"], wanted=0.9)
    np.testing.assert_array_equal(shown.coverage[:3], [1.0, 0.5, 1.0])
    assert np.isnan(shown.coverage[3])
    assert shown.ax_.get_yticklabels()[0].get_text() == "b (20)"
    assert shown.mean_size == pytest.approx((60 * 4 - 10) / 60)


def test_wrong_arguments_are_sentences():
    z, y = drawn(60)
    model, X, labels = fitted()
    with pytest.raises(RangeError, match="kind is 'all'"):
        ReliabilityDisplay.from_logits(y, z, kind="all")
    with pytest.raises(InputError, match="no predict_proba"):
        ReliabilityDisplay.from_estimator(LinearSVC().fit(X, labels), X, labels)
    with pytest.raises(RangeError, match="row 0 of y hold classes"):
        ReliabilityDisplay.from_estimator(model, X, np.r_[["gnat"], labels[1:]])
    with pytest.raises(DtypeError, match="2 names of classes came for 3 columns"):
        ReliabilityDisplay.from_logits(y, z, classes=["a", "b"])
    with pytest.raises(DtypeError, match="booleans"):
        SetCoverageDisplay.from_sets(y, z)
    with pytest.raises(RangeError, match="target_risk is 2"):
        RiskCoverageDisplay.from_logits(y, z, target_risk=2.0)


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    """It is loaded when something is drawn, and not before: the numbers need none."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    z, y = drawn(60)
    with pytest.raises(MissingExtraError, match=r"normexp\[cli\]"):
        RiskCoverageDisplay.from_logits(y, z)
    assert RiskCoverageDisplay(risk_coverage_curve(y, z)).curve.coverage[-1] == 1.0


# ---------------------------------------------------------------- what can be read


def boxes(axes):
    """Boxes of the labels on the left, from top to bottom, and of the whole picture, in pixels."""
    figure = axes.figure
    figure.draw_without_rendering()
    found = [label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()]
    return sorted(found, key=lambda box: -box.y1), figure.bbox


def apart(found):
    return all(upper.y0 >= lower.y1 - 0.5 for upper, lower in pairwise(found))


def inside(found, page):
    return all(box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1 for box in found)


def tree(k, ax=None):
    rng = np.random.default_rng(0)
    near = 3.0 * rng.normal(size=(max(2, k // 5), 12))[np.arange(k) % max(2, k // 5)]
    return ClassTreeDisplay(class_links(near + rng.normal(size=(k, 12))), long_names(k)).plot(ax=ax)


def long_names(k):
    return [f"the name of a class that is rather long {i}" if i % 3 else f"c{i}" for i in range(k)]


@pytest.mark.parametrize("k", [3, 100])
@pytest.mark.parametrize("shown", ["worst", "all", "tree"])
def test_names_of_classes_do_not_overlap_and_are_not_cut_off(k, shown):
    if shown == "tree":
        axes = tree(k).ax_
    else:
        z, y = drawn(3000, k)
        most = {"max_classes": k} if shown == "all" else {}
        axes = ReliabilityDisplay.from_logits(y, z, kind="classes", classes=long_names(k), name="net", **most).ax_
    found, page = boxes(axes)
    assert len(found) == (min(k, 25) if shown == "worst" else k)
    assert apart(found)
    bars = [other.yaxis.label.get_window_extent() for other in axes.figure.axes if other is not axes]
    assert inside([*found, axes.title.get_window_extent(), axes.xaxis.label.get_window_extent(), *bars], page)


@pytest.mark.parametrize("shown", ["classes", "tree"])
def test_in_a_small_picture_names_shrink_and_then_thin_out(shown):
    """A hundred names in the height of twenty: every one of those written can be read, and stands at its class."""
    ax = Figure(figsize=(5, 4), layout="constrained").subplots()
    if shown == "tree":
        tree(100, ax)
        # What it saves us from: matplotlib's own labels run into each other.
        other = Figure(figsize=(5, 4), layout="constrained").subplots()
        other.set_yticks(range(100), long_names(100), fontsize=8)
        assert not apart(boxes(other)[0])
    else:
        z, y = drawn(3000, 100)
        ReliabilityDisplay.from_logits(y, z, kind="classes", classes=long_names(100), max_classes=100, ax=ax)
    found, page = boxes(ax)
    assert 15 <= len(found) <= 60
    assert apart(found)
    assert inside(found, page)


def test_names_are_cut_in_their_middle():
    assert short("short", 8) == "short"
    assert [short(f"a_long_name_{i}", 8) for i in (1, 2)] == ["a_lo…e_1", "a_lo…e_2"]
