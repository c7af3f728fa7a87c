"""Many threads at once, after fork, in spawned processes, without JIT: no crash, and the right answer."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import normexp as nx
import oracle

LOGITS = (9 * np.random.default_rng(7).standard_normal((700, 301))).astype(np.float32)
TARGET = np.random.default_rng(8).integers(0, 301, 700)


def fingerprint(_=None):
    """The bits of all results for the same logits."""
    loss, grad = nx.cross_entropy_with_grad(LOGITS, TARGET, reduction="none")
    parts = (nx.softmax(LOGITS), nx.log_softmax(LOGITS), nx.logsumexp(LOGITS), loss, grad)
    return b"".join(p.tobytes() for p in parts)


def test_sixty_four_python_threads_at_once():
    expected = fingerprint()
    barrier, answers = threading.Barrier(64), [b""] * 64

    def work(i):
        barrier.wait()
        answers[i] = fingerprint()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(64)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert not any(worker.is_alive() for worker in workers)
    assert [i for i, answer in enumerate(answers) if answer != expected] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_computes_the_same_bits():
    expected = fingerprint()  # the parent's threads are running when it forks
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        assert pool.map_async(fingerprint, range(4)).get(timeout=120) == [expected] * 4
    assert fingerprint() == expected


PROGRAM = """
    import hashlib, sys
    import numpy as np
    import normexp as nx

    def fingerprint(seed):
        rng = np.random.default_rng(seed)
        logits = (9 * rng.standard_normal((60, 301))).astype(np.float32)
        target = rng.integers(0, 301, 60)
        loss, grad = nx.cross_entropy_with_grad(logits, target, reduction="none")
        parts = (nx.softmax(logits), nx.log_softmax(logits), nx.logsumexp(logits), loss, grad)
        return hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest()

    if __name__ == "__main__":
        kind = sys.argv[1]
        if kind in ("spawn", "forkserver"):
            import multiprocessing
            with multiprocessing.get_context(kind).Pool(2) as pool:
                answers = pool.map(fingerprint, [3, 3])
        elif kind == "loky":
            from joblib import Parallel, delayed
            answers = Parallel(n_jobs=2, backend="loky")(delayed(fingerprint)(3) for _ in range(2))
        else:
            answers = [fingerprint(3)]
        assert len(set(answers)) == 1
        print(answers[0])
"""


def run_program(tmp_path, kind, **environment):
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run(
        [sys.executable, str(path), kind],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_one_thread_by_the_environment_gives_the_same_bits(tmp_path):
    assert run_program(tmp_path, "plain", NUMBA_NUM_THREADS="1") == run_program(tmp_path, "plain")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["spawn", "forkserver", "loky"])
def test_worker_processes_compute_the_same_bits(tmp_path, kind):
    assert run_program(tmp_path, kind) == run_program(tmp_path, "plain")


NO_JIT = """
    import sys
    sys.path.insert(0, {tests!r})
    import numba
    import numpy as np
    import normexp as nx
    import oracle
    assert numba.config.DISABLE_JIT
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        logits = (9 * rng.standard_normal((4, 23))).astype(dtype)
        logits[1, 5] = -np.inf
        target = [1, 2, 3, 4]
        prob, log_prob, lse = nx.softmax(logits), nx.log_softmax(logits), nx.logsumexp(logits)
        loss, grad = nx.cross_entropy_with_grad(logits, target, reduction="none")
        for i, row in enumerate(logits):
            truth = oracle.state(row)
            oracle.assert_within(prob[i], truth.prob, "prob")
            oracle.assert_within(log_prob[i], truth.log_prob, "log")
            oracle.assert_within(lse[i], truth.lse, "log")
            true = oracle.cross_entropy_row(row, target[i])
            oracle.assert_within(loss[i], true.loss, "log")
            oracle.assert_within(grad[i], true.grad, "grad")
    edges = np.array([[np.nan, 1.0], [-np.inf, -np.inf], [np.inf, 0.0], [0.0, -800.0]])
    assert np.isnan(nx.softmax(edges)[:3]).all()
    assert np.isnan(nx.logsumexp(edges)[0]) and nx.logsumexp(edges)[1] == -np.inf and nx.logsumexp(edges)[2] == np.inf
    assert nx.softmax(np.zeros((2, 0))).shape == (2, 0)
    print("kept")
"""


def test_without_jit_the_bounds_hold(tmp_path):
    path = tmp_path / "no_jit.py"
    path.write_text(textwrap.dedent(NO_JIT.format(tests=os.path.dirname(oracle.__file__))))  # noqa: PTH120
    done = subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "kept"


@pytest.mark.slow
def test_with_bounds_checking_no_kernel_reads_outside_its_arrays(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    answer = run_program(tmp_path, "plain", NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(cache))
    assert answer == run_program(tmp_path, "plain")


def test_the_thread_count_is_kept_and_given_back():
    before = nx.get_num_threads()
    assert before >= 1
    nx.set_num_threads(3)
    assert nx.get_num_threads() == 3
    nx.set_num_threads(before)
    assert nx.get_num_threads() == before


def test_leaving_the_context_restores_the_thread_count():
    before = nx.get_num_threads()
    with nx.set_num_threads(before + 2):
        assert nx.get_num_threads() == before + 2
        with nx.set_num_threads(before + 5):
            assert nx.get_num_threads() == before + 5
        assert nx.get_num_threads() == before + 2
    assert nx.get_num_threads() == before
    with pytest.raises(KeyError), nx.set_num_threads(before + 1):  # an error inside does not keep it
        raise KeyError
    assert nx.get_num_threads() == before
