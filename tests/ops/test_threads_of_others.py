"""Threads that are not the library's own: BLAS's, and those that compile while the process forks."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import scipy.linalg  # noqa: F401  (brings a BLAS of its own, which must be there when the libraries are looked for)
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

import normexp as nx
from normexp.backends import products
from normexp.backends.threads import POOL
from normexp.base.blas_threads import BLAS, one_blas_thread


def blas_threads():
    """How many threads each BLAS may use."""
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture
def many_cpus(monkeypatch):
    """A process that may run on four CPUs, and a BLAS with as many threads."""
    monkeypatch.setattr(POOL, "most", 4)
    products.habit_of.cache_clear()  # of the CPUs that there are
    with threadpool_limits(4, user_api="blas"), nx.set_num_threads(4):
        yield blas_threads()
    products.habit_of.cache_clear()


@pytest.fixture
def seen(many_cpus, monkeypatch):
    """What BLAS may use while it multiplies for linear_cross_entropy."""
    counts, multiply = [], np.matmul

    def watched(a, b, out):
        counts.append(max(blas_threads()))
        return multiply(a, b, out=out)

    for dtype in (np.float32, np.float64):
        products.habit_of(np.dtype(dtype))
    monkeypatch.setattr("normexp.backends.products.np.matmul", watched)
    return counts


HEAD = np.random.default_rng(5)
X, PROJECTION, TARGET = HEAD.standard_normal((70, 48)), HEAD.standard_normal((300, 48)), HEAD.integers(0, 300, 70)


def test_products_take_as_many_threads_of_blas_as_were_set_or_one(many_cpus, seen):
    answers = []
    for threads in (1, 2, 4, 7):
        with nx.set_num_threads(threads):
            answers.append(nx.linear_cross_entropy_with_grad(X, PROJECTION, TARGET))
        assert set(seen) == {min(threads, 4) if products.habit_of(X.dtype).has_steady_threads else 1}
        assert blas_threads() == many_cpus
        seen.clear()
    for answer in answers[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(answers[0][:3], answer[:3], strict=True))


def test_small_heads_pay_nothing(many_cpus, seen):
    with nx.set_num_threads(1):
        nx.linear_cross_entropy(X[:, :16], PROJECTION[:9, :16], TARGET % 9)
    assert set(seen) == {4}


def test_a_smaller_number_of_blas_itself_is_kept(many_cpus, seen):
    with threadpool_limits(1, user_api="blas"), nx.set_num_threads(3):
        nx.linear_cross_entropy(X, PROJECTION, TARGET)
        assert set(seen) == {1}
    assert blas_threads() == many_cpus


def test_errors_inside_give_the_threads_back(many_cpus):
    with nx.set_num_threads(1), pytest.raises(KeyError), one_blas_thread():
        assert set(blas_threads()) == {1}
        raise KeyError
    assert blas_threads() == many_cpus


def test_calls_that_overlap_give_back_what_there_was(many_cpus):
    """First in, first out: on its own the second would note 1 as the former number, and leave it behind."""
    with nx.set_num_threads(1):
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        assert set(blas_threads()) == {1}
        first.__exit__(None, None, None)
        assert set(blas_threads()) == {1}
        second.__exit__(None, None, None)
    assert blas_threads() == many_cpus


def test_any_thread_binds_and_another_gives_back(many_cpus):
    """Since 3.8 threadpoolctl lets only that thread change the number that did it first, without a word."""

    def elsewhere(work):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(timeout=10)
        assert not thread.is_alive()

    with one_blas_thread():
        assert set(blas_threads()) == {1}
    for bounded in (one_blas_thread(), BLAS.at_most(3)):
        elsewhere(bounded.__enter__)
        assert max(blas_threads()) < 4
        elsewhere(lambda bounded=bounded: bounded.__exit__(None, None, None))
        assert blas_threads() == many_cpus
        with one_blas_thread():
            assert set(blas_threads()) == {1}


def test_an_exact_number_holds_for_a_moment_and_leaves_the_bound_of_those_within(many_cpus):
    with one_blas_thread():
        with BLAS.exactly(3):
            assert set(blas_threads()) == {3}
        assert set(blas_threads()) == {1}
    assert blas_threads() == many_cpus


@pytest.mark.parametrize("within", [one_blas_thread, nullcontext], ids=["within a fit", "outside"])
def test_the_first_product_of_a_process_waits_for_nobody(many_cpus, within):
    """Who calls from within a fit, as from its progress, would wait for ever for the end of it."""
    products.habit_of.cache_clear()
    with within():
        before = blas_threads()
        nx.linear_cross_entropy(X, PROJECTION, TARGET)
        assert blas_threads() == before
    inside = products.habit_of(X.dtype)
    products.habit_of.cache_clear()
    assert products.habit_of(X.dtype) == inside


def test_two_limits_of_threadpoolctl_leave_the_smaller_number_behind(many_cpus):
    controller = ThreadpoolController().select(user_api="blas")
    first = controller.limit(limits=1)
    second = controller.limit(limits=1)
    first.restore_original_limits()
    second.restore_original_limits()
    assert set(blas_threads()) == {1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_forked_within_can_bound_again():
    with BLAS._changing:
        child = os.fork()
        if child == 0:
            os._exit(0 if BLAS._changing.acquire(blocking=False) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---------------------------------------------------------------- a fork while another thread compiles

PROGRAM = """
    import os, signal, sys, threading, time
    import numpy as np
    from numba import njit
    from numba.core.compiler_lock import global_compiler_lock

    x = np.arange(50.0)
    njit(lambda x: x.sum())(x)  # what Numba imports at its first compilation is Python's lock, and not looked at here
    if sys.argv[1] == "normexp":
        import normexp as nx
        first, second = (lambda: nx.margin(x)), (lambda: nx.max_logit(x))
    else:
        first, second = njit(lambda x: np.median(x) + np.sort(x).sum()), njit(lambda x: x.max())
        first, second = (lambda f=first: f(x)), (lambda f=second: f(x))

    compiling = threading.Thread(target=first)
    compiling.start()
    while global_compiler_lock._lock.acquire(blocking=False):  # until the other thread has it
        global_compiler_lock._lock.release()
        time.sleep(0.0005)
    child = os.fork()
    if child == 0:
        signal.alarm(int(sys.argv[2]))
        os._exit(0 if second() == 49.0 else 1)
    _, status = os.waitpid(child, 0)
    compiling.join()
    assert second() == 49.0
    print(os.waitstatus_to_exitcode(status))
"""


def exit_of_child(tmp_path, kind, alarm_s):
    """What became of the child: 0, or minus the signal that ended it."""
    path, cache = tmp_path / "program.py", tmp_path / "cache"
    path.write_text(textwrap.dedent(PROGRAM))
    cache.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(path), kind, str(alarm_s)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_child_forked_while_a_kernel_is_compiled_can_compile_its_own(tmp_path):
    assert exit_of_child(tmp_path, "normexp", 200) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_numba_alone_would_wait_for_ever(tmp_path):
    assert exit_of_child(tmp_path, "numba", 10) == -signal.SIGALRM
