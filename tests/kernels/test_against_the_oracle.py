"""Every row kernel against 60 digits, in this process: compiled, or as NUMBA_DISABLE_JIT and NUMBA_BOUNDSCHECK say.

``make nojit`` and ``make bounds`` run this file so; ``test_in_other_processes.py`` does it with a part of it.
Warnings are errors here: a kernel stays silent on infinities and NaN, compiled or not.
"""

import numpy as np
import pytest

import normexp as nx
import oracle
from normexp.kernels.cpu import chunks, cross_entropy, narrow, softmax, wide
from oracle import assert_within, exact

SIZES = [1, 2, 7, 23, 130]  # the last is too wide for the kernels of few classes
INF = np.inf
floats = pytest.mark.parametrize("dtype", [np.float32, np.float64])
sizes = pytest.mark.parametrize("n_classes", SIZES)


def rows_of(n_classes, dtype):
    """Four rows: ordinary, with -inf, one class far ahead, all equal."""
    logits = 9 * np.random.default_rng(n_classes).standard_normal((4, n_classes))
    logits[1, 1:-1:3] = -INF
    logits[2, n_classes // 2] += 60
    logits[3] = -3.25
    return logits.astype(dtype)


EDGES = [
    [np.nan, 1.0, -INF],
    [-INF, -INF, -INF],
    [-INF, np.nan, -INF],
    [INF, 0.0, -INF],
    [INF, INF, np.nan],
    [0.0, -800.0, -1e38],
    [1e38, -1e38, 1e38],
]


@floats
@sizes
def test_probabilities_and_log_sums(n_classes, dtype):
    logits = rows_of(n_classes, dtype)
    prob, log_prob, lse = nx.softmax(logits), nx.log_softmax(logits), nx.logsumexp(logits)
    tempered = nx.softmax(logits, temperature=4.0)
    for i, row in enumerate(logits):
        truth = oracle.state(row)
        assert_within(prob[i], truth.prob, "prob")
        assert_within(log_prob[i], truth.log_prob, "log")
        assert_within(lse[i], truth.lse, "log", scale=row.max())
        assert_within(tempered[i], oracle.softmax(row, temperature=4), "prob")


@floats
def test_the_kernels_of_many_classes(dtype):
    """Three chunks, the last one short; each kernel called as the backend calls it."""
    n = 2 * chunks.CHUNK + 5
    row = rows_of(n, dtype)[1]
    double = row.dtype.itemsize == 8
    prob, log_prob, lse = np.empty((1, n), dtype), np.empty((1, n), dtype), np.empty(1, dtype)
    wide.softmax_wide(row[None], np.ones(1), double, False, prob)
    wide.softmax_wide(row[None], np.ones(1), double, True, log_prob)
    wide.logsumexp_wide(row[None], double, lse)
    truth = oracle.state(row)
    assert_within(prob[0], truth.prob, "prob")
    assert_within(log_prob[0], truth.log_prob, "log")
    assert_within(lse, [truth.lse], "log")
    states, state = np.empty((3, 3)), np.empty(4)
    wide.states_of_piece(row, double, states)
    wide.merge_states(states, state)
    shared = np.empty(n, dtype)
    wide.softmax_of_piece(row[7:100], state, double, False, shared[7:100])
    assert shared[7:100].tobytes() == prob[0, 7:100].tobytes()


@floats
@sizes
def test_losses_and_gradients(n_classes, dtype):
    logits = rows_of(n_classes, dtype)
    target = [int(row.argmax()) for row in logits[:2]] + [0, n_classes - 1]
    for options in ({}, {"label_smoothing": 0.1, "z_loss": 1e-3}, {"focal_gamma": 2.0}):
        loss, grad = nx.cross_entropy_with_grad(logits, target, reduction="none", **options)
        for i, row in enumerate(logits):
            truth = oracle.cross_entropy_row(row, target[i], **options)
            assert_within(loss[i], truth.loss, "log", extra=2 if options else 0)
            if not options:
                assert_within(grad[i], truth.grad, "grad")
            else:
                size = max(abs(float(g)) for g in truth.grad)
                room = 16 * float(np.finfo(dtype).eps) * size
                assert np.abs(grad[i] - np.array(truth.grad, float)).max() <= room


@floats
def test_proportions(dtype):
    logits = rows_of(7, dtype)
    logits[1] = np.where(np.isneginf(logits[1]), -4, logits[1])
    share = np.random.default_rng(0).dirichlet(np.ones(7), 4)
    loss, grad = nx.cross_entropy_with_grad(logits, share, reduction="none")
    for i, row in enumerate(logits):
        truth = oracle.cross_entropy_row(row, share[i] / share[i].sum())
        assert loss[i] == pytest.approx(float(truth.loss), rel=16 * float(np.finfo(dtype).eps))
        assert np.abs(grad[i] - np.array(truth.grad, float)).max() <= 16 * float(np.finfo(dtype).eps)


@floats
@sizes
def test_doubt_and_the_likeliest_classes(n_classes, dtype):
    logits = rows_of(n_classes, dtype)
    k = min(3, n_classes)
    best, entropy = nx.top_k(logits, k), nx.entropy(logits)
    margin, largest, spread = nx.margin(logits), nx.max_logit(logits), nx.generalised_entropy(logits)
    for i, row in enumerate(logits):
        truth = oracle.state(row)
        order = sorted(range(n_classes), key=lambda c: (-row[c], c))[:k]
        assert best.index[i].tolist() == order
        assert_within(best.prob[i], [truth.prob[c] for c in order], "prob")
        assert_within(best.log_prob[i], [truth.log_prob[c] for c in order], "log")
        terms = [p * lp for p, lp in zip(truth.prob, truth.log_prob, strict=True) if p > 0]
        assert oracle.ulp_error(entropy[i], -oracle.MP.fsum(terms), dtype) <= 5
        ordered = np.sort(row)[::-1]
        assert largest[i] == ordered[0]
        assert margin[i] == (ordered[0] - ordered[1] if n_classes > 1 else INF)
        powers = sorted((p * q for p, q in zip(truth.prob, truth.others, strict=True)), reverse=True)[:100]
        sum_of_powers = oracle.MP.fsum([v ** exact(0.1) for v in powers if v > 0])
        assert float(spread[i]) == pytest.approx(float(sum_of_powers), rel=1e-6 if dtype == np.float32 else 1e-12)


@floats
def test_sparse_maps_and_derivatives(dtype):
    logits = rows_of(23, dtype)
    room = 8 * float(np.finfo(dtype).eps)
    for i, row in enumerate(nx.sparsemax(logits[[0, 2]])):
        z = np.sort(logits[[0, 2]][i].astype(float))[::-1]
        k = max(j for j in range(1, 24) if 1 + j * z[j - 1] > z[:j].sum())
        truth = np.maximum(logits[[0, 2]][i] - (z[:k].sum() - 1) / k, 0)
        assert np.abs(row - truth).max() <= room * max(1, np.abs(z).max())
    assert nx.entmax(logits[[0, 2]], alpha=1.5).sum(axis=1) == pytest.approx([1, 1], abs=1e-6)
    prob, g = nx.softmax(logits[[0, 3]]), np.linspace(-1, 1, 46, dtype=dtype).reshape(2, 23)
    jacobian = nx.softmax_jacobian(prob)
    assert nx.softmax_vjp(prob, g) == pytest.approx(np.einsum("nij,nj->ni", jacobian, g), abs=room)


@floats
def test_segments_and_columns(dtype):
    logits = rows_of(23, dtype)
    ids = np.arange(23) % 3
    prob = nx.segment_softmax(logits[0], ids)
    for part in range(3):
        assert_within(prob[ids == part], oracle.softmax(logits[0][ids == part]), "prob")
    assert np.ascontiguousarray(nx.softmax(np.ascontiguousarray(logits.T), axis=0).T).tobytes() == (
        nx.softmax(logits).tobytes()
    )


@floats
def test_the_linear_head(dtype):
    rng = np.random.default_rng(4)
    x, projection = rng.standard_normal((5, 3)).astype(dtype), rng.standard_normal((11, 3)).astype(dtype)
    found = nx.linear_cross_entropy_with_grad(x, projection, [0, 3, 10, 2, 2], softcap=5.0)
    raw = x.astype(float) @ projection.astype(float).T
    truth = nx.cross_entropy_with_grad(5 * np.tanh(raw / 5), [0, 3, 10, 2, 2])
    slope = truth.grad * (1 - np.tanh(raw / 5) ** 2)
    room = 64 * float(np.finfo(dtype).eps)
    assert float(found.loss) == pytest.approx(float(truth.loss), rel=room)
    assert found.grad_x == pytest.approx(slope @ projection, abs=room)
    assert found.grad_projection == pytest.approx(slope.T @ x, abs=room)


@floats
@pytest.mark.parametrize("padding", [0, 140])
def test_infinities_and_nan_are_silent_and_right(dtype, padding):
    """With and without classes beside, so that both kinds of kernel meet them."""
    logits = np.full((len(EDGES), 3 + padding), -INF, dtype)
    logits[:, :3] = EDGES
    prob, log_prob, lse = nx.softmax(logits), nx.log_softmax(logits), nx.logsumexp(logits)
    assert np.isnan(prob[:5]).all()
    assert np.isnan(log_prob[:5]).all()
    assert prob[5, :3].tolist() == [1, 0, 0]
    assert prob[6, :3].tolist() == [0.5, 0, 0.5]
    assert np.array_equal(lse[:5], [np.nan, -INF, np.nan, INF, np.nan], equal_nan=True)
    assert lse[5] == 0
    loss, grad = nx.cross_entropy_with_grad(logits, np.zeros(len(EDGES), int), reduction="none")
    assert np.isnan(loss[:5]).all()
    assert not grad[1].any()
    assert np.isnan(grad[[0, 2, 3, 4]]).all()
    assert np.isnan(nx.entropy(logits)[:5]).all()
    assert np.isnan(nx.top_k(logits, 2).prob[:5]).all()
    assert np.isnan(nx.softmax(logits, temperature=2.0)[:5]).all()
    state, out = np.empty((1, 3)), np.empty((1, 3 + padding), dtype)
    wide.states_of_piece(logits[3], dtype == np.float64, state)
    assert state[0, 0] == INF
    wide.softmax_wide(logits[5:6], np.ones(1), dtype == np.float64, False, out)
    assert out[0, :3].tolist() == [1, 0, 0]


@floats
def test_the_kernels_of_few_and_of_more_classes_agree(dtype):
    logits, double = rows_of(23, dtype), dtype == np.float64
    few, more = np.empty_like(logits), np.empty_like(logits)
    narrow.softmax_narrow(logits, double, few)
    softmax.softmax_rows(logits, np.ones(1), double, more)
    assert few == pytest.approx(more, rel=4 * float(np.finfo(dtype).eps))
    losses, others, none = np.empty(4), np.empty(4), np.empty((0, 0), dtype)
    target, weight = np.array([0, -1, 3, 22]), np.ones(4)
    narrow.index_narrow(logits, target, weight, 0.0, double, 1.0, losses, none)
    cross_entropy.index_rows(logits, target, weight, 0.0, 0.0, 0.0, double, 1.0, others, none)
    assert losses == pytest.approx(others, rel=4 * float(np.finfo(dtype).eps))
    assert losses[1] == others[1] == 0
    assert cross_entropy.exact_sum(np.array([1e16, 1.0, -1e16])) == 1.0
