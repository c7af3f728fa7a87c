"""Wrong input: the builtin that fits, also a NormexpError, and a sentence that names function and argument."""

import re

import numpy as np
import pytest

import normexp as nx
from refusals import refusal_of

X = np.zeros((50, 10))
Y = np.zeros(50, np.int64)
HALF = np.full((50, 10), 0.1)
ONES = np.ones(10)


def changed(array, place, value):
    copy = array.copy()
    copy[place] = value
    return copy


def uneven(row, values):
    return changed(HALF, row, values)


MAPS = ["softmax", "log_softmax"]
ANY = [*MAPS, "logsumexp"]
CROSS = ["cross_entropy", "cross_entropy_with_grad"]

# functions, positional arguments, options, builtin, words that the sentence must hold
CASES = {
    "axis too large": (ANY, (X,), {"axis": 2}, np.exceptions.AxisError, ["axis", "2"]),
    "axis too small": (ANY, (X,), {"axis": -3}, np.exceptions.AxisError, ["axis", "-3"]),
    "axis in a tuple": (ANY, (X,), {"axis": (0, 5)}, np.exceptions.AxisError, ["axis", "5"]),
    "axis twice": (ANY, (X,), {"axis": (0, 0)}, ValueError, ["axis"]),
    "axis 1 of one": (ANY, (X[0],), {"axis": 1}, np.exceptions.AxisError, ["axis", "1"]),
    "axis as text": (ANY, (X,), {"axis": "rows"}, TypeError, ["axis"]),
    "axis a fraction": (ANY, (X,), {"axis": 0.5}, TypeError, ["axis"]),
    "negative temperature": (MAPS, (X,), {"temperature": -1.0}, ValueError, ["temperature", "-1"]),
    "one negative temperature": (MAPS, (X,), {"temperature": changed(ONES, 3, -2.0)}, ValueError, ["temperature"]),
    "NaN temperature": (MAPS, (X,), {"temperature": np.nan}, ValueError, ["temperature", "nan"]),
    "temperature of another shape": (MAPS, (X,), {"temperature": np.ones(7)}, ValueError, ["temperature", "7"]),
    "temperature that widens": (MAPS, (X,), {"temperature": np.ones((3, 50, 10))}, ValueError, ["temperature"]),
    "temperature as text": (MAPS, (X,), {"temperature": "hot"}, TypeError, ["temperature"]),
    "complex temperature": (MAPS, (X,), {"temperature": 1j}, TypeError, ["temperature"]),
    "mask of another shape": (ANY, (X,), {"where": np.ones((50, 7), bool)}, ValueError, ["where", "(50, 7)"]),
    "mask of numbers": (ANY, (X,), {"where": np.full((50, 10), 0.5)}, TypeError, ["where", "float64"]),
    "out of another shape": (MAPS, (X,), {"out": np.empty((10, 50))}, ValueError, ["out", "(10, 50)"]),
    "out of another dtype": (MAPS, (X,), {"out": X.astype("f4")}, TypeError, ["out", "float32", "float64"]),
    "out of integers": (MAPS, (X,), {"out": np.empty((50, 10), int)}, TypeError, ["out", "int64"]),
    "out is a list": (MAPS, (X,), {"out": [0.0] * 10}, TypeError, ["out"]),
    "out is read-only": (MAPS, (X,), {"out": np.broadcast_to(0.0, (50, 10))}, ValueError, ["out"]),
    "ragged list": (ANY, ([[1.0, 2.0], [3.0]],), {}, ValueError, ["logits"]),
    "complex logits": (ANY, (X + 0j,), {}, TypeError, ["logits", "complex128"]),
    "text logits": (ANY, (["a", "b"],), {}, TypeError, ["logits"]),
    "no logits": (ANY, (None,), {}, TypeError, ["logits"]),
    "target too short": (CROSS, (X, Y[:49]), {}, ValueError, ["target", "49", "50"]),
    "target too deep": (CROSS, (X, Y[:, None]), {}, ValueError, ["target", "(50, 1)"]),
    "target a scalar": (CROSS, (X, 3), {}, ValueError, ["target"]),
    "target too large": (CROSS, (X, changed(Y, 37, 12)), {}, ValueError, ["target", "row 37", "12"]),
    "target is K": (CROSS, (X, changed(Y, 37, 10)), {}, ValueError, ["target", "row 37", "10"]),
    "target negative": (CROSS, (X, changed(Y, 41, -1)), {}, ValueError, ["target", "row 41", "-1"]),
    "target not the ignored": (
        CROSS, (X, changed(changed(Y, 3, -9), 41, -1)), {"ignore_index": -9}, ValueError, ["target", "row 41", "-1"],
    ),
    "target of uint64": (
        CROSS, (X, changed(Y.astype("u8"), 29, 2**64 - 1)), {}, ValueError, ["target", "row 29"],
    ),
    "target with no class": (CROSS, (np.zeros((3, 0)), [0, 0, 0]), {}, ValueError, ["target", "row 0"]),
    "target complex": (CROSS, (X, Y + 0j), {}, TypeError, ["target", "complex128"]),
    "target text": (CROSS, (X, np.array(["cat"] * 50)), {}, TypeError, ["target"]),
    "float target of index shape": (CROSS, (X, Y.astype(float)), {}, ValueError, ["target"]),
    "negative proportion": (
        CROSS, (X, uneven(37, [-0.1, 0.2, *[0.1125] * 8])), {}, ValueError, ["target", "row 37"],
    ),
    "proportions not one": (CROSS, (X, uneven(37, [0.2] * 10)), {}, ValueError, ["target", "row 37"]),
    "NaN proportion": (CROSS, (X, changed(HALF, (37, 2), np.nan)), {}, ValueError, ["target", "row 37"]),
    "infinite proportion": (CROSS, (X, changed(HALF, (37, 2), np.inf)), {}, ValueError, ["target", "row 37"]),
    "weight too short": (CROSS, (X, Y), {"weight": np.ones(9)}, ValueError, ["weight", "9", "10"]),
    "weight of rows": (CROSS, (X, Y), {"weight": np.ones(50)}, ValueError, ["weight"]),
    "negative weight": (CROSS, (X, Y), {"weight": changed(ONES, 4, -0.5)}, ValueError, ["weight", "-0.5"]),
    "NaN weight": (CROSS, (X, Y), {"weight": changed(ONES, 4, np.nan)}, ValueError, ["weight"]),
    "text weight": (CROSS, (X, Y), {"weight": ["1"] * 10}, TypeError, ["weight"]),
    "smoothing above one": (CROSS, (X, Y), {"label_smoothing": 1.5}, ValueError, ["label_smoothing", "1.5"]),
    "negative smoothing": (CROSS, (X, Y), {"label_smoothing": -0.25}, ValueError, ["label_smoothing", "-0.25"]),
    "NaN smoothing": (CROSS, (X, Y), {"label_smoothing": np.nan}, ValueError, ["label_smoothing", "nan"]),
    "negative focal": (CROSS, (X, Y), {"focal_gamma": -2.0}, ValueError, ["focal_gamma", "-2"]),
    "NaN z-loss": (CROSS, (X, Y), {"z_loss": np.nan}, ValueError, ["z_loss", "nan"]),
    "unknown reduction": (CROSS, (X, Y), {"reduction": "average"}, ValueError, ["reduction", "average", "mean"]),
    "reduction none": (CROSS, (X, Y), {"reduction": None}, ValueError, ["reduction"]),
    "axis of the loss": (CROSS, (X, Y), {"axis": 2}, np.exceptions.AxisError, ["axis", "2"]),
    "loss of a scalar": (CROSS, (np.float64(1.0), 0), {}, ValueError, ["logits"]),
}  # fmt: skip
SPREAD = [(function, name) for name, case in CASES.items() for function in case[0]]


@pytest.mark.parametrize(("function", "name"), SPREAD, ids=[f"{f}: {n}" for f, n in SPREAD])
def test_wrong_input_is_refused_with_a_sentence(function, name):
    _, arguments, options, builtin, words = CASES[name]
    message = refusal_of(function, arguments, options, builtin)
    assert re.search(rf"\b{function}\b", message), message
    for word in words:
        assert word.lower() in message.lower(), f"{word!r} is not in: {message}"
    assert message.rstrip().endswith((".", ")")), message
    assert len(message.split()) >= 6, message


@pytest.mark.parametrize("function", MAPS)
@pytest.mark.parametrize("wrong", ["dtype", "shape"])
def test_a_refused_out_is_untouched(function, wrong):
    out = np.full((50, 10), 7, np.float32) if wrong == "dtype" else np.full((10, 50), 7.0)
    with pytest.raises((TypeError, ValueError)):
        getattr(nx, function)(X, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("function", [*ANY, *CROSS])
def test_options_are_keyword_only_and_arrays_positional_only(function):
    op = getattr(nx, function)
    arrays = (X, Y) if function in CROSS else (X,)
    with pytest.raises(TypeError):
        op(*arrays, -1)
    with pytest.raises(TypeError):
        op(logits=X)


def test_proportions_within_a_thousandth_of_one_are_taken():
    nearly = HALF * (1 + 5e-4)
    assert nx.cross_entropy(X, nearly) == pytest.approx(np.log(10), rel=1e-3)
    with pytest.raises(ValueError, match="row 0"):
        nx.cross_entropy(X, HALF * 1.002)


@pytest.mark.parametrize("count", [0, -1])
def test_a_thread_count_below_one_is_refused(count):
    before = nx.get_num_threads()
    with pytest.raises(ValueError, match="set_num_threads") as caught:
        nx.set_num_threads(count)
    assert isinstance(caught.value, nx.NormexpError)
    assert nx.get_num_threads() == before


@pytest.mark.parametrize("count", [1.5, "2", None])
def test_a_thread_count_that_is_no_integer_is_refused(count):
    with pytest.raises((TypeError, ValueError), match="set_num_threads") as caught:
        nx.set_num_threads(count)
    assert isinstance(caught.value, nx.NormexpError)


def test_every_case_is_seen():
    assert len(SPREAD) > 110
    assert {f for f, _ in SPREAD} == {*ANY, *CROSS}
