"""The promised errors of this backend over logits that hurt, and what a plainer statement of it would lose."""

import array_api_strict as xp
import numpy as np
import pytest

import normexp as nx
import oracle
from array_libraries import NARROW, plain, strict
from strategies import FAMILIES, family

pytestmark = pytest.mark.skipif(not oracle.LONG_IS_WIDE, reason="long double is a plain double on this platform")
# ULP by kind of result: float32 computed in float64, float64, and float32 where there is no float64 (docs/numerics.md)
PROMISED = {
    "float32": {"prob": 0.51, "log": 0.51, "grad": 0.51},
    "float64": {"prob": 4.0, "log": 4.0, "grad": 4.0},
    "narrow": {"prob": 6.0, "log": 6.0, "grad": 6.0},
}


def case(name, n_classes, dtype):
    """Logits, targets, and the truth about probabilities, logs, losses and gradients; the scale of the log-sums."""
    rows = np.arange(max(2, min(16, 8_000 // n_classes)))
    logits = family(name, len(rows), n_classes, np.dtype(dtype), seed=3)
    truth = oracle.long_state(logits)
    rng = np.random.default_rng(n_classes)
    lottery = np.where(np.isneginf(logits), -1.0, rng.random(logits.shape))
    target = np.where(rng.random(len(rows)) < 0.5, logits.argmax(axis=1), lottery.argmax(axis=1))
    grad = truth.prob.copy()
    grad[rows, target] = -truth.others[rows, target]
    scale = np.maximum(np.abs(truth.lse), np.abs(truth.top))
    return logits, target, truth, -truth.log_prob[rows, target], grad, scale


def worst(found, truth, **options):
    return float(oracle.long_ulp_errors(plain(found), truth, **options).max())


@pytest.mark.parametrize("n_classes", [1, 2, 3, 17, 100, 1_000, 20_000])
@pytest.mark.parametrize("kind", PROMISED)
def test_the_promised_errors(kind, n_classes):
    dtype = "float64" if kind == "float64" else "float32"
    bounds, device = PROMISED[kind], NARROW if kind == "narrow" else None
    for name in FAMILIES:
        logits, target, truth, true_loss, true_grad, scale = case(name, n_classes, dtype)
        given = strict(logits, device)
        loss, grad = nx.cross_entropy_with_grad(given, target, reduction="none")
        assert worst(nx.softmax(given), truth.prob) <= bounds["prob"], name
        assert worst(nx.log_softmax(given), truth.log_prob) <= bounds["log"], name
        assert worst(nx.logsumexp(given), truth.lse, scale=scale) <= bounds["log"], name
        assert worst(loss, true_loss) <= bounds["log"], name
        assert worst(grad, true_grad) <= bounds["grad"], name


@pytest.mark.parametrize("kind", PROMISED)
def test_the_bounds_reject_the_textbook_formulas(kind):
    """Softmax, its log, and p - 1 at the true class, as one writes them down."""
    dtype = "float64" if kind == "float64" else "float32"
    bounds, errors = PROMISED[kind], {"prob": 0.0, "log": 0.0, "grad": 0.0}
    for name in FAMILIES:
        logits, target, truth, _, true_grad, _ = case(name, 100, dtype)
        z = strict(logits, NARROW if kind == "narrow" else None)
        with np.errstate(all="ignore"):
            gap = z - xp.max(z, axis=-1, keepdims=True)
            prob = xp.exp(gap) / xp.sum(xp.exp(gap), axis=-1, keepdims=True)
            grad = plain(prob).copy()
            grad[np.arange(len(target)), target] -= 1
            errors["prob"] = max(errors["prob"], worst(prob, truth.prob))
            errors["log"] = max(errors["log"], worst(xp.log(prob), truth.log_prob))
        errors["grad"] = max(errors["grad"], float(oracle.long_ulp_errors(grad, true_grad).max()))
    for of, bound in bounds.items():
        assert errors[of] > 2 * bound, of


@pytest.mark.parametrize("kind", ["float64", "narrow"])
@pytest.mark.parametrize("temperature", [0.75, 3.0, 0.1])
def test_a_temperature_keeps_the_bound(kind, temperature, rng):
    dtype = "float64" if kind == "float64" else "float32"
    logits = (20 * rng.standard_normal((6, 20))).astype(dtype)
    heat = float(np.dtype(dtype).type(temperature))
    given = strict(logits, NARROW if kind == "narrow" else None)
    prob, log_prob = plain(nx.softmax(given, temperature=heat)), plain(nx.log_softmax(given, temperature=heat))
    for row, p, log_p in zip(logits, prob, log_prob, strict=True):
        assert oracle.worst_ulp(p, oracle.softmax(row, temperature=heat)) <= PROMISED[kind]["prob"]
        assert oracle.worst_ulp(log_p, oracle.log_softmax(row, temperature=heat)) <= PROMISED[kind]["log"]


@pytest.mark.parametrize("device", [None, NARROW], ids=["float64", "float32"])
def test_a_confident_gradient_is_never_falsely_zero(device):
    logits = np.float32([[40.0, 0.0, -3.0], [60.0, 1.0, 2.0]])
    grad = plain(nx.cross_entropy_with_grad(strict(logits, device), [0, 0], reduction="none").grad)
    assert (grad[:, 0] < 0.0).all()
    assert grad.sum(axis=1) == pytest.approx([0.0, 0.0], abs=1e-22)


def test_bits_depend_on_the_row_alone(rng):
    logits = rng.standard_normal((7, 33, 5))
    whole = plain(nx.softmax(strict(logits), axis=1))
    for i in range(7):
        for j in range(5):
            assert plain(nx.softmax(strict(logits[i, :, j]))).tobytes() == whole[i, :, j].tobytes()
