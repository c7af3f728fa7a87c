"""A mixture of the tempered, the given and the uniform probabilities."""

from typing import Final

import numpy as np
from scipy.optimize import nnls

from normexp.base.checks import check_number
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.calibration.temperature import fit_temperature
from normexp.ops import cross_entropy, log_softmax

MOST_STEPS: Final = 100  # half a dozen are enough
TOLERANCE: Final = 1e-12  # nats a row that a step can still gain


class EnsembleTemperatureScaling(Calibrator):
    r"""Mixture of three: the probabilities at one temperature, those given, and uniform ones.

    Parameters
    ----------
    shrinkage : float, default 1.0
        Strength of the priors: on the temperature as in `TemperatureScaling`, and that many rows that speak for the
        first of the three.

    Attributes
    ----------
    temperature_ : float
    weight_ : ndarray, shape (3,)
        Shares of tempered, given and uniform probabilities; they sum to 1.

    Notes
    -----
    The shares maximise the likelihood at the fitted temperature, found by sequential quadratic programming. Never
    changes a decision. What comes out are log-probabilities.

    References
    ----------
    Zhang, Kailkhura & Han (2020), "Mix-n-Match", ICML, eq. 8. Kim, Carbonetto, Stephens & Anitescu (2020), "A fast
    algorithm for maximum likelihood estimation of mixture proportions", JCGS 29, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.calibration import EnsembleTemperatureScaling
    >>> logits = np.array([[6.0, 0.0]] * 50 + [[2.0, 0.0]] * 50)
    >>> y = np.array([0] * 45 + [1] * 5 + [0] * 44 + [1] * 6)
    >>> model = EnsembleTemperatureScaling().fit(logits, y)
    >>> float(model.weight_.sum().round(6))
    1.0
    """

    def __init__(self, *, shrinkage: float = 1.0) -> None:
        self.shrinkage = shrinkage

    def _fit(self, rows: CalibrationRows) -> None:
        strength = check_number(self.shrinkage, of="EnsembleTemperatureScaling", name="shrinkage", low=1e-9)
        self.temperature_, _ = fit_temperature(rows, strength)
        log_prob = np.empty((rows.n_rows, 3))
        for block, z in rows.blocks():
            target = rows.target[block]
            log_prob[block, 0] = -cross_entropy(z / self.temperature_, target, reduction="none")
            log_prob[block, 1] = -cross_entropy(z, target, reduction="none")
            log_prob[block, 2] = -np.log(rows.n_classes)
        self.weight_ = _shares(log_prob, rows.weight, strength)

    def _map(self, z: Floats) -> Floats:
        tempered = np.asarray(log_softmax(z, temperature=self.temperature_))
        given = np.asarray(log_softmax(z))
        with np.errstate(divide="ignore"):
            log_weight = np.log(self.weight_)
        out = np.logaddexp(tempered + log_weight[0], given + log_weight[1])
        out = np.logaddexp(out, log_weight[2] - np.log(z.shape[1]))
        out[np.isneginf(z)] = -np.inf
        return np.asarray(out)


def _shares(log_prob: Floats, weight: Floats, strength: float) -> Floats:
    """Mixture weights of greatest likelihood: Newton steps, each a least-squares problem of shares not below 0.

    With the total weight as the price of each unit of share the best shares sum to 1 by themselves.
    """
    relative = np.exp(log_prob - log_prob.max(axis=1, keepdims=True))
    share = np.array([0.8, 0.1, 0.1])
    total = float(weight.sum()) + strength

    def price(share: Floats) -> float:
        with np.errstate(divide="ignore"):
            likelihood = float(weight @ np.log(relative @ share)) + strength * float(np.log(share[0]))
        return total * float(share.sum()) - likelihood

    now = price(share)
    for _ in range(MOST_STEPS):
        ratio = relative / (relative @ share)[:, None]
        slope = total - weight @ ratio
        slope[0] -= strength / share[0]
        bend = (ratio * weight[:, None]).T @ ratio
        bend[0, 0] += strength / share[0] ** 2
        np.einsum("ii->i", bend)[:] += 1e-10 * total  # tempered and given are one where the temperature is 1
        lower = np.linalg.cholesky(bend)
        step = nnls(lower.T, np.linalg.solve(lower, bend @ share - slope))[0] - share
        promise = -float(slope @ step)
        if promise <= TOLERANCE * total:
            break
        length = 1.0
        while not (after := price(share + length * step)) <= now - 0.1 * length * promise:
            length *= 0.5
            if length < 1e-8:
                return np.asarray(share / share.sum())
        share, now = share + length * step, after
    return np.asarray(share / share.sum())
