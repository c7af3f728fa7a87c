"""Infinities, NaN, masked rows: the table of semantics, and the sentences for what does not fit."""

import re

import numpy as np
import pytest

import normexp as nx
from array_libraries import NARROW, STRICT, assert_alike, each_float, plain, strict

INF, NAN = np.inf, np.nan
X, Y = np.zeros((50, 10)), np.zeros(50, np.int64)
ROWS = np.array([
    [-INF, -INF, -INF], [INF, 1.0, 2.0], [INF, INF, 0.0], [INF, -INF, 0.0], [NAN, 1.0, 2.0], [NAN, INF, -INF],
    [-INF, 1.0, 2.0], [3.0, 3.0, 3.0], [-INF, -INF, 4.0], [1e38, -1e38, 0.0], [1.0, 2.0, 3.0],
])  # fmt: skip


@each_float
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "entropy", "margin", "energy", "max_logit",
                                  "generalised_entropy", "sparsemax", "entmax"])  # fmt: skip
def test_each_row_as_on_numpy_and_alone(name, dtype):
    array, function = ROWS.astype(dtype), getattr(nx, name)
    whole = function(strict(array))
    assert_alike(whole, function(array), ulp=64.0)
    for row, got in zip(array, plain(whole), strict=True):
        assert plain(function(strict(row))).tobytes() == got.tobytes()


@each_float
def test_temperatures_at_the_limits(dtype):
    array = ROWS.astype(dtype)
    for heat in (0.0, INF, np.array([0.5, 1.0, 4.0]), np.array([[0.0], [2.0]] * 5 + [[INF]]), np.array([0, 1, INF])):
        for function in (nx.softmax, nx.log_softmax):
            found, expected = function(strict(array), temperature=heat), function(array, temperature=heat)
            assert_alike(found, expected)


@each_float
def test_what_is_masked_never_matters(dtype):
    array, where = ROWS.astype(dtype), np.isfinite(ROWS)
    where[7] = False
    for function in (nx.softmax, nx.log_softmax, nx.logsumexp):
        assert_alike(function(strict(array), where=strict(where)), function(array, where=where))
    assert plain(nx.softmax(strict(array), where=strict(where)))[[0, 7]].tolist() == [[0.0] * 3] * 2


@each_float
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"focal_gamma": 2.0}, {"z_loss": 0.1}], ids=str)
def test_losses_and_gradients_at_the_edges(dtype, options):
    array = ROWS.astype(dtype)
    for column in range(3):
        target = np.full(len(array), column)
        given = {**options, "reduction": "none"}
        found = nx.cross_entropy_with_grad(strict(array), strict(target), **given)
        assert_alike(found, nx.cross_entropy_with_grad(array, target, **given), of_largest=True)
        shares = np.full(array.shape, 0.5)
        shares[:, column] = 0.0
        found = nx.cross_entropy_with_grad(strict(array), strict(shares), **given)
        assert_alike(found, nx.cross_entropy_with_grad(array, shares, **given), of_largest=True)
    assert plain(found.grad)[0].tolist() == [0.0, 0.0, 0.0]  # all -inf


def test_nobody_counts():
    logits = strict(np.ones((3, 4)))
    loss, grad = nx.cross_entropy_with_grad(logits, np.full(3, -1), ignore_index=-1)
    assert float(loss) == 0.0
    assert not plain(grad).any()


def test_top_k_takes_the_earlier_of_equals_and_distinct_classes_of_a_lost_row():
    array = np.array([[1.0, 3.0, 3.0, 3.0], [-INF] * 4, [NAN, 1.0, 2.0, NAN]])
    best = nx.top_k(strict(array), 3)
    assert plain(best.index)[0].tolist() == [1, 2, 3]
    assert [len(set(row)) for row in plain(best.index).tolist()] == [3, 3, 3]
    assert np.isnan(plain(best.prob)[1:]).all()


def changed(array, place, value):
    copy = array.copy()
    copy[place] = value
    return copy


HALF = np.full((50, 10), 0.1)
MAPS, CROSS = ["softmax", "log_softmax"], ["cross_entropy", "cross_entropy_with_grad"]
LINEAR = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]
HEAD = (np.zeros((50, 3)), np.zeros((10, 3)), Y)
CASES = {
    "axis too large": (MAPS, (X,), {"axis": 2}),
    "axis twice": (["logsumexp"], (X,), {"axis": (0, 0)}),
    "axis as text": (MAPS, (X,), {"axis": "rows"}),
    "two axes": ([*CROSS], (X, Y), {"axis": (0, 1)}),
    "negative temperature": (MAPS, (X,), {"temperature": -1.0}),
    "NaN temperature": (MAPS, (X,), {"temperature": NAN}),
    "temperature of another shape": (MAPS, (X,), {"temperature": np.ones(7)}),
    "temperature as text": (MAPS, (X,), {"temperature": "hot"}),
    "mask of another shape": (MAPS, (X,), {"where": np.ones((50, 7), bool)}),
    "mask of numbers": (MAPS, (X,), {"where": HALF}),
    "complex logits": ([*MAPS, "entropy", "sparsemax"], (X + 0j,), {}),
    "target too short": (CROSS, (X, Y[:49]), {}),
    "target too large": (CROSS, (X, changed(Y, 37, 12)), {}),
    "target too large, bytes": (CROSS, (X, changed(Y, 37, 200).astype(np.uint8)), {}),
    "target negative": (CROSS, (X, changed(Y, 3, -2)), {"ignore_index": -1}),
    "target complex": (CROSS, (X, Y + 0j), {}),
    "proportions of another shape": (CROSS, (X, HALF[:, :9]), {}),
    "negative proportions": (CROSS, (X, changed(HALF, (21, 3), -0.1)), {}),
    "NaN proportions": (CROSS, (X, changed(HALF, (21, 3), NAN)), {}),
    "proportions of another sum": (CROSS, (X, changed(HALF, (21, 3), 0.5)), {}),
    "proportions and ignore_index": (CROSS, (X, HALF), {"ignore_index": -1}),
    "weight of another shape": (CROSS, (X, Y), {"weight": np.ones(9)}),
    "negative weight": (CROSS, (X, Y), {"weight": changed(np.ones(10), 2, -3.0)}),
    "smoothing above 1": (CROSS, (X, Y), {"label_smoothing": 1.5}),
    "reduction of another name": (CROSS, (X, Y), {"reduction": "average"}),
    "k of 0": (["top_k"], (X, 0), {}),
    "k above K": (["top_k"], (X, 11), {}),
    "k a fraction": (["top_k"], (X, 2.5), {}),
    "alpha below 1": (["entmax"], (X,), {"alpha": 0.5}),
    "size negative": (["sample"], (X,), {"size": -1}),
    "seed negative": (["sample", "gumbel_softmax"], (X,), {"rng": -1}),
    "seed as text": (["sample"], (X,), {"rng": "dice"}),
    "too few classes": (["sample"], (changed(X, (4, slice(2, 10)), -INF),), {"size": 3, "replace": False}),
    "segments of another shape": (["segment_softmax"], (X, Y[:9]), {}),
    "segments of floats": (["segment_softmax"], (X, Y + 0.5), {}),
    "segment negative": (["segment_softmax"], (X, changed(Y, 8, -1)), {}),
    "segment above": (["segment_softmax"], (X, changed(Y, 8, 5)), {"num_segments": 5}),
    "one number": (["segment_softmax"], (X[0, 0], Y), {}),
    "no row": (["softmax_jacobian"], (X[0, 0],), {}),
    "vector of another shape": (["softmax_vjp", "softmax_jvp"], (X, X[:, :9]), {}),
    "projection of another depth": (LINEAR, (HEAD[0], np.zeros((10, 4)), Y), {}),
    "bias of another shape": (LINEAR, HEAD, {"bias": np.zeros(9)}),
    "softcap 0": (LINEAR, HEAD, {"softcap": 0.0}),
    "x a number": (LINEAR, (X[0, 0], HEAD[1], Y), {}),
    "target of the head too large": (LINEAR, (*HEAD[:2], changed(Y, 37, 12)), {}),
}


def sentence(function, arguments, options):
    """The class of the error and its words, without what differs: how an array is printed."""
    with pytest.raises(nx.NormexpError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_the_sentences_of_the_numpy_path(name):
    functions, arguments, options = CASES[name]
    for function in functions:
        given = [strict(a) if isinstance(a, (np.ndarray, np.generic)) else a for a in arguments]
        expected = sentence(getattr(nx, function), arguments, options)
        assert sentence(getattr(nx, function), given, options) == expected
        own = {key: strict(v) if isinstance(v, np.ndarray) else v for key, v in options.items()}
        kind, words = sentence(getattr(nx, function), given, own)
        assert kind == expected[0]
        assert re.match(rf"{function}: ", words)


def test_out_is_refused_in_a_sentence():
    with pytest.raises(TypeError, match=r"softmax: out is a ndarray.*array_api_strict; leave out away") as caught:
        nx.softmax(strict(X), out=np.empty_like(X))
    assert isinstance(caught.value, nx.NormexpError)


def test_two_libraries_and_two_devices_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(nx.NormexpError, match=r"target is an array of torch and the logits one of array_api_strict"):
        nx.cross_entropy(strict(X), torch.zeros(50, dtype=torch.int64))
    with pytest.raises(nx.NormexpError, match=r"where is on .*no_float64.* and the logits on .*CPU_DEVICE"):
        nx.softmax(strict(X), where=STRICT.ones((50, 10), dtype=STRICT.bool, device=NARROW))


def test_lists_and_numpy_arrays_beside_strict_logits():
    logits = np.array([[1.0, 2.0], [0.5, 0.0]])
    expected = nx.cross_entropy(logits, [1, 0], weight=[1.0, 2.0])
    assert_alike(nx.cross_entropy(strict(logits), [1, 0], weight=[1.0, 2.0]), expected)
    assert_alike(nx.cross_entropy(strict(logits[:0]), []), nx.cross_entropy(logits[:0], []))
    assert_alike(nx.softmax(strict(logits), where=[True, False]), nx.softmax(logits, where=[True, False]))
