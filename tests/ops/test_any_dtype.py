"""Rows of every dtype, NaN and infinities of both signs among them, against 60 digits: found by Hypothesis."""

import numpy as np
from hypothesis import find, given, settings
from hypothesis import strategies as st

import normexp as nx
import oracle
from oracle import NAN, PROMISED, assert_within
from strategies import ALL_DTYPES, INTEGRAL, special_batches

FLOAT32 = np.dtype(np.float32)


def exactly(row):
    """Every number of the row as it is: 64-bit integers too."""
    return [int(v) if row.dtype.kind in "iub" else float(v) for v in row]


@given(logits=special_batches())
@settings(max_examples=200)
def test_any_row_of_any_dtype_keeps_its_bounds(logits):
    prob, log_prob, lse = nx.softmax(logits), nx.log_softmax(logits), nx.logsumexp(logits)
    loss = nx.cross_entropy(logits, np.zeros(len(logits), np.int64), reduction="none")
    assert lse.dtype == loss.dtype == (np.float64 if prob.dtype == np.float64 else FLOAT32)
    for i, row in enumerate(logits):
        values = exactly(row)
        truth, top = oracle.state(values), max(values)
        if top == -np.inf:  # nothing is possible: not nothing because all is masked, which is 0
            truth = truth._replace(prob=[NAN] * row.size, log_prob=[NAN] * row.size)
        assert_within(prob[i], truth.prob, "prob")
        assert_within(log_prob[i], truth.log_prob, "log")
        assert_within(lse[i], truth.lse, "log", scale=top if np.isfinite(float(top)) else 0)
        assert_within(loss[i], -truth.log_prob[0], "log")


@given(logits=special_batches(), data=st.data())
@settings(max_examples=60)
def test_what_is_hidden_never_matters_in_any_dtype(logits, data):
    """Two batches that differ only where nobody may look have the same bits."""
    shown = np.array([[data.draw(st.booleans()) for _ in row] for row in logits])
    other = np.where(shown, logits, np.zeros(1, logits.dtype))
    for op in (nx.softmax, nx.log_softmax, nx.logsumexp):
        assert op(logits, where=shown).tobytes() == op(other, where=shown).tobytes()


def test_the_strategy_draws_every_dtype_and_every_special_value():
    easy = settings(max_examples=3_000)
    kinds = {"NaN": np.isnan, "inf": np.isposinf, "-inf": np.isneginf}
    for dtype in ALL_DTYPES:
        assert find(special_batches(), lambda x, d=dtype: x.dtype == d, settings=easy).dtype == dtype
    for name, is_so in kinds.items():
        assert find(special_batches(), lambda x, t=is_so: t(x.astype(float)).any(), settings=easy).size, name
    assert set(PROMISED["prob"]) == set(ALL_DTYPES) - set(INTEGRAL)
