"""Times, memory and errors of the functional level on this machine, beside what else is installed.

Contestants take turns within one run, so that a busy moment of the machine meets them all alike. A turn is a burst
of calls, the first of which is not counted: cores that idled wake late, whoever calls. The numbers are medians.
``normexp bench ops`` and ``bench/ops.py`` print the same tables.
"""

import gc
import importlib
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from normexp.backends.pages import SHELF
from normexp.cli.first_calls import first_calls

Call = Callable[[], object]
Cell = str | float | None
SHAPES = ((1_000_000, 10), (100_000, 100), (10_000, 1_000), (1_000, 10_000), (256, 128_256), (1, 10_000_000))
MEASURED = ("normexp", "normexp out=", "torch", "SciPy")  # in memory, too
_STATM, _PAGE_BYTES = Path("/proc/self/statm"), 4096 if sys.platform == "win32" else os.sysconf("SC_PAGE_SIZE")
LONG_S = 10.0
PAUSE_S = 0.01  # OpenMP's threads spin for a while after each call, on the cores that the next one needs
BURST = 5  # calls in a row; the first wakes the cores, which costs up to 2 ms on a virtual machine, and is not counted
ALONE_S = 0.25  # a longer call than this wakes them within itself: one call a turn, and it counts


class Table(NamedTuple):
    """A titled table; cells are texts, numbers, or None where there is nothing to say."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def cell_text(cell: Cell) -> str:
    """Write a cell: numbers with three digits that say something.

    Parameters
    ----------
    cell : str, float or None
        What stands in it.

    Returns
    -------
    str
        The text, "-" for None.
    """
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def all_tables(*, quick: bool = False) -> Iterator[Table]:
    """Measure one table after another.

    Parameters
    ----------
    quick : bool
        A twentieth of the rows and classes, and no first calls: seconds in place of minutes.

    Yields
    ------
    Table
        Softmax, other functions, memory, fresh results, small calls, errors, first calls.
    """
    found = [name for name in ("torch", "jax") if importlib.util.find_spec(name)]
    rivals = {name: importlib.import_module(name) for name in found}  # noqa: TID251  (rivals stand on no floor)
    part = 20 if quick else 1
    names = ("normexp", "normexp out=", "torch", "torch out=", "SciPy", "JAX", "copy")
    memory: list[tuple[Cell, ...]] = []
    timed: list[tuple[str, dict[str, float]]] = []
    for title, calls, seconds in _softmaxes(rivals, part):
        timed.append((title, _take_turns(calls, seconds)))
        memory += [(f"softmax of {title}", name, _peak_mb(calls[name])) for name in MEASURED if name in calls]
    yield _softmax_table(timed, names)
    others: list[tuple[Cell, ...]] = []
    for title, calls, seconds in _others(rivals, part):
        result = _take_turns(calls, seconds)
        others += [(title, name, ms, ms / result["normexp"]) for name, ms in result.items()]
        memory += [(title, name, _peak_mb(call)) for name, call in calls.items()]
    yield Table("Other functions: float32, medians in ms", ("what", "by", "ms", "times normexp's"), tuple(others))
    yield Table(
        "Peak memory of one call after others like it, its result included, MB", ("what", "by", "MB"), tuple(memory)
    )
    yield _kept_memory(part)
    yield _small_calls(rivals)
    yield _errors(rivals, part)
    if not quick:
        yield _first_calls()


def _softmaxes(rivals: dict[str, Any], part: int) -> Iterator[tuple[str, dict[str, Call], float]]:
    """The softmax of each shape, along the last axis; and of one along the first."""
    import scipy.special

    import normexp as nx

    for shape in SHAPES:
        n, k = (shape[0], shape[1] // part) if shape[0] == 1 else (max(1, shape[0] // part), shape[1])
        logits = 3 * np.random.default_rng(0).standard_normal((n, k), dtype=np.float32)
        out = np.empty_like(logits)
        calls: dict[str, Call] = {
            "normexp": lambda x=logits: nx.softmax(x),  # type: ignore[misc]
            "normexp out=": lambda x=logits, y=out: nx.softmax(x, out=y),  # type: ignore[misc]
            "SciPy": lambda x=logits: scipy.special.softmax(x, axis=-1),  # type: ignore[misc]
            "copy": lambda x=logits, y=out: np.copyto(y, x),  # type: ignore[misc]
        }
        if "torch" in rivals:
            torch = rivals["torch"]
            given, into = torch.from_numpy(logits), torch.from_numpy(out)
            calls["torch"] = lambda t=torch, x=given: t.softmax(x, -1)  # type: ignore[misc]
            calls["torch out="] = lambda t=torch, x=given, y=into: t.softmax(x, -1, out=y)  # type: ignore[misc]
        if "jax" in rivals:
            jax = rivals["jax"]
            compiled, device = jax.jit(jax.nn.softmax), jax.device_put(logits)
            calls["JAX"] = lambda f=compiled, x=device: f(x).block_until_ready()  # type: ignore[misc]
        yield f"{n:,} x {k:,}".replace(",", " "), calls, 3.0


def _others(rivals: dict[str, Any], part: int) -> Iterator[tuple[str, dict[str, Call], float]]:
    """The other axis, reductions, losses, the likeliest classes, the linear head."""
    import normexp as nx

    torch = rivals.get("torch")
    rng = np.random.default_rng(0)
    n = 10_000 // part
    x = 3 * rng.standard_normal((n, 1_000), dtype=np.float32)
    out, y = np.empty_like(x), rng.integers(0, 1_000, n)
    calls: dict[str, Call] = {
        "normexp": lambda: nx.softmax(x, out=out),
        "normexp, axis=0": lambda: nx.softmax(x, axis=0, out=out),
    }
    reduction: dict[str, Call] = {"normexp": lambda: nx.logsumexp(x)}
    loss: dict[str, Call] = {"normexp": lambda: nx.cross_entropy(x, y)}
    both: dict[str, Call] = {"normexp": lambda: nx.cross_entropy_with_grad(x, y)}
    wide = 3 * rng.standard_normal((1_000 // part, 100_000), dtype=np.float32)
    best: dict[str, Call] = {"normexp": lambda: nx.top_k(wide, 5), "one read (max)": wide.max}
    rows, width, classes = 2_048 // part, 512, 50_000 // part
    features = rng.standard_normal((rows, width), dtype=np.float32)
    projection = 0.05 * rng.standard_normal((classes, width), dtype=np.float32)
    target = rng.integers(0, classes, rows)
    head: dict[str, Call] = {
        "normexp": lambda: nx.linear_cross_entropy_with_grad(features, projection, target),
        "the three matrix products alone": lambda: _three_products(features, projection),
    }
    if torch is not None:
        given, into, index = torch.from_numpy(x), torch.from_numpy(out), torch.from_numpy(y)
        calls["torch, dim=0, out="] = lambda: torch.softmax(given, 0, out=into)
        reduction["torch"] = lambda: torch.logsumexp(given, -1)
        loss["torch"] = lambda: torch.nn.functional.cross_entropy(given, index)
        slope = torch.from_numpy(x).requires_grad_()
        both["torch"] = lambda: _torch_grad(slope, lambda: torch.nn.functional.cross_entropy(slope, index))
        broad = torch.from_numpy(wide)
        best["torch softmax, topk"] = lambda: torch.topk(torch.softmax(broad, -1), 5)
        a, b = torch.from_numpy(features).requires_grad_(), torch.from_numpy(projection).requires_grad_()
        c = torch.from_numpy(target)
        head["torch, unfused"] = lambda: _torch_grad(a, lambda: torch.nn.functional.cross_entropy(a @ b.T, c), b)
        fused = getattr(torch.nn.functional, "linear_cross_entropy", None)
        options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
        if fused is not None and options is not None:
            head["torch, chunked"] = lambda: _torch_grad(a, lambda: fused(a, b, c, options=options()), b)
    yield f"softmax of {n} x 1000 along either axis, out=", calls, 2.0
    yield f"logsumexp of {n} x 1000", reduction, 2.0
    yield f"cross_entropy of {n} x 1000", loss, 2.0
    yield f"cross_entropy_with_grad of {n} x 1000", both, 2.0
    yield f"top_k(k=5) of {len(wide)} x 100000", best, 5.0
    yield f"linear_cross_entropy_with_grad, {rows} x {width} x {classes}", head, 30.0


def _three_products(x: NDArray[Any], w: NDArray[Any]) -> object:
    z = x @ w.T
    return z @ w, z.T @ x


def _torch_grad(first: Any, loss: Callable[[], Any], second: Any = None) -> object:
    """The loss and its gradients by torch, starting without any."""
    first.grad = None
    if second is not None:
        second.grad = None
    value = loss()
    value.backward()
    return value


def _take_turns(calls: dict[str, Call], seconds: float) -> dict[str, float]:
    """The median of each call in ms, in bursts by turns: 3 to 9 rounds in so many seconds, 2 of the longest."""
    first = {name: _timed(call) for name, call in calls.items()}
    bursts = {name: 1 if once > ALONE_S else BURST for name, once in first.items()}
    once = sum(bursts[name] * taken for name, taken in first.items())
    kept: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(int(min(9, max(2 if once > LONG_S else 3, seconds / max(once, 1e-6))))):
        for name, call in calls.items():
            time.sleep(PAUSE_S)
            times = [_timed(call) for _ in range(bursts[name])]
            kept[name] += times[1:] or times
    return {name: 1e3 * float(np.median(times)) for name, times in kept.items()}


def _timed(call: Call) -> float:
    """Seconds that a call takes, its result thrown away afterwards."""
    start = time.perf_counter()
    result = call()
    taken = time.perf_counter() - start
    del result
    return taken


def _softmax_table(results: list[tuple[str, dict[str, float]]], names: tuple[str, ...]) -> Table:
    """One row for each shape: times, then ratios."""
    present = [name for name in names if any(name in result for _, result in results)]
    pairs = [("torch", "normexp"), ("torch out=", "normexp out="), ("normexp out=", "copy")]
    pairs = [pair for pair in pairs if pair[0] in present]
    rows = [
        (title, *(result.get(name) for name in present), *(result[a] / result[b] for a, b in pairs))
        for title, result in results
    ]
    heads = [f"{a} / {b}" for a, b in pairs]
    return Table(
        "softmax of float32 rows x classes: medians in ms, and their ratios", ("", *present, *heads), tuple(rows)
    )


def _peak_mb(call: Call) -> float | None:
    """Resident memory during one call beyond what was there before it; None where the system does not tell."""
    if not _STATM.exists():
        return None
    gc.collect()
    before = top = _resident_mb()
    ended = threading.Event()

    def watch() -> None:
        nonlocal top
        while not ended.wait(5e-4):
            top = max(top, _resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    kept = call()
    top = max(top, _resident_mb())
    ended.set()
    watcher.join()
    del kept
    return top - before


def _resident_mb() -> float:
    return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES / 1e6


def _small_calls(rivals: dict[str, Any]) -> Table:
    """One call on ten numbers: the least of several averages, since other work only adds."""
    import scipy.special

    import normexp as nx

    x = np.linspace(-1, 1, 10, dtype=np.float32)
    calls: dict[str, Call] = {"normexp": lambda: nx.softmax(x), "SciPy": lambda: scipy.special.softmax(x)}
    if "torch" in rivals:
        torch = rivals["torch"]
        tensor = torch.from_numpy(x)
        calls["torch"] = lambda: torch.softmax(tensor, -1)
    best = dict.fromkeys(calls, np.inf)
    for _ in range(7):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(1_000):
                call()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
    return Table("softmax of 10 float32, one call", ("by", "microseconds"), tuple(best.items()))


def _errors(rivals: dict[str, Any], part: int) -> Table:
    """The worst error in units in the last place of float32, against long double."""
    import scipy.special

    import normexp as nx

    rng = np.random.default_rng(1)
    lead = rng.standard_normal((2_000, 100))
    lead[:, 7] += rng.uniform(17, 100, 2_000)
    cases = {
        "2000 x 100, spread 10": 10 * rng.standard_normal((2_000, 100)),
        "2000 x 100, one class leads by 17 to 100": lead,
        f"1 x {1_000_000 // part}, spread 10": 10 * rng.standard_normal((1, 1_000_000 // part)),
    }
    by: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
        "normexp": (nx.softmax, nx.log_softmax, nx.logsumexp),
        "SciPy": (
            lambda x: scipy.special.softmax(x, axis=-1),
            lambda x: scipy.special.log_softmax(x, axis=-1),
            lambda x: scipy.special.logsumexp(x, axis=-1),
        ),
    }
    if "torch" in rivals:
        torch = rivals["torch"]
        by["torch"] = (
            lambda x: torch.softmax(torch.from_numpy(x), -1).numpy(),
            lambda x: torch.log_softmax(torch.from_numpy(x), -1).numpy(),
            lambda x: torch.logsumexp(torch.from_numpy(x), -1).numpy(),
        )
    rows: list[tuple[Cell, ...]] = []
    for title, drawn in cases.items():
        logits = drawn.astype(np.float32)
        truth = _truth(logits)
        rows += [
            (title, name, *(_ulp(f(logits), t) for f, t in zip(functions, truth, strict=True)))
            for name, functions in by.items()
        ]
    return Table(
        "Worst error in ULP of float32 (a false 0 counts as many as the true value has)",
        ("logits", "by", "softmax", "log_softmax", "logsumexp"),
        tuple(rows),
    )


def _truth(logits: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Softmax, its log and the log-sum in long double; the largest term is left out of the sum."""
    z = logits.astype(np.longdouble)
    first = z.argmax(axis=1)[:, None]
    gap = z - np.take_along_axis(z, first, 1)
    terms = np.exp(gap)
    without = terms.copy()
    np.put_along_axis(without, first, 0, 1)
    rest = without.sum(axis=1, keepdims=True)
    return terms / (1 + rest), gap - np.log1p(rest), (np.take_along_axis(z, first, 1) + np.log1p(rest))[:, 0]


def _ulp(got: NDArray[Any], truth: NDArray[Any]) -> float:
    """The largest |got - truth|, in distances between neighbouring float32 at the truth."""
    step = np.ldexp(np.longdouble(1), np.maximum(np.frexp(truth)[1] - 24, -149))
    return float((np.abs(got.astype(np.longdouble) - truth) / step).max())


def _first_calls() -> Table:
    """The first call of each function in a fresh process; and the import."""
    return Table(
        "First call of 3 x 10 float32 in a fresh process, Numba's import included, ms",
        ("what", "cold", "warm"),
        first_calls(),
    )


def _kept_memory(part: int) -> Table:
    """What new pages cost: a 40 MB result in kept memory, and in memory that the system has to clear first."""
    import normexp as nx

    logits = 3 * np.random.default_rng(0).standard_normal((10_000 // part, 1_000), dtype=np.float32)
    kept, size = np.empty_like(logits), logits.nbytes / 1e6
    former = SHELF.limit

    def softmax_without() -> object:
        nx.set_kept_memory(0)
        try:
            return nx.softmax(logits)
        finally:
            nx.set_kept_memory(former)

    calls: dict[str, Call] = {
        "filling an array again": lambda: kept.fill(1),
        "filling a fresh array": lambda: np.empty_like(logits).fill(1),
        "softmax, out=": lambda: nx.softmax(logits, out=kept),
        "softmax, memory kept (the default)": lambda: nx.softmax(logits),
        "softmax, after set_kept_memory(0)": softmax_without,
    }
    times = _take_turns(calls, 3.0)
    first = {name: "softmax, out=" if name.startswith("softmax") else "filling an array again" for name in times}
    rows = tuple((name, ms, ms / times[first[name]]) for name, ms in times.items())
    return Table(f"A float32 result of {size:.0f} MB, ms", ("what", "ms", "times that of memory in use"), rows)
