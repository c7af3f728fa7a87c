"""Time to reach the optimum of a softmax regression: normexp, every solver of scikit-learn, statsmodels, snapml.

    python bench/solvers/run.py [--only NAME ...] [--contestants NAME ...] [--limit SECONDS] [--rounds 1]

Each pair of problem and contestant runs in a process of its own, killed at the problem's limit; contestants take turns
within a problem, and rounds repeat all of it. What was measured stands in bench/results/solvers.jsonl, one line for
each fit; a second call goes on where the first was stopped. bench/results/solvers.md is written from it after each
problem.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

THREADS = "2"
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, THREADS)

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402  (the numbers of threads are read when these are loaded)
from contestants import CONTESTANTS  # noqa: E402  (loads NumPy: see there)
from problems import problems  # noqa: E402  (loads NumPy: see there)
from table import write  # noqa: E402  (found through the path set here)

# A run that would take this many times the last one, which had half its budget, is not begun beyond the limit.
_GROWTH = 1.8


def _forget_peak() -> None:
    """Count the highest resident memory from now on: making a table takes more than the table."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5", encoding="ascii")


def _peak_mb() -> float:
    """The highest resident memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def work(problem_name: str, contestant_name: str, limit_s: float) -> None:
    """Fit with growing budgets and print a line of JSON for each."""
    problem, contestant = problems()[problem_name], CONTESTANTS[contestant_name]
    X, y = problem.load()
    X = X if hasattr(X, "indptr") else np.ascontiguousarray(X)
    n_classes = len(np.unique(y))

    def say(**fields) -> None:
        print(json.dumps(fields), flush=True)

    say(kind="problem", rows=X.shape[0], features=X.shape[1], classes=n_classes)
    if not contestant.can(problem, X, n_classes):
        say(kind="cannot")
        return
    few = np.concatenate([np.flatnonzero(y == k)[:3] for k in range(min(n_classes, 50))])
    contestant.fit(problem, X[few], np.unique(y[few], return_inverse=True)[1], None)  # imports and compiles
    _forget_peak()
    before_mb = _peak_mb()
    began, best, still = time.perf_counter(), np.inf, 0
    for budget in (None, *contestant.budgets()):
        start = time.perf_counter()
        try:
            fit = contestant.fit(problem, X, y, budget)
        except (MemoryError, ValueError, FloatingPointError, np.linalg.LinAlgError) as error:
            say(kind="failed", budget=budget, why=f"{type(error).__name__}: {str(error)[:80]}")
            if budget is None:
                continue
            break
        seconds = time.perf_counter() - start
        value = problem.objective(X, y, fit.coef, fit.intercept)
        peak_mb = _peak_mb() - before_mb
        say(
            kind="fit", budget=budget, seconds=seconds, objective=value, told=fit.told, passes=fit.passes,
            peak_mb=peak_mb,
        )  # fmt: skip
        if budget is None:
            continue
        still = still + 1 if value >= best * (1 - 1e-13) else 0
        best = min(best, value)
        left = limit_s - (time.perf_counter() - began)
        if fit.converged or (still >= 3 and contestant_name != "normexp") or left < _GROWTH * seconds:
            return


def measure(problem_name: str, contestant_name: str, limit_s: float) -> list[dict]:
    """Run one pair in a process of its own; what it printed before its end, and how it ended."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            [sys.executable, __file__, "--worker", problem_name, contestant_name, str(limit_s)], stdout=out, stderr=err
        )
        ending = "finished"
        try:
            process.wait(timeout=limit_s + 120)  # the default run and the reading of the data come on top
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            ending = f"stopped after {limit_s + 120:.0f} s"
        out.seek(0)
        err.seek(0)
        lines = [json.loads(line) for line in out if line.startswith("{") and line.endswith("}\n")]
        if process.returncode and ending == "finished":
            ending = f"died with {process.returncode}: {err.read()[-200:]!r}"
    return [*lines, {"kind": "end", "why": ending}]


def main() -> None:
    """Measure what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--only", nargs="*", default=list(problems()))
    parser.add_argument("--contestants", nargs="*", default=list(CONTESTANTS))
    parser.add_argument("--limit", type=float, help="seconds for each pair, instead of the problem's own")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--state", type=Path, default=HERE.parent / "results" / "solvers.jsonl")
    parser.add_argument("--output", type=Path, default=HERE.parent / "results" / "solvers.md")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker[0], given.worker[1], float(given.worker[2]))
        return
    lines = given.state.read_text(encoding="utf-8").splitlines() if given.state.exists() else []
    known = [json.loads(line) for line in lines]
    done = {(one["problem"], one["contestant"], one["round"]) for one in known if one["kind"] == "end"}
    for round_ in range(given.rounds):
        for name in given.only:
            turn = (
                given.contestants[round_ % len(given.contestants) :]
                + given.contestants[: round_ % len(given.contestants)]
            )
            for contestant in turn:
                if (name, contestant, round_) in done:
                    continue
                limit = given.limit or problems()[name].limit_s
                found = [
                    {"problem": name, "contestant": contestant, "round": round_, **line}
                    for line in measure(name, contestant, limit)
                ]
                known += found
                with given.state.open("a", encoding="utf-8") as state:
                    state.writelines(json.dumps(line) + "\n" for line in found)
                best = min((one["objective"] for one in found if one["kind"] == "fit"), default=float("nan"))
                print(f"{name}, {contestant}: {best:.10g}, {found[-1]['why']}", flush=True)
            write(known, given.output)
    write(known, given.output)


if __name__ == "__main__":
    main()
