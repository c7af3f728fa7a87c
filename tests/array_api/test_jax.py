"""JAX arrays: eagerly, under jit and under grad, in float32 as JAX has it, without double rounding of 16-bit floats."""

import importlib.util

import numpy as np
import pytest

import normexp as nx
import oracle

if importlib.util.find_spec("jax") is None:
    pytest.skip("jax is not installed", allow_module_level=True)
import jax
import jax.numpy as jnp

LOGITS = np.float32([[20.0, 0.0, 1.0], [3.0, 3.0, -1.0], [-80.0, 0.5, 0.25]])
TARGET = np.array([0, 1, 2])
EACH = {
    "softmax": lambda z: nx.softmax(z, temperature=0.5),
    "log_softmax": nx.log_softmax,
    "logsumexp": nx.logsumexp,
    "segment_softmax": lambda z: nx.segment_softmax(z, np.array([0, 1, 0])),
    "entropy": nx.entropy,
    "sparsemax": nx.sparsemax,
    "generalised_entropy": nx.generalised_entropy,
    "indices": lambda z: nx.cross_entropy(z, TARGET, label_smoothing=0.1, focal_gamma=2.0, z_loss=0.1),
    "proportions": lambda z: nx.cross_entropy(z, np.eye(3) * 0.7 + 0.1),
    "linear": lambda z: nx.linear_cross_entropy(z, np.eye(3, dtype=np.float32), TARGET, softcap=30.0),
}


@pytest.mark.parametrize("name", EACH)
def test_eagerly_traced_and_differentiated(name):
    function = EACH[name]
    found = function(jnp.asarray(LOGITS))
    assert isinstance(found, jax.Array)
    assert found.dtype == jnp.float32
    assert np.asarray(found) == pytest.approx(np.asarray(function(LOGITS)), rel=2e-6, abs=1e-30)

    def value(z):
        return (function(z) ** 2).sum()

    traced, slope = jax.jit(jax.value_and_grad(value))(jnp.asarray(LOGITS))
    assert float(traced) == pytest.approx(float(value(LOGITS)), rel=1e-5)
    step, wide = 1e-6, LOGITS.astype(np.float64)
    for place in np.ndindex(LOGITS.shape):
        moved = np.zeros_like(wide)
        moved[place] = step
        differences = (value(wide + moved) - value(wide - moved)) / (2 * step)
        assert float(slope[place]) == pytest.approx(differences, rel=1e-4, abs=2e-6), place


def test_entmax_has_the_derivative_of_the_answer():
    found = jax.grad(lambda z: (nx.entmax(z) ** 2).sum())(jnp.asarray(LOGITS[1:]))
    wide = LOGITS[1:].astype(np.float64)
    for place in np.ndindex(wide.shape):
        moved = np.zeros_like(wide)
        moved[place] = 1e-6
        differences = ((nx.entmax(wide + moved) ** 2).sum() - (nx.entmax(wide - moved) ** 2).sum()) / 2e-6
        assert float(found[place]) == pytest.approx(differences, abs=2e-6)


def test_the_gradient_of_a_confident_row_through_jax_is_not_falsely_zero():
    """What jax.nn gives is 0 here."""
    z = jnp.asarray(LOGITS[:1])
    ours = jax.jit(jax.grad(lambda z: nx.cross_entropy(z, TARGET[:1])))(z)
    theirs = jax.grad(lambda z: -jax.nn.log_softmax(z)[0, 0])(z)
    truth = oracle.cross_entropy_row(LOGITS[0], 0).grad
    assert np.asarray(ours)[0] == pytest.approx([float(g) for g in truth], rel=1e-6)
    assert float(theirs[0, 0]) == 0.0


def test_values_are_checked_where_there_are_any():
    z = jnp.asarray(LOGITS)
    with pytest.raises(ValueError, match=r"target of row 2 is 7; with 3 classes"):
        nx.cross_entropy(z, jnp.asarray([0, 1, 7]))
    with pytest.raises(ValueError, match=r"target of row 1 is"):
        nx.cross_entropy(z, np.array([0, 2**40, 1]))  # JAX would make a 0 of it
    with pytest.raises(ValueError, match=r"temperature"):
        nx.softmax(z, temperature=jnp.asarray(-1.0))
    traced = jax.jit(lambda z, t, heat: (nx.cross_entropy(z, t), nx.softmax(z, temperature=heat)))
    loss, prob = traced(z, jnp.asarray(TARGET), jnp.asarray(2.0))
    assert float(loss) == pytest.approx(float(nx.cross_entropy(LOGITS, TARGET)), rel=1e-6)
    assert np.asarray(prob) == pytest.approx(nx.softmax(LOGITS, temperature=2.0), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_come_back_as_they_came_with_wide_losses(dtype):
    z = jnp.asarray(LOGITS, dtype=dtype)
    loss, grad = nx.cross_entropy_with_grad(z, TARGET)
    assert nx.softmax(z).dtype == grad.dtype == z.dtype
    assert nx.logsumexp(z).dtype == loss.dtype == jnp.float32


def test_more_equal_logits_than_float16_can_count():
    same = jax.jit(nx.softmax)(jnp.zeros(70_000, dtype=jnp.float16))
    assert float(same[0]) == pytest.approx(1 / 70_000, rel=1e-2)


def test_integers_become_the_widest_floats_that_jax_has():
    assert nx.softmax(jnp.arange(3)).dtype == jnp.float32
    row = np.array([2**31 - 1, 2**31 - 2, 0], np.int32)
    assert np.asarray(nx.softmax(jnp.asarray(row))) == pytest.approx(nx.softmax(row), rel=1e-6)


def test_under_jit_the_rounding_error_is_still_carried():
    row = np.float32(np.random.default_rng(0).uniform(-80, 0, 300))
    row[0] = 0.1234567  # so that z - m is never exact
    found = np.asarray(jax.jit(nx.softmax)(jnp.asarray(row)))
    truth = oracle.softmax(row)
    large = [k for k in range(300) if truth[k] > 1e-37]  # XLA flushes subnormal numbers to 0
    assert oracle.worst_ulp(found[large], [truth[k] for k in large]) <= 6.0
    e = np.asarray(jax.nn.softmax(jnp.asarray(row)))
    assert oracle.worst_ulp(e[large], [truth[k] for k in large]) > 12.0
