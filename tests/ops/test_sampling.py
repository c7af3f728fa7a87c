"""sample and gumbel_softmax: the right frequencies, reproducible, never an impossible class."""

import numpy as np
import pytest
from scipy.stats import chisquare

import normexp as nx

LOGITS = np.array([2.0, 0.0, -np.inf, 1.0, -1.0])


def test_frequencies_are_the_probabilities():
    draws = nx.sample(LOGITS, size=40_000, rng=1)
    counts = np.bincount(draws, minlength=5)
    assert counts[2] == 0
    possible = [0, 1, 3, 4]
    p = nx.softmax(LOGITS)[possible]
    assert chisquare(counts[possible], 40_000 * p / p.sum()).pvalue > 1e-4
    uniform = np.full(4, 10_000.0)
    assert chisquare(counts[possible], uniform).pvalue < 1e-10  # the test can fail


def test_without_replacement_draws_every_class_once_and_the_first_by_its_probability():
    batch = np.broadcast_to(LOGITS, (8_000, 5))
    draws = nx.sample(batch, size=4, replace=False, rng=2)
    assert draws.shape == (8_000, 4)
    assert (np.sort(draws, axis=1) == [0, 1, 3, 4]).all()
    counts = np.bincount(draws[:, 0], minlength=5)[[0, 1, 3, 4]]
    p = nx.softmax(LOGITS)[[0, 1, 3, 4]]
    assert chisquare(counts, 8_000 * p / p.sum()).pvalue > 1e-4


@pytest.mark.parametrize(("shape", "size", "axis", "expected"), [
    ((5,), None, -1, ()), ((5,), 3, -1, (3,)), ((2, 5), None, -1, (2,)), ((2, 5), 4, -1, (2, 4)),
    ((5, 2), 4, 0, (2, 4)), ((2, 3, 5), 1, -1, (2, 3, 1)), ((0, 5), 2, -1, (0, 2)),
], ids=str)  # fmt: skip
def test_shapes(shape, size, axis, expected):
    draws = nx.sample(np.zeros(shape), size=size, axis=axis, rng=0)
    assert np.shape(draws) == expected
    assert np.asarray(draws).dtype.kind == "i"
    assert ((np.asarray(draws) >= 0) & (np.asarray(draws) < 5)).all()


def test_a_seed_repeats_and_a_generator_goes_on():
    assert np.array_equal(nx.sample(LOGITS, size=50, rng=3), nx.sample(LOGITS, size=50, rng=3))
    generator = np.random.default_rng(3)
    first, second = nx.sample(LOGITS, size=50, rng=generator), nx.sample(LOGITS, size=50, rng=generator)
    assert not np.array_equal(first, second)
    assert not np.array_equal(nx.sample(LOGITS, size=50), nx.sample(LOGITS, size=50))


def test_a_certain_class_is_always_drawn():
    assert (nx.sample(np.array([-np.inf, 3.0, -np.inf]), size=100, rng=0) == 1).all()
    assert (nx.sample(np.array([0.0, 1e38], np.float32), size=100, rng=0) == 1).all()


@pytest.mark.parametrize(("options", "word"), [
    ({"size": 5, "replace": False}, "size"), ({"size": -1}, "size"), ({"rng": "seed"}, "rng"),
])  # fmt: skip
def test_impossible_wishes_are_refused(options, word):
    with pytest.raises((ValueError, TypeError), match=f"sample.*{word}") as caught:
        nx.sample(LOGITS, **options)
    assert isinstance(caught.value, nx.NormexpError)


def test_gumbel_softmax_is_a_probability_and_its_largest_a_sample():
    batch = np.broadcast_to(LOGITS, (20_000, 5))
    soft = nx.gumbel_softmax(batch, temperature=0.7, rng=4)
    assert soft.shape == batch.shape
    assert soft.sum(axis=1) == pytest.approx(np.ones(20_000))
    assert (soft[:, 2] == 0).all()
    possible = [0, 1, 3, 4]
    counts = np.bincount(soft.argmax(axis=1), minlength=5)[possible]
    p = nx.softmax(LOGITS)[possible]
    assert chisquare(counts, 20_000 * p / p.sum()).pvalue > 1e-4


def test_hard_gumbel_softmax_is_the_arg_max_of_the_soft_one():
    batch = np.broadcast_to(LOGITS.astype(np.float32), (500, 5))
    soft, hard = nx.gumbel_softmax(batch, rng=5), nx.gumbel_softmax(batch, hard=True, rng=5)
    assert hard.dtype == soft.dtype == np.float32
    assert np.array_equal(hard, np.eye(5, dtype=np.float32)[soft.argmax(axis=1)])
    cold = nx.gumbel_softmax(batch, temperature=1e-3, rng=5)
    assert (cold.argmax(axis=1) == hard.argmax(axis=1)).all()
    assert np.array_equal(nx.gumbel_softmax(batch, temperature=0.0, rng=5), hard)


def test_gumbel_softmax_refuses_a_negative_temperature():
    with pytest.raises(ValueError, match=r"gumbel_softmax.*temperature") as caught:
        nx.gumbel_softmax(LOGITS, temperature=-1.0)
    assert isinstance(caught.value, nx.NormexpError)
