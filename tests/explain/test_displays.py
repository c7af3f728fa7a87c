"""Pictures show the numbers that they are made of."""

import io
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import normexp as nx
from normexp import explain
from normexp.base.errors import DtypeError, MissingExtraError, RangeError, ShapeError
from normexp.explain.account import account
from normexp.explain.account_picture import draw_account
from normexp.explain.class_tree import class_links
from normexp.tables import Block


@pytest.fixture(autouse=True)
def quiet():
    """No window, and no figure left behind."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    yield
    plt.close("all")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return nx.SoftmaxClassifier(C=1e-3).fit(X, y), X, y


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True, as_frame=True)
    return make_pipeline(StandardScaler(), nx.SoftmaxClassifier()).fit(X, y), X


def bars(axes):
    return [patch.get_width() for patch in axes.patches]


def labels(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


def test_bars_are_the_contributions_and_add_up(wine):
    model, X = wine
    drawn = explain.ContributionsDisplay.from_estimator(model, X[100:101], top=5)
    why = explain.reasons(model, X[100:101])
    assert sum(bars(drawn.ax_)) == pytest.approx(why.gap[0])
    order = np.argsort(-np.abs(why.contributions[0]))
    assert labels(drawn.ax_) == [*why.names[order[:5]], "8 more", "where every row starts"]
    np.testing.assert_allclose(bars(drawn.ax_)[:5], why.contributions[0, order[:5]])
    assert drawn.figure_ is drawn.ax_.figure
    colours = {patch.get_facecolor() for patch in drawn.ax_.patches if patch.get_width() > 0}
    assert len(colours) == 1
    numbers = [text.get_text() for text in drawn.ax_.texts]
    assert numbers == [f"{value:+.2f}" for value in bars(drawn.ax_)]


def test_a_display_draws_on_the_axes_it_is_given(wine):
    from matplotlib.figure import Figure

    model, X = wine
    axes = Figure().subplots()
    assert explain.ContributionsDisplay.from_estimator(model, X[:1], ax=axes).ax_ is axes


def test_heat_maps_are_the_coefficients_and_the_means(digits):
    model, X, y = digits
    drawn = explain.HeatMapDisplay.from_estimator(model, shape=(8, 8))
    images = [axes.images[0].get_array() for axes in drawn.axes_.flat if axes.images]
    np.testing.assert_allclose(np.ravel(images[3]), model.coef_[3] - model.coef_.mean(axis=0))
    limits = {axes.images[0].get_clim() for axes in drawn.axes_.flat if axes.images}
    assert len(limits) == 1  # one scale for all
    assert limits.pop()[0] < 0
    means = explain.HeatMapDisplay.from_rows(X, y, shape=(8, 8))
    image = means.axes_[0, 0].images[0]
    np.testing.assert_allclose(np.ravel(image.get_array()), X[y == 0].mean(axis=0))
    assert image.get_clim()[0] == 0.0
    assert [axes.get_title() for axes in means.axes_.flat if axes.images] == [str(k) for k in range(10)]


def test_many_classes_are_said_to_be_more_than_are_drawn():
    drawn = explain.HeatMapDisplay(np.zeros((40, 2, 2)), range(40)).plot()
    assert sum(bool(axes.images) for axes in drawn.axes_.flat) == 30
    assert drawn.figure_.get_suptitle() == "the first 30 of 40 classes"


def test_words_of_a_pipeline_stand_for_their_class():
    texts = ["win cash", "see you", "cash now", "you there"] * 3
    model = make_pipeline(TfidfVectorizer(), nx.SoftmaxClassifier()).fit(texts, ["spam", "ham"] * 6)
    drawn = explain.WordsDisplay.from_estimator(model, top=2)
    panels = {axes.get_title(loc="left"): axes for axes in drawn.axes_.flat}
    assert labels(panels["spam"])[0] == "cash"
    assert labels(panels["ham"])[0] == "you"
    assert bars(panels["spam"])[0] > 0 > bars(panels["spam"])[-1]


def test_words_of_a_table_model_come_from_rows(table_models):
    model, block = table_models["text alone"]
    drawn = explain.WordsDisplay.from_estimator(model, block)
    panels = {axes.get_title(loc="left"): labels(axes) for axes in drawn.axes_.flat}
    assert "CASH" in panels["spam"][:6]
    assert "lunch" in panels["ham"][:6]
    assert "today" in panels["news"][:6]
    with pytest.raises(DtypeError, match="rows with words are needed"):
        explain.WordsDisplay.from_estimator(model)
    with pytest.raises(DtypeError, match="has no words"):
        explain.WordsDisplay.from_estimator(table_models["columns"][0])


def test_the_tree_joins_the_classes_that_are_alike(rng):
    base = rng.normal(size=(3, 20))
    coef = np.repeat(base, 2, axis=0) + 0.1 * rng.normal(size=(6, 20))  # 0 and 1, 2 and 3, 4 and 5
    first = {frozenset(pair) for pair in class_links(coef)[:3, :2].astype(int).tolist()}
    assert first == {frozenset({0, 1}), frozenset({2, 3}), frozenset({4, 5})}
    model = nx.SoftmaxClassifier()
    model.coef_, model.intercept_, model.classes_, model.n_features_in_ = (
        coef,
        np.zeros(6),
        np.array(list("abcdef")),
        20,
    )
    drawn = explain.ClassTreeDisplay.from_estimator(model)
    order = drawn.order_
    assert sorted(order) == list("abcdef")
    assert all(abs(order.index(a) - order.index(b)) == 1 for a, b in ("ab", "cd", "ef"))
    shown = [text.get_text() for text in drawn.ax_.get_yticklabels()]
    assert shown == order[::-1]  # axes count upwards


@pytest.mark.parametrize("file_format", ["png", "svg", "pdf"])
def test_an_account_is_drawn_in_every_format_and_the_same_each_time(table_models, file_format):
    model, block = table_models["one text"]
    told = account(model, Block(block.features[:1], None, 0))
    files = []
    for _ in range(2):
        stream = io.BytesIO()
        draw_account(told, stream, file_format=file_format, top=5)
        files.append(stream.getvalue())
    assert files[0][:4] in {b"\x89PNG", b"<?xm", b"%PDF"}
    if file_format != "pdf":  # a PDF says when it was made
        assert files[0] == files[1]


def test_names_with_dollars_are_names(wine):
    drawn = explain.ContributionsDisplay(["$a_1$", "b"], [1.0, -2.0], baseline=0.0, of="$", against="x").plot()
    drawn.figure_.canvas.draw()
    assert r"\$a_1\$" in labels(drawn.ax_)


BAD = {
    "shape": (lambda m, w: explain.HeatMapDisplay.from_estimator(m, shape=(8, 9)), ShapeError, "64 columns"),
    "images": (lambda m, w: explain.HeatMapDisplay(np.zeros((2, 4)), [0, 1]), ShapeError, "height, width"),
    "rows": (lambda m, w: explain.HeatMapDisplay.from_rows(np.zeros((3, 4)), [0], shape=(2, 2)), ShapeError, "(3, 4)"),
    "words": (lambda m, w: explain.WordsDisplay.from_estimator(m), DtypeError, "has no words"),
    "weights": (lambda m, w: explain.WordsDisplay(["a"], [[1.0]], [0, 1]), ShapeError, "(2, 1)"),
    "no row": (lambda m, w: explain.ContributionsDisplay.from_estimator(w[0], w[1][:0]), ShapeError, "no rows"),
    "two": (lambda m, w: explain.ClassTreeDisplay.from_estimator(two()), RangeError, "3 or more"),
}


def two():
    X, y = load_wine(return_X_y=True)
    return nx.SoftmaxClassifier().fit(X, y > 0)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_answered_with_a_sentence(digits, wine, name):
    call, error, words = BAD[name]
    with pytest.raises(error) as caught:
        call(digits[0], wine)
    assert words in str(caught.value)


def test_without_matplotlib_a_sentence_says_what_to_install(wine, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'normexp\[cli\]'"):
        explain.ContributionsDisplay.from_estimator(wine[0], wine[1][:1])
