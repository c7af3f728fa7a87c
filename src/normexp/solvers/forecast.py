"""Where the next fit of a path begins: told from the fits before it, and from the same paths of other folds.

W_m is the optimum at the m-th penalty of this path, d_m = W_m - W_(m-1) the step that led there, V_m the mean optimum
of the folds that are through, e_m = V_m - V_(m-1). With other folds the path goes on as theirs did, and what sets it
apart from them goes on growing, or fading, at their own rate:

    W_(m+1) ~ W_m + e_(m+1) + r (d_m - e_m),      r = <e_(m+1), e_m> / <e_m, e_m>.

The first one follows its own rate, per unit h of the penalty's logarithm:

    W_(m+1) ~ W_m + h_(m+1) r d_m / h_m,          r = <d_m / h_m, d_(m-1) / h_(m-1)> / <d_(m-1) / h_(m-1), same>.

Both are a second-order guess: without the rate (r = 0) it is the usual warm start, moved by what others moved. It
saves passes and changes no optimum; the solver compares it with the optimum before and takes the better one.
"""

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# Rates beyond are noise: an increment does not more than double from one penalty to the next where it matters.
_FASTEST = 2.0
# Optima of other folds are remembered up to so many numbers a path, 128 MB.
_MOST_NUMBERS = 1 << 24


class Forecast:
    """Optima of the present path and their mean over the paths that are through, on the table's own scale.

    Parameters
    ----------
    log_strengths : ndarray (M,)
        Logarithms of the strengths of the penalty along each path, all different.
    """

    def __init__(self, log_strengths: F64) -> None:
        self._logs = log_strengths
        self._own: list[F64] = []  # the last ones of this path
        self._reached = 0
        self._sums: list[F64] = []
        self._n_paths = 0
        self._scale: F64 = np.ones(1)

    def begin(self, scale: F64) -> None:
        """Begin a path; scale (U,): what the rows of an optimum are multiplied by to compare their moves."""
        self._own, self._reached, self._scale = [], 0, scale[:, None]

    def start(self) -> F64 | None:
        """Return where to begin at the next penalty, (U, S); None where nothing is known."""
        m = self._reached
        if m == 0:
            return self.mean(0) if self.knows_others else None
        here = self._own[-1]
        if self.knows_others:
            step = self.mean(m) - self.mean(m - 1)
            if m == 1:
                return np.asarray(here + step)
            before = self.mean(m - 1) - self.mean(m - 2)
            return np.asarray(here + step + self._rate(step, before) * (here - self._own[-2] - before))
        if m == 1:
            return here
        width = np.diff(self._logs[: m + 1])
        last = (here - self._own[-2]) / width[-2]
        rate = 1.0 if m == 2 else self._rate(last, (self._own[-2] - self._own[-3]) / width[-3])
        return np.asarray(here + width[-1] * rate * last)

    def reached(self, optimum: F64) -> None:
        """Take in the optimum at this penalty, (U, S)."""
        self._own.append(optimum)
        self._reached += 1
        if len(self._own) > 3:
            self._share(self._reached - 4, self._own.pop(0))

    def finish(self) -> None:
        """The path is through: from now on others are told from it too."""
        for m, optimum in enumerate(self._own, self._reached - len(self._own)):
            self._share(m, optimum)
        self._own, self._reached, self._n_paths = [], 0, self._n_paths + (len(self._sums) > 0)

    @property
    def knows_others(self) -> bool:
        """Whether a path is through, and was small enough to be remembered."""
        return self._n_paths > 0

    def mean(self, m: int) -> F64:
        """Mean optimum at the m-th penalty over the paths that are through."""
        return np.asarray(self._sums[m] / self._n_paths)

    def _share(self, m: int, optimum: F64) -> None:
        if optimum.size * len(self._logs) > _MOST_NUMBERS:
            return
        if m < len(self._sums):
            self._sums[m] += optimum
        else:
            self._sums.append(optimum.copy())

    def _rate(self, step: F64, before: F64) -> float:
        """How many times as far, along the move before, this one goes."""
        step, before = self._scale * step, self._scale * before
        square = float(np.vdot(before, before))
        return float(np.clip(np.vdot(step, before) / square, 0.0, _FASTEST)) if square > 0 else 0.0
