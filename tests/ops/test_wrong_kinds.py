"""Arguments of the wrong kind, everywhere alike: one sentence that shows what came, never words of NumPy or Python."""

import os
import re
import threading

import numpy as np
import pytest

import normexp as nx
from normexp.backends.pages import SHELF, SMALLEST
from refusals import refusal_of

X, Y = np.zeros((5, 4)), np.zeros(5, np.int64)
EVEN = np.full((5, 4), 0.25)
HEAD = (np.zeros((5, 3)), np.zeros((4, 3)))
COUNTS = ["set_num_threads", "set_kept_memory"]
RAGGED = [[1.0, 2.0], [3.0]]
BOTH = ["cross_entropy", "cross_entropy_with_grad"]
LINEAR = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]
MAPS = ["softmax", "log_softmax"]
WITH_AXIS = [
    *MAPS, "logsumexp", "entropy", "margin", "energy", "max_logit", "generalised_entropy", "sparsemax", "entmax",
    "sample", "gumbel_softmax",
]  # fmt: skip
COLD = np.ones((2000, 1))
COLD[1000] = -2.0


def hidden(values):
    array = np.ma.array(values)
    array[(0,) * array.ndim] = np.ma.masked
    return array


# functions, arguments, options, builtin, words
CASES = {
    "longdouble proportions": (BOTH, (X, EVEN.astype("g")), {}, TypeError, ["target", np.dtype("g").name]),
    "longdouble proportions of a head": (LINEAR, (*HEAD, EVEN.astype("g")), {}, TypeError, ["target"]),
    "masked out": (MAPS, (X,), {"out": np.ma.zeros((5, 4))}, TypeError, ["out", "masked"]),
    "ragged temperature": ([*MAPS, "gumbel_softmax"], (X,), {"temperature": RAGGED}, ValueError, ["temperature"]),
    "ragged where": ([*MAPS, "logsumexp"], (X,), {"where": RAGGED}, ValueError, ["where", "unequal"]),
    "ragged target": (BOTH, (X, RAGGED), {}, ValueError, ["target", "unequal"]),
    "ragged target of a head": (LINEAR, (*HEAD, RAGGED), {}, ValueError, ["target", "unequal"]),
    "ragged weight": (BOTH, (X, Y), {"weight": RAGGED}, ValueError, ["weight", "unequal"]),
    "ragged segments": (["segment_softmax"], (X, RAGGED), {}, ValueError, ["segment_ids", "unequal"]),
    "array as axis": (WITH_AXIS, (X,), {"axis": np.array([0, 1])}, TypeError, ["axis", "(2,)"]),
    "array as axis of a loss": (BOTH, (X, Y), {"axis": np.array([1])}, TypeError, ["axis", "(1,)"]),
    "array as axis of a product": (
        ["softmax_vjp", "softmax_jvp"], (X, X), {"axis": np.array([1])}, TypeError, ["axis"],
    ),
    "array as k": (["top_k"], (X, np.array([1, 2])), {}, TypeError, ["k", "(2,)"]),
    "fraction as k": (["top_k"], (X, np.array(1.5)), {}, TypeError, ["k", "1.5"]),
    "array as size": (["sample"], (X,), {"size": np.array([1, 2])}, TypeError, ["size", "(2,)"]),
    "array as seed": (["sample", "gumbel_softmax"], (X,), {"rng": np.array([1, 2])}, TypeError, ["rng", "(2,)"]),
    "array as num_segments": (
        ["segment_softmax"], (X, Y), {"num_segments": np.array([1, 2])}, TypeError, ["num_segments"],
    ),
    "size beyond memory": (["sample"], (X,), {"size": 2**70}, ValueError, ["size", str(2**70)]),
    "reduction as list": (BOTH, (X, Y), {"reduction": ["mean"]}, ValueError, ["reduction", "['mean']"]),
    "reduction of a head as list": (LINEAR, (*HEAD, Y), {"reduction": ["mean"]}, ValueError, ["reduction"]),
    "huge z-loss": (BOTH, (X, Y), {"z_loss": 10**400}, ValueError, ["z_loss", "float64"]),
    "huge alpha": (["entmax"], (X,), {"alpha": 10**400}, ValueError, ["alpha", "float64"]),
    "text as alpha": (["entmax"], (X,), {"alpha": "1.5"}, TypeError, ["alpha", "'1.5'"]),
    "text as smoothing": (BOTH, (X, Y), {"label_smoothing": "0.1"}, TypeError, ["label_smoothing", "'0.1'"]),
    "text as softcap": (LINEAR, (*HEAD, Y), {"softcap": "3"}, TypeError, ["softcap", "'3'"]),
    "fraction to ignore": (BOTH, (X, Y), {"ignore_index": 1.5}, TypeError, ["ignore_index", "1.5"]),
    "NaN to ignore": (BOTH, (X, Y), {"ignore_index": np.nan}, TypeError, ["ignore_index", "nan"]),
    "text to ignore": (BOTH, (X, Y), {"ignore_index": "a"}, TypeError, ["ignore_index", "'a'"]),
    "list to ignore": (BOTH, (X, Y), {"ignore_index": [1, 2]}, TypeError, ["ignore_index", "[1, 2]"]),
    "head's list to ignore": (LINEAR, (*HEAD, Y), {"ignore_index": [1, 2]}, TypeError, ["ignore_index", "[1, 2]"]),
    "one cold row": (
        MAPS, (np.zeros((2000, 3)),), {"temperature": COLD}, ValueError, ["temperature", "-2", "(1000, 0)"],
    ),
    "one negative proportion": (
        BOTH, (X, np.where(np.eye(5, 4, k=2), -0.75, EVEN)), {}, ValueError, ["target", "row 0", "-0.75"],
    ),
    "axis of prob": (["softmax_vjp", "softmax_jvp"], (X, X), {"axis": 5}, ValueError, ["axis", "5", "prob has"]),
    "no class": (["top_k"], (np.zeros((3, 0)), 1), {}, ValueError, ["(3, 0)", "class"]),
    "masked cotangent": (["softmax_vjp"], (EVEN, hidden(X)), {}, ValueError, ["cotangent", "masked"]),
    "masked tangent": (["softmax_jvp"], (EVEN, hidden(X)), {}, ValueError, ["tangent", "masked"]),
    "masked target": (BOTH, (X, hidden(Y)), {}, ValueError, ["target", "masked"]),
    "masked proportions": (BOTH, (X, hidden(EVEN)), {}, ValueError, ["target", "masked"]),
    "masked target of a head": (LINEAR, (*HEAD, hidden(Y)), {}, ValueError, ["target", "masked"]),
    "masked weight": (BOTH, (X, Y), {"weight": hidden(np.ones(4))}, ValueError, ["weight", "masked"]),
    "masked segments": (["segment_softmax"], (X, hidden(Y)), {}, ValueError, ["segment_ids", "masked"]),
    "masked where": (MAPS, (X,), {"where": hidden(X == 0)}, ValueError, ["where", "masked"]),
    "masked temperature": (MAPS, (X,), {"temperature": hidden(X + 1)}, ValueError, ["temperature", "masked"]),
    "array as threads": (["set_num_threads"], (np.array([1, 2]),), {}, TypeError, ["n is", "(2,)"]),
    "array as bytes": (["set_kept_memory"], (np.array([1, 2]),), {}, TypeError, ["n is", "(2,)"]),
    **{
        f"{value!r} as a count": (COUNTS, (value,), {}, TypeError, ["n is", repr(value)])
        for value in (1.5, "2", None, True)
    },
}  # fmt: skip
SPREAD = [(function, name) for name, case in CASES.items() for function in case[0]]


@pytest.mark.parametrize(("function", "name"), SPREAD, ids=[f"{f}: {n}" for f, n in SPREAD])
def test_a_wrong_kind_is_refused_with_one_sentence(function, name):
    _, arguments, options, builtin, words = CASES[name]
    message = refusal_of(function, arguments, options, builtin)
    assert re.match(rf"{function}: ", message), message
    assert "\n" not in message
    assert message.endswith("."), message
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"


def test_masked_arguments_that_hide_nothing_are_taken():
    assert nx.cross_entropy(X, np.ma.array(Y)) == nx.cross_entropy(X, Y)
    assert np.array_equal(nx.softmax_vjp(EVEN, np.ma.array(X)), nx.softmax_vjp(EVEN, X))
    assert np.array_equal(nx.segment_softmax(X, np.ma.array(Y)), nx.segment_softmax(X, Y))


def test_whole_numbers_of_any_kind_are_taken():
    assert nx.top_k(X, np.array(2)).index.shape == (5, 2)
    assert np.array_equal(nx.softmax(X, axis=np.int8(0)), nx.softmax(X, axis=0))
    assert nx.cross_entropy(X, Y, ignore_index=np.int64(0)) == 0.0


def test_gumbel_softmax_of_one_row_takes_axis_none():
    row = np.arange(3.0)
    assert np.array_equal(nx.gumbel_softmax(row, axis=None, rng=0), nx.gumbel_softmax(row, rng=0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_that_is_forked_while_a_thread_takes_memory_computes():
    logits = np.zeros((SMALLEST // 16 + 1, 4), np.float32)  # as large as a result from the shelf
    nx.softmax(logits)
    taken, done = threading.Event(), threading.Event()

    def hold():
        with SHELF._taking:
            taken.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(60)
    child = os.fork()
    if child == 0:
        answer = threading.Thread(target=lambda: os._exit(0 if (nx.softmax(logits) == 0.25).all() else 1), daemon=True)
        answer.start()
        answer.join(40)
        os._exit(2)  # it hangs
    done.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
