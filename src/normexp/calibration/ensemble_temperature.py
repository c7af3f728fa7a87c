"""A mixture of the tempered, the given and the uniform probabilities."""

from typing import Final

import numpy as np
from scipy.optimize import nnls

from normexp.base.checks import check_number
from normexp.calibration.calibrator import Calibrator
from normexp.calibration.columns import normalise, true_log_prob
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.calibration.temperature import fit_temperature
from normexp.ops import log_softmax

MOST_STEPS: Final = 100  # half a dozen are enough
TOLERANCE: Final = 1e-11  # nats a row that a step can still gain


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
        log_prob = np.empty((3, rows.n_rows))
        for block, z in rows.column_blocks():
            log_prob[0, block] = true_log_prob(z / self.temperature_, rows.target[block])
        log_prob[1] = -rows.nll()
        log_prob[2] = -np.log(rows.n_classes)
        self.weight_ = _shares(log_prob, rows.weight, strength, rows.near_shares.get(strength))
        rows.near_shares[strength] = self.weight_

    def _map(self, z: Floats) -> Floats:
        tempered = np.asarray(log_softmax(z / self.temperature_))
        return self._mixed(tempered, np.asarray(log_softmax(z)), z.shape[1])

    def map_columns(self, z: Floats, /) -> Floats:
        """The same of rows that lie class by class."""
        return self._mixed(normalise(z / self.temperature_), normalise(z.copy()), len(z))

    def _mixed(self, tempered: Floats, given: Floats, n_classes: int) -> Floats:
        """Log-probabilities of the mixture, in the memory of the first; 0 stays 0."""
        impossible = np.isneginf(given)
        with np.errstate(divide="ignore"):
            log_weight = np.log(self.weight_)
        tempered += log_weight[0]
        if self.weight_[1] > 0.0:
            np.logaddexp(tempered, given + log_weight[1], out=tempered)
        if self.weight_[2] > 0.0:
            np.logaddexp(tempered, log_weight[2] - np.log(n_classes), out=tempered)
            tempered[impossible] = -np.inf
        return tempered


def _shares(log_prob: Floats, weight: Floats, strength: float, start: Floats | None = None) -> Floats:
    """Mixture weights of greatest likelihood: Newton steps, each a least-squares problem of shares not below 0.

    With the total weight as the price of each unit of share the best shares sum to 1 by themselves.
    """
    relative = np.exp(log_prob - log_prob.max(axis=0))
    share = np.array([0.8, 0.1, 0.1]) if start is None else start
    total = float(weight.sum()) + strength

    def price(share: Floats, likelihood: Floats) -> float:
        with np.errstate(divide="ignore"):
            logs = float(weight @ np.log(likelihood)) + strength * float(np.log(share[0]))
        return total * float(share.sum()) - logs

    now = price(share, likelihood := share @ relative)
    for _ in range(MOST_STEPS):
        ratio = relative / likelihood
        slope = total - ratio @ weight
        slope[0] -= strength / share[0]
        bend = (ratio * weight) @ ratio.T
        bend[0, 0] += strength / share[0] ** 2
        np.einsum("ii->i", bend)[:] += 1e-10 * total  # tempered and given are one where the temperature is 1
        lower = np.linalg.cholesky(bend)
        step = nnls(lower.T, np.linalg.solve(lower, bend @ share - slope))[0] - share
        promise = -float(slope @ step)
        if promise <= TOLERANCE * total:
            break
        length = 1.0
        while not (after := price(share + length * step, likelihood := (share + length * step) @ relative)) <= (
            now - 0.1 * length * promise
        ):
            length *= 0.5
            if length < 1e-8:
                return np.asarray(share / share.sum())
        share, now = share + length * step, after
    return np.asarray(share / share.sum())
