"""Bootstrap intervals: how far a metric could lie from its value had other rows been drawn."""

import inspect
from collections.abc import Callable, Container, Hashable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from normexp.base.errors import DtypeError, ShapeError
from normexp.base.plain_arrays import plain_array
from normexp.metrics.accuracy import (
    accuracy,
    accuracy_form,
    balanced_accuracy,
    balanced_accuracy_form,
    top_k_accuracy,
    top_k_form,
)
from normexp.metrics.brier import brier, brier_form
from normexp.metrics.detection import auroc, fpr_at_tpr
from normexp.metrics.door import Rows, read_count, read_generator, read_level, read_rows, read_weight
from normexp.metrics.ece import ece, ece_form, overconfidence, overconfidence_form
from normexp.metrics.log_loss import log_loss, log_loss_form
from normexp.metrics.sums import Floats, GroupedSums, resampled

Metric = Callable[..., float]

# Metrics that are functions of grouped sums: these are resampled without computing any probability again.
FORMS: Mapping[Any, Callable[..., GroupedSums]] = MappingProxyType(
    {
        accuracy: accuracy_form,
        balanced_accuracy: balanced_accuracy_form,
        top_k_accuracy: top_k_form,
        log_loss: log_loss_form,
        brier: brier_form,
        ece: ece_form,
        overconfidence: overconfidence_form,
    }
)

TWO_KINDS: frozenset[Any] = frozenset({auroc, fpr_at_tpr})  # these need a positive and a negative row


class Interval(NamedTuple):
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


def interval(
    metric: Metric,
    y: ArrayLike,
    prediction: ArrayLike,
    /,
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    rng: np.random.Generator | int | None = None,
    from_logits: bool = True,
    sample_weight: ArrayLike | None = None,
) -> Interval:
    r"""Metric with its bootstrap interval.

    Parameters
    ----------
    metric : callable
        A metric of this module, or any ``metric(y, prediction, *, sample_weight)`` that returns a float (with
        ``from_logits`` too, if it takes that). ``functools.partial(ece, kind="smooth")`` fixes options.
    y : array-like, shape (N,)
        First argument of the metric.
    prediction : array-like, shape (N, ...)
        Second argument of the metric.
    level : float, default 0.95
        Share of such intervals that hold the true value, nearly; within (0, 1).
    n_resamples : int, default 1000
        Number of resamples.
    rng : numpy.random.Generator or int, optional
        Source of randomness; an int makes the interval repeatable.
    from_logits : bool, default True
        Whether `prediction` holds logits.
    sample_weight : array-like, shape (N,), optional
        Weight of each row; 1 by default. Rows of weight 0 are not drawn.

    Returns
    -------
    Interval
        (value, low, high).

    Raises
    ------
    ShapeError, RangeError, DtypeError
        As the metric does; or if `level` or `n_resamples` is out of range, or the metric gives no single number
        (as ``decomposition``: pass ``lambda y, p, **options: decomposition(y, p, **options).calibration``).

    Notes
    -----
    The percentile bootstrap: N rows are drawn with replacement, row i with weight :math:`c_i w_i` if drawn
    :math:`c_i` times, and low and high are the quantiles of the metric over the resamples. Where a share of
    rows is exactly 0 or 1, resampling shows no spread and the exact binomial bound stands instead. A metric
    that is biased by noise (``ece`` of kind "binned", "smooth" and "classwise") is biased again in each resample,
    so its interval lies too high; the debiased kind has no such fault.

    For ``auroc`` and ``fpr_at_tpr`` a resample without a positive, or without a negative, row is drawn anew: the
    interval is that given both kinds.

    Cost: for accuracy, balanced and top-k accuracy, log loss, Brier score, overconfidence and every ``ece`` but the
    classwise, O(N) a resample, without a new look at the N x K predictions. Any other metric is called anew on
    each resample.

    References
    ----------
    Efron & Tibshirani (1993), "An introduction to the bootstrap", chapter 13.

    Examples
    --------
    >>> value, low, high = interval(accuracy, [0, 1] * 50, [[1.0, 0.0]] * 100, rng=0)
    >>> value, 0.35 < low < value < high < 0.65
    (0.5, True)
    """
    _check_metric(metric)
    level = read_level(level, of="interval")
    n_resamples = read_count(n_resamples, of="interval", name="n_resamples")
    generator = read_generator(rng, of="interval")
    form = statement_of(metric)
    if form is None:
        return _by_calls(metric, y, prediction, level, n_resamples, generator, from_logits, sample_weight)
    rows = read_rows(y, prediction, of="interval", from_logits=from_logits, sample_weight=sample_weight)
    statement = form(rows)
    replicates = resampled([statement], rows.weight, n_resamples=n_resamples, rng=generator)[0]
    return summarised(statement, rows.weight, replicates, level=level)


def statement_of(metric: Metric) -> Callable[[Rows], GroupedSums] | None:
    """Give the metric as a function of grouped sums, or None where it is not one."""
    inner, options = (metric.func, metric.keywords) if isinstance(metric, partial) else (metric, {})
    if not _among(inner, FORMS) or options.get("kind") == "classwise" or (isinstance(metric, partial) and metric.args):
        return None
    return partial(FORMS[inner], **options)


def summarised(
    statement: GroupedSums, weight: Floats, replicates: Floats, *, level: float, shrink: float = 1.0
) -> Interval:
    """Value and interval from resamples; `shrink` < 1 rescales resamples that hold fewer rows than the table."""
    value = statement.value(weight)
    low, high = quantile_range(replicates, level=level)
    if statement.proportion and low == high and value in (0.0, 1.0):
        effective = weight.sum() ** 2 / (weight @ weight)
        reach = float((0.5 - 0.5 * level) ** (1.0 / effective))  # Clopper & Pearson (1934) with no, or only, successes
        return Interval(value, reach, 1.0) if value == 1.0 else Interval(value, 0.0, 1.0 - reach)
    if shrink != 1.0 and np.isfinite([value, low, high]).all():
        low, high = value + shrink * (low - value), value + shrink * (high - value)
    return Interval(value, low, high)


def quantile_range(replicates: Floats, *, level: float) -> tuple[float, float]:
    """Outer quantiles without interpolation, so that infinite replicates are no obstacle."""
    tail = 0.5 - 0.5 * level
    low = np.quantile(replicates, tail, method="lower")
    high = np.quantile(replicates, 1.0 - tail, method="higher")
    return float(low), float(high)


def _by_calls(
    metric: Metric,
    y: ArrayLike,
    prediction: ArrayLike,
    level: float,
    n_resamples: int,
    generator: np.random.Generator,
    from_logits: bool,
    sample_weight: ArrayLike | None,
) -> Interval:
    """Bootstrap a metric of which nothing is known but how to call it."""
    known = plain_array(y, of="interval", name="y")
    if known.ndim == 0:
        raise ShapeError(f"interval: y is {y!r:.80}; the first argument of the metric, an array (N,), would be right.")
    n_rows = known.shape[0]
    if n_rows == 0:
        raise ShapeError("interval: y has no rows; at least one is needed.")
    weight = read_weight(sample_weight, of="interval", n_rows=n_rows)
    options = {"from_logits": from_logits} if _takes(metric, "from_logits") else {}
    value = _number(metric(y, prediction, sample_weight=weight, **options), metric)
    eligible = np.flatnonzero(weight)
    flag = known if _among(_unwrapped(metric), TWO_KINDS) else None
    replicates = np.empty(n_resamples)
    for b in range(n_resamples):
        drawn = eligible[generator.integers(eligible.size, size=eligible.size)]
        while flag is not None and bool((flag[drawn] == flag[drawn[0]]).all()):
            drawn = eligible[generator.integers(eligible.size, size=eligible.size)]
        count = np.bincount(drawn, minlength=n_rows)
        replicates[b] = metric(y, prediction, sample_weight=weight * count, **options)
    return Interval(value, *quantile_range(replicates, level=level))


def _unwrapped(metric: Metric) -> Any:
    """The metric without the options that a partial fixes."""
    return metric.func if isinstance(metric, partial) else metric


def _among(metric: Any, metrics: Container[Any]) -> bool:
    """Whether the metric is one of these; an object without a hash is none."""
    return isinstance(metric, Hashable) and metric in metrics


def _number(value: Any, metric: Metric) -> float:
    """What a metric gave, as a float."""
    try:
        return float(value)
    except (TypeError, ValueError):
        inner = _unwrapped(metric)
        name = getattr(inner, "__name__", type(inner).__name__)
        fields = getattr(value, "_fields", ("part",))
        raise DtypeError(
            f"interval: {name} gives a {type(value).__name__}, no single number; pass a function that does, such as "
            f"lambda y, p, **options: {name}(y, p, **options).{fields[0]}."
        ) from None


def _check_metric(metric: Any) -> None:
    """Refuse what is no function, and functions that cannot be told of resampled rows."""
    if not callable(metric):
        raise DtypeError(f"interval: metric is {metric!r:.80}; a function such as metrics.log_loss would be right.")
    if not _takes(metric, "sample_weight"):
        name = getattr(_unwrapped(metric), "__name__", type(metric).__name__)
        raise DtypeError(
            f"interval: {name} takes no sample_weight, by which resampled rows are told to it; a function of (y, "
            "prediction, *, sample_weight) would be right."
        )


def _takes(metric: Metric, option: str) -> bool:
    """Whether the metric has the option; taken for granted where Python cannot tell."""
    try:
        parameters = inspect.signature(metric).parameters
    except (TypeError, ValueError):
        return True
    return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
