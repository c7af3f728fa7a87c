"""Audits and displays of tensors, of weighted rows, and of arguments without a meaning."""

import warnings

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

import normexp as nx
from normexp.report import ReliabilityDisplay, RiskCoverageDisplay, SetCoverageDisplay, audit
from refusals import refused


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=300)
    return y, 2.0 * rng.normal(size=(300, 4)) + 2.0 * np.eye(4)[y], rng.normal(size=(300, 6)) + 2.0 * np.eye(4, 6)[y]


@pytest.fixture(autouse=True)
def _close():
    plt = pytest.importorskip("matplotlib.pyplot")
    yield
    plt.close("all")


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_tensors_that_ask_for_a_gradient_are_audited_as_their_values(rows, kind):
    torch = pytest.importorskip("torch")
    y, z, x = rows
    logits = torch.tensor(z, dtype=getattr(torch, kind))
    plain = audit(logits.float().numpy(), y, features=x, n_resamples=20)
    features = torch.tensor(x, requires_grad=True)
    found = audit(logits.requires_grad_(), torch.tensor(y), features=features, n_resamples=20)
    assert found.scores == plain.scores
    assert found.unknown == plain.unknown


def test_hidden_and_ragged_logits_are_refused(rows):
    y, z, x = rows
    refused(ValueError, "hidden entries", audit, np.ma.masked_greater(z, 3.0), y)
    refused(ValueError, "hidden entries", audit, z, y, features=np.ma.masked_greater(x, 3.0))
    refused(ValueError, "unequal lengths", audit, [[1.0], [1.0, 2.0]], y)
    refused(ValueError, "unequal lengths", audit, z, [[1], [2, 3]])


@pytest.mark.parametrize("value", ["seven", -1, 1.5, None])
def test_seeds_and_resamples_are_whole_numbers(rows, value):
    y, z, _ = rows
    refused((TypeError, ValueError), "seed is", audit, z, y, seed=value)
    refused((TypeError, ValueError), "n_resamples is", audit, z, y, n_resamples=value)


@pytest.mark.parametrize("display", [ReliabilityDisplay, RiskCoverageDisplay])
def test_a_row_of_weight_2_is_drawn_as_two_rows(rows, display):
    y, z, x = rows
    weight = np.random.default_rng(1).integers(3, size=300)
    twice = np.repeat(np.arange(300), weight)
    one, other = display.from_logits(y, z, sample_weight=weight), display.from_logits(y[twice], z[twice])
    for a, b in zip(one.curve[:3], other.curve[:3], strict=True):
        assert a == pytest.approx(b, rel=1e-12)
    if display is ReliabilityDisplay:
        assert one.class_error == pytest.approx(other.class_error, rel=1e-12)
        both = np.isfinite(one.class_gap)
        assert one.class_gap[both] == pytest.approx(other.class_gap[both], abs=1e-12)
    model = nx.SoftmaxClassifier().fit(x, y)
    one, other = (
        display.from_estimator(model, x, y, sample_weight=weight),
        display.from_estimator(model, x[twice], y[twice]),
    )
    assert one.curve[1] == pytest.approx(other.curve[1], rel=1e-9)
    refused(ValueError, "sample_weight", display.from_logits, y, z, sample_weight=-np.ones(300))


@pytest.mark.parametrize("display", [ReliabilityDisplay, RiskCoverageDisplay])
def test_forests_with_probabilities_of_0_are_drawn_without_a_warning(rows, display):
    y, _, x = rows
    forest = RandomForestClassifier(20, random_state=0).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        display.from_estimator(forest, x, y)


@pytest.mark.parametrize("value", [0, 2.5, "a", None])
def test_options_of_displays_without_a_meaning_are_refused(rows, value):
    y, z, _ = rows
    refused((TypeError, ValueError), "max_classes is", SetCoverageDisplay.from_sets, y, z > 0, max_classes=value)
    refused((TypeError, ValueError), "max_classes is", ReliabilityDisplay.from_logits, y, z, max_classes=value)
    refused((TypeError, ValueError), "n_bins is", ReliabilityDisplay.from_logits, y, z, n_bins=value)
    if value is not None:
        refused((TypeError, ValueError), "target_risk is", RiskCoverageDisplay.from_logits, y, z, target_risk=value)
    refused(ValueError, "unequal lengths", SetCoverageDisplay.from_sets, y[:2], [[True], [True, False]])
