"""What a softmax regression needs of its scores: residuals p - y, loss, entropy, and products with diag(p) - p p'.

All functions take C-contiguous rows, work in place where they say so, and check nothing.
"""

import numpy as np
from numba import njit

from normexp.kernels.cpu.compiled import kernel
from normexp.kernels.cpu.exponential import exp_double
from normexp.kernels.cpu.flags import FUSED
from normexp.kernels.cpu.unrolled import row_dot, row_sum, row_top

# Numbers of a tile of rows, whose exponentials are taken in one loop: SIMD also for few classes.
_TILE = 1024


@njit(fastmath=FUSED, nogil=True)
def _exponentials(shifted, count, out):
    """Fill out with exp of the first so many numbers, none above 0."""
    for k in range(count):
        out[k] = exp_double(shifted[k], 0.0)


@kernel(FUSED)
def residual_rows(scores, target, weight, prob):
    """Replace scores by weight * (p - y), store p, and return the weighted sums of loss and entropy.

    scores (n, K) float64, overwritten; target (n,) intp; weight (n,) float64; prob (n, K), filled.
    """
    rows, classes = scores.shape
    size = max(1, _TILE // classes)
    shifted, mass = np.empty(size * classes), np.empty(size * classes)
    loss, entropy = 0.0, 0.0
    for start in range(0, rows, size):
        stop = min(start + size, rows)
        for i in range(start, stop):
            first = (i - start) * classes
            top = row_top(scores[i])
            for k in range(classes):
                shifted[first + k] = scores[i, k] - top
        _exponentials(shifted, (stop - start) * classes, mass)
        for i in range(start, stop):
            first = (i - start) * classes
            y = target[i]
            e, s = mass[first : first + classes], shifted[first : first + classes]
            own = e[y]
            e[y] = 0.0
            others = row_sum(e)
            first_moment = row_dot(e, s) + own * s[y]
            e[y] = own
            total = others + own
            # Where the label is the likeliest, its exponential is 1 and the rest is added to it by log1p alone: a loss of
            # 1e-20 has all its digits.
            log_total = np.log1p(others) if s[y] == 0.0 else np.log(total)
            w = weight[i]
            loss += w * (log_total - s[y])
            entropy += w * (log_total - first_moment / total)
            inverse = 1.0 / total
            for k in range(classes):
                p = e[k] * inverse
                prob[i, k] = p
                scores[i, k] = w * p
            scores[i, y] = -w * (others * inverse)  # p_y - 1 as minus the others: no cancellation when p_y is near 1
    return loss, entropy


@kernel(FUSED)
def residual_binary(scores, target, weight, prob):
    """The same for two classes with one score, that of class 1 against class 0; scores and prob are (n, 1)."""
    loss, entropy = 0.0, 0.0
    for i in range(scores.shape[0]):
        z = scores[i, 0]
        small = np.exp(-abs(z))  # never overflows
        tail = small / (1.0 + small)  # probability of the less likely class
        log_total = np.log1p(small)
        p = 1.0 - tail if z > 0.0 else tail
        w = weight[i]
        against = (z > 0.0) != (target[i] == 1)  # the likelier class is not the true one
        loss += w * (log_total + (abs(z) if against else 0.0))
        entropy += w * (log_total + tail * abs(z))
        prob[i, 0] = p
        if target[i] == 1:
            scores[i, 0] = -w * (tail if z > 0.0 else 1.0 - tail)
        else:
            scores[i, 0] = w * p
    return loss, entropy


@kernel(FUSED)
def curvature_rows(tangent, prob, target, weight, damping):
    """Replace each row t of tangent by weight * (q * t - q (q . t)); tangent and prob are (n, K).

    q = (1 - a) p + a y with a = damping (1 - p_y) / 2: the probabilities themselves when damping is 0.
    """
    rows, classes = tangent.shape
    for i in range(rows):
        y = target[i]
        a = 0.5 * damping * (1.0 - prob[i, y])
        own = tangent[i, y]
        for k in range(classes):  # seen from the label's: no digits are lost where p_y is near 1
            tangent[i, k] -= own
        mean = (1.0 - a) * row_dot(prob[i], tangent[i])
        w = weight[i]
        extra = -w * a * mean
        rest = w * (1.0 - a)
        for k in range(classes):
            tangent[i, k] = rest * prob[i, k] * (tangent[i, k] - mean)
        tangent[i, y] += extra


@kernel(FUSED)
def curvature_binary(tangent, prob, target, weight, damping):
    """Replace tangent (n, 1) by weight * q (1 - q) * tangent, q as for many classes."""
    for i in range(tangent.shape[0]):
        p = prob[i, 0]
        y = 1.0 if target[i] == 1 else 0.0
        a = 0.5 * damping * abs(y - p)
        q = (1.0 - a) * p + a * y
        tangent[i, 0] *= weight[i] * q * (1.0 - q)


@kernel(FUSED)
def spread_rows(table, prob, weight, constant, out):
    """Fill out (n, (D + 1) S) with the products of row and probabilities whose squares sum to the Hessian.

    Feature by feature, and for the constant column in the end: x_j p_k sqrt(weight), or for one score
    x_j sqrt(weight p (1 - p)). table (n, D), prob (n, S).
    """
    rows, features = table.shape
    classes = prob.shape[1]
    for i in range(rows):
        root = np.sqrt(weight[i])
        if classes == 1:
            root *= np.sqrt(prob[i, 0] * (1.0 - prob[i, 0]))
            for j in range(features):
                out[i, j] = root * table[i, j]
            out[i, features] = root * constant
            continue
        for j in range(features):
            x = root * table[i, j]
            for k in range(classes):
                out[i, j * classes + k] = x * prob[i, k]
        for k in range(classes):
            out[i, features * classes + k] = root * constant * prob[i, k]


@kernel(FUSED)
def losses_along(scores, tangent, target, weight, lengths, out):
    """Add to out[m] the weighted loss at scores + lengths[m] * tangent; scores, tangent (n, K), lengths (M,)."""
    rows, classes = scores.shape
    size = max(1, _TILE // classes)
    shifted, mass = np.empty(size * classes), np.empty(size * classes)
    for start in range(0, rows, size):
        stop = min(start + size, rows)
        for m in range(lengths.shape[0]):
            t = lengths[m]
            for i in range(start, stop):
                s = shifted[(i - start) * classes : (i - start + 1) * classes]
                for k in range(classes):
                    s[k] = scores[i, k] + t * tangent[i, k]
                top = row_top(s)
                for k in range(classes):
                    s[k] -= top
            _exponentials(shifted, (stop - start) * classes, mass)
            for i in range(start, stop):
                first = (i - start) * classes
                own = shifted[first + target[i]]
                if own == 0.0:  # as in residual_rows
                    mass[first + target[i]] = 0.0
                    out[m] += weight[i] * np.log1p(row_sum(mass[first : first + classes]))
                else:
                    out[m] += weight[i] * (np.log(row_sum(mass[first : first + classes])) - own)


@kernel(FUSED)
def losses_along_binary(scores, tangent, target, weight, lengths, out):
    """The same for two classes with one score; scores and tangent are (n, 1)."""
    for i in range(scores.shape[0]):
        for m in range(lengths.shape[0]):
            z = scores[i, 0] + lengths[m] * tangent[i, 0]
            margin = z if target[i] == 1 else -z
            loss = np.log1p(np.exp(-abs(margin))) + (-margin if margin < 0.0 else 0.0)
            out[m] += weight[i] * loss
