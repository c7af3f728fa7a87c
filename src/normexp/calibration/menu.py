"""What AutoCalibrator may choose from: each entry a way to fit, the simplest first."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from normexp.calibration.calibrator import Calibrator
from normexp.calibration.ensemble_temperature import EnsembleTemperatureScaling
from normexp.calibration.isotonic import IsotonicScaling
from normexp.calibration.rows import CalibrationRows, Floats
from normexp.calibration.structured import STRENGTHS, StructuredMatrixScaling, VectorScaling
from normexp.calibration.temperature import TemperatureScaling
from normexp.calibration.two_classes import BetaScaling, QuadraticScaling

FEWEST_ROWS: Final = 20  # with fewer, no gain is beyond doubt
MOST_VECTOR_ELEMENTS: Final = 50_000_000  # N x K in float64: 400 MB beside the logits
MOST_MATRIX_CLASSES: Final = 256  # K^2 parameters, each strength and fold some tens of N x K x K products
MOST_MATRIX_WORK: Final = 200_000_000  # N x K x K of one product: half a minute for all strengths and folds
ROWS_FOR_ISOTONIC: Final = 2000  # free-form maps need many rows
ENTRY_ROWS_A_CLASS: Final = 2  # a scale and a bias for each class want at least as many rows


class Identity(Calibrator):
    """The logits as they are.

    Examples
    --------
    >>> Identity().fit([[1.0, 0.0], [0.0, 1.0]], [0, 1]).transform([[2.0, 1.0]])
    array([[2., 1.]])
    """

    def _fit(self, rows: CalibrationRows) -> None:
        """Nothing is learned."""

    def _map(self, z: Floats) -> Floats:
        return z

    def map_columns(self, z: Floats, /) -> Floats:
        """Those of rows that lie class by class."""
        return z


class Entry(NamedTuple):
    """One kind of calibrator.

    Parameters
    ----------
    name : str
        As in ``AutoCalibrator.chosen_``.
    variants : tuple
        What tells the variants apart (strengths); one of them is chosen with the kind.
    fit : callable
        (rows, variants) -> one fitted calibrator for each variant.
    """

    name: str
    variants: tuple[float, ...]
    fit: Callable[[CalibrationRows, tuple[float, ...]], Sequence[Calibrator]]


def menu_for(rows: CalibrationRows, /) -> list[Entry]:
    """The kinds that suit so many rows and classes; identity first."""
    n, k = rows.n_rows, rows.n_classes
    identity = Entry("identity", (1.0,), lambda r, _: [Identity().fit_raised(r)])
    if n < FEWEST_ROWS:
        return [identity]
    entries = [
        identity,
        Entry("temperature", (1.0,), lambda r, v: [TemperatureScaling(shrinkage=s).fit_raised(r) for s in v]),
    ]
    if k == 2:
        entries.append(Entry("beta", (1.0, 8.0), lambda r, v: [BetaScaling(shrinkage=s).fit_raised(r) for s in v]))
        entries.append(
            Entry("quadratic", (1.0, 8.0), lambda r, v: [QuadraticScaling(shrinkage=s).fit_raised(r) for s in v])
        )
        if n >= ROWS_FOR_ISOTONIC:
            entries.append(
                Entry("isotonic", (4.0, 16.0), lambda r, v: [IsotonicScaling(shrinkage=s).fit_raised(r) for s in v])
            )
    elif k > 2:
        entries.append(Entry("ensemble_temperature", (1.0,), lambda r, _: [EnsembleTemperatureScaling().fit_raised(r)]))
        if n >= ENTRY_ROWS_A_CLASS * k and n * k <= MOST_VECTOR_ELEMENTS:
            entries.append(Entry("vector", STRENGTHS, _one_by_one(VectorScaling)))
            if k <= MOST_MATRIX_CLASSES and n * k * k <= MOST_MATRIX_WORK:
                entries.append(Entry("matrix", STRENGTHS, _one_by_one(StructuredMatrixScaling)))
    return entries


def _one_by_one(
    method: type[VectorScaling] | type[StructuredMatrixScaling], /
) -> Callable[[CalibrationRows, tuple[float, ...]], Sequence[Calibrator]]:
    """Fit each strength by itself; the choice among them is made by shared work (`trials`)."""
    return lambda rows, strengths: [method(strength=s).fit_raised(rows) for s in strengths]
