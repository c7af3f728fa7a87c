"""Many classes: the same optimum in fewer and cheaper steps, and no array of the logits' size where K is huge."""

import tracemalloc

import numpy as np
import pytest
from scipy.optimize import minimize

from normexp import calibration as cal
from normexp.base.errors import NormexpWarning
from normexp.calibration.affine import AffineMap, fit_affine
from normexp.calibration.rows import read_calibration_rows
from normexp.ops import cross_entropy_with_grad, log_softmax


def biased(n, k, seed=0):
    rng = np.random.default_rng(seed)
    z = 2.5 * rng.normal(size=(n, k))
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return np.asarray(log_softmax(1.5 * z + 0.5 * rng.normal(size=k))), y


def objective(affine, u, y, weight, ridge, ridge_off):
    """The penalised loss in float64, written down anew."""
    loss, _ = cross_entropy_with_grad(affine.apply(u), y, reduction="none")
    matrix = np.zeros(0) if affine.matrix is None else affine.matrix
    size = ridge * ((affine.bias**2).sum() + ((affine.scale - 1) ** 2).sum()) + ridge_off * (matrix**2).sum()
    return float(weight @ loss) + 0.5 * size


def reference(u, y, weight, ridge, ridge_off):
    """The optimum by plain L-BFGS in float64, nearly to the last digit."""
    n, k = u.shape
    x = np.c_[np.ones(n), u]
    penalty = np.where(np.eye(k + 1, k, -1, dtype=bool), ridge, ridge_off)
    penalty[0] = ridge

    def value(theta):
        b = theta.reshape(k + 1, k)
        loss, grad = cross_entropy_with_grad(u + x @ b, y, reduction="none")
        return weight @ loss + 0.5 * (penalty * b * b).sum(), (x.T @ (weight[:, None] * grad) + penalty * b).ravel()

    done = minimize(value, np.zeros((k + 1) * k), jac=True, method="L-BFGS-B",
                    options={"maxiter": 4000, "maxfun": 8000, "gtol": 1e-6, "ftol": 1e-14, "maxcor": 30})  # fmt: skip
    return done.fun


@pytest.mark.parametrize("strength", [4.0, 0.0625])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_optimum_is_that_of_plain_steps_in_float64(strength, weighted):
    u, y = biased(400, 22)
    weight = np.random.default_rng(1).uniform(0.2, 2.0, 400) if weighted else np.ones(400)
    ridge = 2.0 * strength * 22
    found = fit_affine(np.vstack([np.ones(400), u.T]), y, weight, ridge=ridge, ridge_off=ridge * 21)
    least = reference(u, y, weight, ridge, ridge * 21)
    assert objective(found, u, y, weight, ridge, ridge * 21) - least <= 400 * 2e-6  # a gain is told to 1e-4 of a row
    plain = AffineMap(np.zeros(22), np.ones(22), np.zeros((22, 22)))
    assert objective(plain, u, y, weight, ridge, ridge * 21) - least > 400 * 1e-3  # the bound can fail


def peak_bytes(work):
    """The most that NumPy held at once beyond what was there."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_hundred_thousand_classes_are_never_held_twice():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(240, 100_000)).astype(np.float32)
    logits[:, :20] += 12.0
    y = rng.integers(0, 20, 240)
    dense_bytes = 8 * logits.size  # one array of float64: 192 MB
    with pytest.warns(NormexpWarning, match="classes"):
        rows = read_calibration_rows(logits, y, of="test")
    taken = peak_bytes(lambda: cal.AutoCalibrator(cv=2).fit_rows(rows))
    assert taken < 0.9 * dense_bytes
    assert peak_bytes(lambda: log_softmax(rows.dense())) > 0.9 * dense_bytes  # the bound can fail
