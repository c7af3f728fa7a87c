"""Class weights, row weights of one class and starts that are no numbers are refused in a sentence, by every fit."""

import dask.array
import numpy as np
import pytest

from normexp import SoftmaxClassifier, rows
from normexp.base.errors import NormexpError
from normexp.linear_model import LinearDiscriminant, NaiveBayesSoftmax, alpha_max, softmax_path


def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    return X, (X @ rng.normal(size=(3, 3)) + rng.gumbel(size=(60, 3))).argmax(axis=1)


def _on_disk(tmp_path, X, y, weight=None, **options):
    np.save(tmp_path / "X.npy", X)
    return SoftmaxClassifier(**options).fit(rows.from_npy(tmp_path / "X.npy"), y, sample_weight=weight)


def _with_dask(_, X, y, weight=None, **options):
    X = dask.array.from_array(X, chunks=(20, 3))
    return SoftmaxClassifier(**options).fit(X, y, sample_weight=weight)


FITS = {
    "memory": lambda _, X, y, weight=None, **options: SoftmaxClassifier(**options).fit(X, y, weight),
    "corners": lambda _, X, y, weight=None, **options: SoftmaxClassifier(penalty="l1", **options).fit(X, y, weight),
    "disk": _on_disk,
    "dask": _with_dask,
    "alpha_max": lambda _, X, y, weight=None, **options: alpha_max(X, y, sample_weight=weight, **options),
    "path": lambda _, X, y, weight=None, **options: softmax_path(X, y, Cs=2, sample_weight=weight, **options),
}
BATCH = {"batch": lambda _, X, y, **options: SoftmaxClassifier(**options).partial_fit(X, y, classes=[0, 1, 2])}
WRONG = [
    ({0: -1.0, 1: 1, 2: 1}, "class_weight of 0 is -1.0; weights must be finite"),
    ({0: np.nan, 1: 1, 2: 1}, "class_weight of 0 is nan"),
    ({1: np.inf}, "class_weight of 1 is inf"),
    ({1: "3"}, "class_weight of 1 is '3'"),
    ({0: 0, 1: 0, 2: 0.0}, "class_weight is zero for every class"),
    ({9: 1.0}, "class_weight names 9, which is not among the classes"),
    ("balance", "class_weight is 'balance'; it must be 'balanced'"),
    ([1.0, 2.0, 1.0], "class_weight is a list; it must be 'balanced', None or a dict"),
    (2.0, "class_weight is a float"),
]


@pytest.mark.parametrize("fit", [*FITS.items(), *BATCH.items()], ids=lambda pair: pair[0])
@pytest.mark.parametrize(("class_weight", "sentence"), WRONG)
def test_class_weights_without_meaning_are_refused(tmp_path, fit, class_weight, sentence):
    with pytest.raises(NormexpError, match=sentence):
        fit[1](tmp_path, *table(), class_weight=class_weight)


@pytest.mark.parametrize("fit", [FITS["memory"], FITS["disk"], FITS["dask"], BATCH["batch"]])
def test_class_weights_multiply_those_of_rows_in_every_fit(tmp_path, fit):
    X, y = table()
    weight = {0: 0.5, 2: 3.0}
    found = fit(tmp_path, X, y, class_weight=weight, tol=1e-10)
    wanted = SoftmaxClassifier(tol=1e-10).fit(X, y, np.array([0.5, 1.0, 3.0])[y])
    assert np.abs(found.coef_ - wanted.coef_).max() < 5e-3  # a stream's own distance from the optimum is 2e-3
    assert np.abs(SoftmaxClassifier().fit(X, y).coef_ - wanted.coef_).max() > 5e-2  # else the weights would be nothing


def test_weights_of_classes_that_a_fold_lacks_are_no_mistake():
    X, y = table()
    kept = y != 2
    model = SoftmaxClassifier(class_weight={0: 1, 1: 2, 2: 5}).fit(X[kept], y[kept])
    assert np.array_equal(model.coef_, SoftmaxClassifier(class_weight={1: 2}).fit(X[kept], y[kept]).coef_)


@pytest.mark.parametrize("fit", FITS)
def test_one_class_with_weight_is_refused(tmp_path, fit):
    X, y = table()
    with pytest.raises(NormexpError, match="only rows of the class 2 have a weight above zero"):
        FITS[fit](tmp_path, X, y, np.where(y == 2, 1.5, 0.0))
    with pytest.raises(NormexpError, match="only rows of the class 1 have a weight above zero"):
        FITS[fit](tmp_path, X, y, class_weight={0: 0, 1: 1, 2: 0})


@pytest.mark.parametrize("fit", ["memory", "disk", "dask"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_start_that_is_not_finite_is_refused(tmp_path, fit, value):
    start = np.zeros((3, 4))
    start[1, 2] = value
    with pytest.raises(NormexpError, match=f"init holds {value} in row 1, column 2"):
        FITS[fit](tmp_path, *table(), init=start)


@pytest.mark.parametrize("start", [[["a"] * 4] * 3, [[0.0], [0.0, 1.0], [2.0]]])
def test_a_start_of_words_or_ragged_lists_is_refused(tmp_path, start):
    for fit in ("memory", "disk"):
        with pytest.raises(NormexpError, match="init holds something that is no number"):
            FITS[fit](tmp_path, *table(), init=start)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda X, y: NaiveBayesSoftmax(alpha=np.inf).fit(np.abs(X), y), "alpha is inf; it must be a finite number"),
        (lambda X, y: NaiveBayesSoftmax(alpha="a").fit(np.abs(X), y), "alpha is 'a'"),
        (lambda X, y: LinearDiscriminant(shrinkage="a").fit(X, y), "shrinkage is 'a'"),
        (lambda X, y: LinearDiscriminant(shrinkage=np.nan).fit(X, y), "shrinkage is nan"),
        (lambda X, y: SoftmaxClassifier(l1_ratio=[0.5]).fit(X, y), r"l1_ratio is \[0.5\]"),
        (lambda X, y: SoftmaxClassifier(penalty=["l2"]).fit(X, y), r"penalty is \['l2'\]"),
        (lambda X, y: SoftmaxClassifier(solver={}).fit(X, y), "solver is {}"),
        (lambda X, y: SoftmaxClassifier().fit(X, y, checkpoint=3), "checkpoint is 3; it must be the path"),
        (lambda X, y: SoftmaxClassifier().fit(X, y).predict_top_k(X, 1.5), "k is 1.5; a whole number"),
        (lambda X, y: SoftmaxClassifier().fit(X, y).coef_intervals(X, y, level="a"), "level is 'a'"),
        (lambda X, y: alpha_max(X, np.zeros(60, int)), "alpha_max: y holds one class only, 0;"),
        (lambda X, y: SoftmaxClassifier().fit(X, np.zeros(60, int)), "fit: y holds one class only, 0;"),
    ],
)
def test_options_of_the_wrong_kind_are_refused_in_a_sentence(call, sentence):
    with pytest.raises(NormexpError, match=sentence):
        call(*table())
