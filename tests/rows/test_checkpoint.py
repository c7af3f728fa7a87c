"""A fit that is killed goes on from its checkpoint; another problem's checkpoint is refused."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from normexp import NormexpError, SoftmaxClassifier, rows

FIT = """
import sys, time
import numpy as np
from normexp import SoftmaxClassifier, rows
def slowly(progress):  # so that the kill comes in the middle
    if progress.n_iter >= 2:
        time.sleep(0.05)
model = SoftmaxClassifier(tol=1e-12)
model.fit(rows.from_npy(sys.argv[1], target=sys.argv[2]), checkpoint=sys.argv[3], progress=slowly)
print("done")
"""


@pytest.fixture
def stored(tmp_path):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(3000, 8)) * 10.0 ** rng.uniform(-1, 1, size=8) + 3.0
    y = ((X - 3.0) @ rng.normal(size=(8, 4)) + 3 * rng.gumbel(size=(3000, 4))).argmax(axis=1)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", y)
    return tmp_path


def opened(folder):
    return rows.from_npy(folder / "x.npy", target=folder / "y.npy")


def test_a_killed_process_goes_on_from_its_checkpoint_to_the_same_answer(stored):
    checkpoint = stored / "fit.checkpoint"
    process = subprocess.Popen(
        [sys.executable, "-c", FIT, stored / "x.npy", stored / "y.npy", checkpoint],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (checkpoint.exists() and steps_in(checkpoint) >= 2):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert "done" not in process.communicate()[0]
    before = steps_in(checkpoint)
    went_on, steps = SoftmaxClassifier(tol=1e-12), []
    went_on.fit(opened(stored), checkpoint=checkpoint, progress=lambda p: steps.append(p.n_iter))
    whole = SoftmaxClassifier(tol=1e-12).fit(opened(stored))
    assert 2 <= before < whole.n_iter_[0]
    assert min(step for step in steps if step) > before  # it did not begin anew
    assert went_on.n_iter_[0] == whole.n_iter_[0]
    np.testing.assert_allclose(went_on.coef_, whole.coef_, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(went_on.intercept_, whole.intercept_, rtol=1e-10, atol=1e-14)


def steps_in(checkpoint):
    import json

    with np.load(checkpoint, allow_pickle=False) as state:
        return json.loads(state["about"].tobytes())["resumed"][0]


def test_a_finished_fit_is_gone_on_from_with_a_finer_tolerance(stored):
    checkpoint = stored / "fit.checkpoint"
    rough = SoftmaxClassifier(tol=1e-2).fit(opened(stored), checkpoint=checkpoint)
    fine = SoftmaxClassifier(tol=1e-12).fit(opened(stored), checkpoint=checkpoint)
    assert fine.n_iter_[0] > rough.n_iter_[0] > 0
    assert fine.suboptimality_ <= 1e-12
    again = SoftmaxClassifier(tol=1e-12).fit(opened(stored), checkpoint=checkpoint)
    assert again.n_iter_[0] == fine.n_iter_[0]
    assert np.array_equal(again.coef_, fine.coef_)


def test_arrays_in_memory_take_a_checkpoint_too(stored):
    X, y = np.load(stored / "x.npy"), np.load(stored / "y.npy")
    with pytest.warns(UserWarning, match="raise max_iter"):
        SoftmaxClassifier(max_iter=2).fit(X, y, checkpoint=stored / "c")
    model = SoftmaxClassifier().fit(X, y, checkpoint=stored / "c")
    np.testing.assert_allclose(model.coef_, SoftmaxClassifier().fit(X, y).coef_, rtol=1e-10, atol=1e-14)
    on_disk = SoftmaxClassifier(tol=1e-9).fit(opened(stored), checkpoint=stored / "c")  # the same problem
    assert on_disk.n_iter_[0] > model.n_iter_[0]


@pytest.mark.parametrize("other", ["rows", "labels", "weights", "ridge", "fit_intercept", "rows of other values"])
def test_the_checkpoint_of_another_problem_is_refused_and_left_alone(stored, other):
    checkpoint = stored / "fit.checkpoint"
    SoftmaxClassifier(tol=1e-2).fit(opened(stored), checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    X, y, weight = np.load(stored / "x.npy"), np.load(stored / "y.npy"), np.ones(3000)
    given = {}
    wanted = "labels" if other == "weights" else other  # one digest for both
    if other == "rows":
        X, y, weight = X[:-1], y[:-1], weight[:-1]
    elif other == "labels":
        y[5] = (y[5] + 1) % 4
    elif other == "weights":
        weight[7] = 0.5
    elif other == "rows of other values":
        X[9, 3] += 1e-3
    else:
        given = {"ridge": {"C": 2.0}, "fit_intercept": {"fit_intercept": False}}[other]
    with pytest.raises(
        NormexpError, match=f"belongs to another problem: it has {wanted}.*remove the file to start anew"
    ):
        SoftmaxClassifier(**given).fit(X, y, sample_weight=weight, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_a_file_that_is_no_checkpoint_is_refused(stored):
    for name, content in (("noise", b"\x00" * 64), ("text", b"hello"), ("empty", b"")):
        (stored / name).write_bytes(content)
        with pytest.raises(NormexpError, match=f"{name}' is no checkpoint of normexp"):
            SoftmaxClassifier().fit(opened(stored), checkpoint=stored / name)
    np.savez(stored / "other.npz", x=np.zeros(3))
    with pytest.raises(NormexpError, match=r"other.npz' is no checkpoint of normexp"):
        SoftmaxClassifier().fit(opened(stored), checkpoint=stored / "other.npz")
    with pytest.raises(NormexpError, match="whose folder does not exist"):
        SoftmaxClassifier().fit(opened(stored), checkpoint=stored / "none" / "c")


def test_a_half_written_checkpoint_never_takes_the_place_of_a_whole_one(stored, monkeypatch):
    checkpoint = stored / "fit.checkpoint"
    SoftmaxClassifier(tol=1e-2).fit(opened(stored), checkpoint=checkpoint)
    before = checkpoint.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NormexpError, match=r"cannot be written.*No space left"):
        SoftmaxClassifier(tol=1e-12).fit(opened(stored), checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before
    assert [path.name for path in stored.iterdir() if path.name.endswith(".part")] == []
