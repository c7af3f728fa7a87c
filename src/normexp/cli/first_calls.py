"""How long the first call of each function takes, compiled then and there, and found in the cache."""

import os
import subprocess
import sys
import tempfile

FIRST_CALLS = {
    "softmax": "nx.softmax(x)",
    "log_softmax": "nx.log_softmax(x)",
    "logsumexp": "nx.logsumexp(x)",
    "segment_softmax": "nx.segment_softmax(x, [0, 1, 0])",
    "sparsemax": "nx.sparsemax(x)",
    "entmax": "nx.entmax(x)",
    "sample": "nx.sample(x)",
    "gumbel_softmax": "nx.gumbel_softmax(x)",
    "top_k": "nx.top_k(x, 5)",
    "cross_entropy": "nx.cross_entropy(x, [1, 2, 3])",
    "cross_entropy_with_grad": "nx.cross_entropy_with_grad(x, [1, 2, 3])",
    "linear_cross_entropy": "nx.linear_cross_entropy(x, w, [1, 2, 3])",
    "linear_cross_entropy_with_grad": "nx.linear_cross_entropy_with_grad(x, w, [1, 2, 3])",
    "softmax_vjp": "nx.softmax_vjp(x, x)",
    "softmax_jvp": "nx.softmax_jvp(x, x)",
    "softmax_jacobian": "nx.softmax_jacobian(x)",
    "entropy": "nx.entropy(x)",
    "margin": "nx.margin(x)",
    "energy": "nx.energy(x)",
    "max_logit": "nx.max_logit(x)",
    "generalised_entropy": "nx.generalised_entropy(x)",
}
CALL = (
    "import time, numpy as np, normexp as nx; x = np.ones((3, 10), np.float32); w = np.ones((5, 10), 'f'); "
    "s = time.perf_counter(); {call}; print(1e3 * (time.perf_counter() - s))"
)
IMPORT = "import time, numpy; s = time.perf_counter(); import normexp; print(1e3 * (time.perf_counter() - s))"


def first_calls(calls: dict[str, str] | None = None) -> tuple[tuple[str | float | None, ...], ...]:
    """Time each call in two fresh processes that share a new cache of kernels, and the import in five.

    Parameters
    ----------
    calls : dict of str to str, optional
        Names and expressions of ``nx``, ``x`` (3 x 10 float32) and ``w`` (5 x 10); all public functions by default.

    Returns
    -------
    tuple of tuple
        Name, first call compiled then and there, first call found in the cache, both in ms; last the import.
    """
    rows: list[tuple[str | float | None, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, call in (FIRST_CALLS if calls is None else calls).items():
            rows.append((name, *(_fresh(CALL.format(call=call), f"{folder}/{name}") for _ in range(2))))
        imports = [_fresh(IMPORT, folder) for _ in range(5)]
    rows.append(("import normexp, beyond NumPy's own", None, min(imports)))
    return tuple(rows)


def _fresh(code: str, folder: str) -> float:
    """What a process of its own prints."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603  (our own code)
    return float(done.stdout)
