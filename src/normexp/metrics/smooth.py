r"""Smooth calibration error: the gap after smoothing at the scale of the gap itself.

For residuals :math:`r(t)` (confidence minus hit, as a density over the confidence t), let :math:`r_\sigma` be r
smoothed by a Gaussian of width sigma that is reflected at 0 and 1, and :math:`E(\sigma) = \int |r_\sigma(t)| dt`.
More smoothing cancels more, so E falls, and there is one sigma with :math:`E(\sigma) = \sigma`: the smooth
calibration error (Błasiok & Nakkiran, 2024, "Smooth ECE").

Reflected Gaussian smoothing is the heat equation with insulated ends. On the mid-points of a regular grid its
eigenvectors are those of the cosine transform (DCT-II), with eigenvalues :math:`\exp(-(\pi k \sigma)^2 / 2)`, so a
smoothing costs two fast transforms and no kernel is ever cut off.
"""

import numpy as np
from scipy.fft import dct, idct

from normexp.metrics.sums import Floats

GRID = 2048  # cells of width 0.0005: far below any calibration error that matters
HALVINGS = 24  # 2^-24 = 6e-8
CHUNK = 64  # resamples smoothed at once: 1 MiB of grid, which stays in cache


def smooth_error(residual: Floats) -> Floats:
    """Smooth calibration error (B,) of residuals (B, GRID), each row holding the mean residual in each cell."""
    return np.concatenate([_solve(residual[b : b + CHUNK]) for b in range(0, len(residual), CHUNK)])


def _solve(residual: Floats) -> Floats:
    """Bisection for the width that equals the error it leaves."""
    spectrum = dct(residual, type=2, norm="ortho", axis=1)
    frequency = np.pi * np.arange(residual.shape[1])
    low = np.zeros(len(residual))
    high = np.abs(residual).sum(axis=1)  # the error without smoothing, which no smoothing exceeds
    for _ in range(HALVINGS):
        width = 0.5 * (low + high)
        smoothed = idct(spectrum * np.exp(-0.5 * (width[:, None] * frequency) ** 2), type=2, norm="ortho", axis=1)
        above = np.abs(smoothed).sum(axis=1) > width
        low, high = np.where(above, width, low), np.where(above, high, width)
    return np.asarray(0.5 * (low + high))
