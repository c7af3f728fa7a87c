"""The measuring behind `normexp bench ops`: errors, memory, turns and what is printed."""

import subprocess
import sys

import numpy as np
import pytest

import normexp as nx
import oracle
from normexp import ops
from normexp.backends.pages import SHELF
from normexp.cli import first_calls, ops_table
from strategies import family


@pytest.mark.skipif(not oracle.LONG_IS_WIDE, reason="long double is a plain double on this platform")
@pytest.mark.parametrize("name", ["normal 10", "dominant"])
def test_the_truth_of_the_table_is_that_of_the_oracle(name):
    logits = family(name, 3, 57, np.float32)
    prob, log_prob, lse = ops_table._truth(logits)
    for i, row in enumerate(logits):
        truth = oracle.state(row)
        assert prob[i].astype(float) == pytest.approx(np.array(truth.prob, float), rel=1e-15)
        assert log_prob[i].astype(float) == pytest.approx(np.array(truth.log_prob, float), rel=1e-15)
        assert float(lse[i]) == pytest.approx(float(truth.lse), rel=1e-15)


def test_errors_are_counted_in_units_of_the_last_place():
    truth = np.array([1.0, 0.75, 1e-30, 0.0], np.longdouble)
    exact = truth.astype(np.float32)
    assert ops_table._ulp(exact, exact.astype(np.longdouble)) == 0
    beside = np.nextafter(exact, np.float32(2), dtype=np.float32)
    assert ops_table._ulp(beside[:3], exact[:3].astype(np.longdouble)) == 1
    assert ops_table._ulp(np.zeros(1, np.float32), np.array([2.0**-30], np.longdouble)) == 2**23


@pytest.mark.skipif(not ops_table._STATM.exists(), reason="this system does not tell a process its memory")
def test_the_memory_of_a_call_is_seen():
    size_mb = 60
    peak = ops_table._peak_mb(lambda: np.ones(size_mb * 125_000))
    assert size_mb * 0.9 <= peak <= size_mb * 1.5
    assert ops_table._peak_mb(lambda: None) < 5


def test_all_take_turns():
    seen = []
    names = ["a", "b", "c"]
    times = ops_table._take_turns({name: lambda name=name: seen.append(name) for name in names}, seconds=1e-9)
    bursts = [name for name in names for _ in range(ops_table.BURST)]
    rounds, left = divmod(len(seen) - len(names), len(bursts))
    assert seen == names + bursts * rounds
    assert rounds >= 3
    assert left == 0
    assert list(times) == names


def test_the_first_call_of_a_burst_is_not_counted(monkeypatch):
    taken = iter([0.1, *[9.0, 0.1, 0.1, 0.1, 0.1] * 3])
    monkeypatch.setattr(ops_table, "_timed", lambda _: next(taken))
    assert ops_table._take_turns({"a": lambda: None}, seconds=1e-9) == {"a": pytest.approx(100)}


def test_a_long_call_is_counted_alone(monkeypatch):
    taken = iter([0.5, 0.3, 0.4, 0.5])
    monkeypatch.setattr(ops_table, "_timed", lambda _: next(taken))
    assert ops_table._take_turns({"a": lambda: None}, seconds=1e-9) == {"a": pytest.approx(400)}


def test_cells_are_short_texts():
    texts = [ops_table.cell_text(cell) for cell in (None, "x", 0.012345, 3.14159, 1234.5)]
    assert texts == ["-", "x", "0.0123", "3.14", "1234"]


def test_ratios_are_left_out_with_the_rival():
    results = [("1 x 2", {"normexp": 2.0, "normexp out=": 1.0, "copy": 0.5})]
    table = ops_table._softmax_table(results, ("normexp", "normexp out=", "torch", "copy"))
    assert table.columns == ("", "normexp", "normexp out=", "copy", "normexp out= / copy")
    assert table.rows == (("1 x 2", 2.0, 1.0, 0.5, 2.0),)


def test_every_public_function_has_its_first_call_measured():
    settings = {"get_num_threads", "set_num_threads", "set_kept_memory"}
    functions = {name for name in ops.__all__ if not isinstance(getattr(ops, name), type)}
    assert set(first_calls.FIRST_CALLS) == functions - settings
    names = {"nx": nx, "x": np.ones((3, 10), np.float32), "w": np.ones((5, 10), "f")}
    for name, call in first_calls.FIRST_CALLS.items():
        assert call.startswith(f"nx.{name}(x")
        eval(call, names)  # noqa: S307  (our own constants)


def test_a_first_call_is_timed_in_processes_of_its_own():
    rows = first_calls.first_calls({"a wait": "time.sleep(0.05)"})
    (name, cold, warm), (imported, nothing, ms) = rows
    assert name == "a wait"
    assert cold >= 50 <= warm
    assert imported.startswith("import normexp")
    assert nothing is None
    assert ms > 0


def test_the_price_of_fresh_memory_is_measured_and_the_limit_restored(monkeypatch):
    """Within the call that keeps nothing the limit is 0; before and after it is what it was."""
    limits = {}
    monkeypatch.setattr(nx, "softmax", lambda x, out=None: limits.setdefault("softmax", []).append(SHELF.limit))
    before = SHELF.limit
    table = ops_table._kept_memory(500)
    assert SHELF.limit == before > 0
    assert set(limits["softmax"]) == {0, before}
    assert len(table.rows) == 5
    assert [row[2] for row in table.rows if row[0] in ("filling an array again", "softmax, out=")] == [1, 1]
    assert all(row[1] > 0 for row in table.rows)


@pytest.mark.slow
def test_the_command_prints_every_table():
    done = subprocess.run(
        [sys.executable, "-m", "normexp", "bench", "ops", "--quick"],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for word in ("softmax", "top_k", "linear_cross_entropy_with_grad", "microseconds", "set_kept_memory(0)", "ULP"):
        assert word in done.stdout
