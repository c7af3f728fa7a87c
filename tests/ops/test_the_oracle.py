"""The reference is checked before it judges: by hand-worked values, by derivatives, and one half against the other."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import strategies
from strategies import FAMILIES, family

MP = oracle.MP
needs_long = pytest.mark.skipif(not oracle.LONG_IS_WIDE, reason="long double is a plain double on this platform")


def test_sixty_digits_of_a_hand_worked_row():
    assert MP.dps == 60
    expected = MP.mpf("0.0900305731703804579629034139")  # 1 / (1 + e + e^2)
    assert abs(oracle.softmax([0.0, 1.0, 2.0])[0] - 1 / (1 + MP.e + MP.e**2)) < MP.mpf("1e-58")
    assert abs(oracle.softmax([0.0, 1.0, 2.0])[0] - expected) < MP.mpf("1e-17")
    assert abs(oracle.logsumexp([0.0, 0.0]) - MP.log(2)) < MP.mpf("1e-58")


def test_a_lead_of_ninety_keeps_its_digits():
    top = oracle.log_softmax([0.0, -90.0])[0]
    assert abs(top / -MP.exp(-90) - 1) < MP.mpf("1e-30")
    loss, grad, _ = oracle.cross_entropy_row([0.0, -90.0], 0)
    assert loss == -top
    assert abs(grad[0] / -MP.exp(-90) - 1) < MP.mpf("1e-30")


@pytest.mark.parametrize(
    ("value", "truth", "dtype", "ulp"),
    [
        (1.0, 1.0, np.float32, 0.0),
        (1.0 + 2.0**-23, 1.0, np.float32, 1.0),
        (1.0 - 2.0**-24, 1.0, np.float32, 0.5),
        (0.0, 2.0**-149, np.float32, 1.0),
        (0.0, 3 * 2.0**-149, np.float32, 3.0),
        (2.0**-149, 0.0, np.float32, 1.0),
        (5e-324, 0.0, np.float64, 1.0),
        (2.0**-126, 2.0**-126 + 2.0**-149, np.float32, 1.0),
        (np.inf, np.inf, np.float32, 0.0),
        (np.inf, 1.0, np.float32, np.inf),
        (-np.inf, np.inf, np.float32, np.inf),
        (3.4e38, np.inf, np.float32, np.inf),
        (np.inf, 1e39, np.float32, 0.0),
        (np.nan, np.nan, np.float32, 0.0),
        (np.nan, 1.0, np.float32, np.inf),
        (1.0, np.nan, np.float32, np.inf),
        (0.0, 1e-10, np.float64, 1e-10 / math.ulp(1e-10)),
    ],
)
def test_the_ulp_measure_knows_the_answer(value, truth, dtype, ulp):
    assert oracle.ulp_error(value, truth, dtype) == pytest.approx(ulp)
    if oracle.LONG_IS_WIDE:
        got, true = np.array([value]), np.array([truth]).astype(oracle.LONG)
        assert oracle.long_ulp_errors(got, true, dtype)[0] == pytest.approx(ulp)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_step_of_the_dtype_is_one_ulp_and_nearest_is_within_half(dtype, rng):
    for value in rng.standard_normal(50) * 10.0 ** rng.uniform(-37, 37, 50):
        number = dtype(value)
        step = np.nextafter(number, dtype(np.inf) if number > 0 else dtype(-np.inf))
        assert oracle.ulp_error(step, oracle.exact(number), dtype) == 1.0
        truth = oracle.exact(number) * (1 + MP.mpf(2) ** -70)
        assert oracle.nearest(truth, dtype) == number


def test_the_measure_says_how_wrong_a_scaled_result_is():
    assert oracle.ulp_error(2.0**-24, 0.0, np.float32, scale=1.0) == 0.5
    assert oracle.ulp_error(2.0**-24, 0.0, np.float32) > 1e30


@given(row=st.lists(st.floats(-60.0, 60.0), min_size=1, max_size=6))
def test_the_oracles_softmax_is_the_numerical_gradient_of_its_logsumexp(row):
    slopes = oracle.numerical_gradient(oracle.logsumexp, row)
    for slope, prob in zip(slopes, oracle.softmax(row), strict=True):
        assert abs(slope - prob) <= MP.mpf("1e-25")


OPTIONS = [
    {},
    {"label_smoothing": 0.25},
    {"weight": [0.5, 2.0, 3.0, 0.25]},
    {"weight": [0.5, 2.0, 3.0, 0.25], "label_smoothing": 0.125},
    {"z_loss": 0.5},
    {"focal_gamma": 2.0},
    {"focal_gamma": 0.5, "weight": [0.5, 2.0, 3.0, 0.25]},
    {"focal_gamma": 2.0, "label_smoothing": 0.125, "z_loss": 0.25},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("target", [0, 2, [0.25, 0.5, 0.0, 0.25]], ids=str)
def test_the_oracles_gradient_is_the_slope_of_its_loss(options, target):
    if "focal_gamma" in options and np.ndim(target):
        options = {k: v for k, v in options.items() if k != "focal_gamma"}
    for row in ([0.3, -1.5, 2.25, 0.0], [30.0, -4.0, 1.0, 2.0], [120.0, -60.0, 1.0, 2.0]):
        got = oracle.cross_entropy_row(row, target, **options).grad
        slopes = oracle.numerical_gradient(lambda z: oracle.cross_entropy_row(z, target, **options).loss, row)
        for g, s in zip(got, slopes, strict=True):
            assert abs(g - s) <= MP.mpf("1e-25") * max(abs(s), MP.mpf("1e-65"))


def test_the_oracle_knows_the_edges():
    assert [str(p) for p in oracle.softmax([-np.inf, 0.0])] == ["0.0", "1.0"]
    assert all(MP.isnan(p) for p in oracle.softmax([-np.inf, -np.inf]))
    assert oracle.logsumexp([-np.inf, -np.inf]) == -MP.inf
    assert oracle.logsumexp([np.inf, 1.0]) == MP.inf
    assert oracle.softmax([np.nan, 3.0, 1.0], where=[False, True, False]) == [0, 1, 0]
    assert oracle.softmax([1.0, 3.0, 3.0], temperature=0) == [0, 0.5, 0.5]
    assert oracle.logsumexp([]) == -MP.inf
    assert oracle.softmax([2**63 - 1, -(2**63)])[0] == 1


def test_the_oracle_and_the_library_share_nothing():
    sources = [vars(oracle)[name] for name in ("mpmath", "np", "ml_dtypes")]
    assert sources == [mpmath, np, vars(oracle)["ml_dtypes"]]
    assert not [n for n, v in vars(oracle).items() if getattr(v, "__module__", "").startswith("normexp")]


@needs_long
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_long_double_agrees_with_sixty_digits(name, dtype):
    """Within 1/100 ULP of the dtype it judges; so it can tell 2.9 from 2.91."""
    for n_classes in (1, 2, 7, 100):
        logits = family(name, 3, n_classes, dtype, seed=5)
        fast = oracle.long_state(logits)
        for i, row in enumerate(logits):
            slow = oracle.state(row)
            assert _gap(fast.prob[i], slow.prob, dtype) < 0.01
            assert _gap(fast.others[i], slow.others, dtype) < 0.01
            assert _gap(fast.log_prob[i], slow.log_prob, dtype) < 0.01
            scale = max(abs(slow.lse), abs(oracle.exact(fast.top[i])))
            assert abs(_exact_long(fast.lse[i]) - slow.lse) / oracle.spacing(scale, dtype) < 0.01


def _exact_long(value):
    """A long double as a 60-digit number: its significand in two doubles, and its exponent."""
    significand, exponent = np.frexp(value)
    high = float(significand)
    return MP.ldexp(MP.mpf(high) + MP.mpf(float(significand - oracle.LONG(high))), int(exponent))


def _gap(fast, slow, dtype):
    worst = 0.0
    for a, b in zip(fast, slow, strict=True):
        if MP.isinf(b):
            assert np.isneginf(a)
        else:
            # below the dtype's smallest number both mean 0
            worst = max(worst, float(abs(_exact_long(a) - b) / oracle.spacing(b, dtype)))
    return worst


def test_families_are_what_their_names_say():
    assert np.ptp(family("spread 1e38", 2, 100, np.float32).astype(float)) > 1e38
    assert (np.abs(family("subnormal", 2, 100, np.float32)) < np.finfo(np.float32).tiny).all()
    assert np.isneginf(family("minus infinities", 2, 100, np.float64)).any()
    assert (family("offset 1e8", 2, 100, np.float32) > 9e7).all()
    dominant = np.sort(family("dominant", 5, 10, np.float32).astype(float), axis=1)
    assert (dominant[:, -1] - dominant[:, -2] > 12).all()
    first, second = family("ties", 2, 9, np.float32), family("ties", 2, 9, np.float32)
    assert (first == second).all()
    assert not (family("normal 10", 2, 9, np.float32) == family("normal 10", 2, 9, np.float32, seed=1)).all()


@pytest.mark.parametrize("name", sorted(strategies.LAYOUTS))
def test_layouts_keep_the_values(name, rng):
    x = rng.standard_normal((5, 7)).astype(np.float32)
    y = strategies.LAYOUTS[name](x)
    assert np.array_equal(x, y)
    kinds = {
        "C": y.flags.c_contiguous,
        "Fortran": y.flags.f_contiguous and not y.flags.c_contiguous,
        "negative strides": y.strides[0] < 0 and y.strides[1] < 0,
        "every second": y.strides[1] == 2 * y.itemsize,
        "read-only": not y.flags.writeable,
        "unaligned": not y.flags.aligned,
        "other byte order": not y.dtype.isnative,
        "inner block": not y.flags.c_contiguous and y.strides[1] == y.itemsize,
    }
    assert kinds[name]
