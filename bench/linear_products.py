"""linear_cross_entropy_with_grad beside the three matrix products it consists of, on the BLAS kernels of several CPUs.

    python bench/linear_products.py --output bench/results/linear_products.md

OpenBLAS takes the kernels of another CPU where OPENBLAS_CORETYPE names it; each runs in a process of its own. The
products alone are NumPy's, on all of BLAS's threads; whether a row of them has the same bits alone is told beside.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

import normexp as nx
from machine import processor

SIZES = [(32, 64, 1_000), (256, 64, 1_000), (256, 512, 1_000), (1_024, 256, 10_000), (2_048, 512, 50_000)]
PREDICTION = (
    "Prediction: for the largest sizes within a tenth of the products on AVX-512's kernels, and 1.3 times them on "
    "Haswell's, where float32 rows are multiplied sixteen at a time (which alone costs 1.25 to 1.35)."
)
FOUND = (
    "Where BLAS's threads are steady they are used; elsewhere normexp's own multiply, one thread of BLAS each, and "
    "here, in turns with products on all of BLAS's threads, these wait for their next product by spinning on the very "
    "CPUs: without such a neighbour 256 x 512 x 1000 takes 5.8 ms on Haswell's kernels. Small batches pay for a block "
    "of 256 rows, but where rows are multiplied sixteen at a time."
)


def products(x, w, flow):
    """The logits, and what a gradient like them sends to the rows and to the projection."""
    return x @ w.T, flow @ w, flow.T @ x


def taking_turns(calls, seconds=4.0):
    """Median milliseconds of each call, the calls in turns."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[next(iter(calls))]) < 3:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(found) for name, found in times.items()}


def measured(dtype):
    """What one process finds, for each size."""
    found = []
    for n, d, k in SIZES:
        rng = np.random.default_rng(0)
        x, w = rng.standard_normal((n, d)).astype(dtype), (0.05 * rng.standard_normal((k, d))).astype(dtype)
        target = rng.integers(0, k, n)
        flow = rng.standard_normal((n, k)).astype(dtype)
        alone = nx.linear_cross_entropy_with_grad(x[:1], w, target[:1], reduction="none")
        whole = nx.linear_cross_entropy_with_grad(x, w, target, reduction="none")
        times = taking_turns({
            "normexp": lambda x=x, w=w, target=target: nx.linear_cross_entropy_with_grad(x, w, target),
            "products": lambda x=x, w=w, flow=flow: products(x, w, flow),
        })  # fmt: skip
        found.append({
            "size": f"{n} x {d} x {k}", **times,
            "same": bool(alone.loss[0] == whole.loss[0]) and np.array_equal(alone.grad_x[0], whole.grad_x[0]),
            "plain": (x[:1] @ w.T).tobytes() == (x @ w.T)[:1].tobytes(),
        })  # fmt: skip
    cores = [one.get("architecture") for one in threadpool_info() if one["user_api"] == "blas"]
    return {"core": cores[0], "rows": found}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", choices=["float32", "float64"])
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(measured(np.dtype(args.worker))))
        return
    lines = [
        "# The linear head's loss and gradients beside their three matrix products",
        "",
        (
            f"{processor()}, {os.cpu_count()} CPUs, NumPy {np.__version__}, normexp {nx.__version__}. Median "
            "milliseconds, in turns; N x D x K. `python bench/linear_products.py`."
        ),
        "",
        PREDICTION,
        "",
        FOUND,
        "",
        "| kernels of | dtype | N x D x K | normexp | products | ratio | the bits of a row alone | of the products |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for core in ("SkylakeX", "Haswell", "Sandybridge"):
        for dtype in ("float32", "float64"):
            done = subprocess.run(
                [sys.executable, __file__, "--worker", dtype], env={**os.environ, "OPENBLAS_CORETYPE": core},
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            told = json.loads(done.stdout.splitlines()[-1])
            for row in told["rows"]:
                words = ["same" if row[name] else "other" for name in ("same", "plain")]
                lines.append(
                    f"| {told['core']} | {dtype} | {row['size']} | {row['normexp']:.3g} | {row['products']:.3g} "
                    f"| {row['normexp'] / row['products']:.2f} | {words[0]} | {words[1]} |"
                )
                print(lines[-1], flush=True)
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
