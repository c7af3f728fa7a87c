"""The fused linear head on tensors against torch: time, memory and error of one training step.

    python bench/torch_linear.py [--quick] [--output bench/results/torch_linear.md]

2 048 rows of 512 features meet 50 000 classes; forward and backward. Rivals take turns in one process. Memory is the
peak of the resident set during the step beyond what was there before it, gradients included; the error is that of the
loss against float64 of the same (rounded) inputs.

Prediction, written down before the first run: float32 takes 0.9 of the unfused time (three products either way, but
one pass over the logits instead of five) and 160 MB (102 of them gradients); bfloat16 as long as unfused and 150 MB
(its projection's gradient is summed in float32).
"""

import argparse
import gc
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

import normexp as nx
from machine import processor
from normexp import __version__

ROUNDS = 5
STATUS = Path("/proc/self/status")


def unfused(x, w, y):
    return torch.nn.functional.cross_entropy(torch.nn.functional.linear(x, w), y)


def chunked(x, w, y):
    return torch.nn.functional.linear_cross_entropy(x, w, y, options=torch.nn.LinearCrossEntropyOptions())


RIVALS = {"normexp": nx.linear_cross_entropy, "torch, unfused": unfused}
if hasattr(torch.nn, "LinearCrossEntropyOptions"):
    RIVALS["torch, chunked"] = chunked


def made(rows, depth, classes, dtype):
    """Inputs whose loss is a little above log(classes), as at the start of training."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, depth, generator=generator).to(dtype).requires_grad_()
    w = (torch.randn(classes, depth, generator=generator) / depth**0.5 * 0.45).to(dtype).requires_grad_()
    return x, w, torch.randint(classes, (rows,), generator=generator)


def step(loss, x, w, y):
    """Forward and backward from no gradients; the loss."""
    x.grad = w.grad = None
    found = loss(x, w, y)
    found.backward()
    return found.item()


def exact(x, w, y):
    """The loss in float64, some rows at a time."""
    with torch.no_grad():
        parts = [
            torch.nn.functional.cross_entropy(a.double() @ w.double().T, b, reduction="sum")
            for a, b in zip(x.split(128), y.split(128), strict=True)
        ]
    return float(sum(parts)) / len(y)


def memory_mb(field):
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1e3


def peak_mb(loss, x, w, y):
    """The highest resident memory during a step beyond that before it."""
    x.grad = w.grad = None
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_mb("VmRSS")
    step(loss, x, w, y)
    return memory_mb("VmHWM") - before


def measure(shape, dtype):
    """Rows of the table for a dtype."""
    x, w, y = made(*shape, dtype)
    truth = exact(x, w, y)
    times = {name: [] for name in RIVALS}
    losses = {name: step(loss, x, w, y) for name, loss in RIVALS.items()}
    for _ in range(ROUNDS):
        for name, loss in RIVALS.items():
            start = time.perf_counter()
            step(loss, x, w, y)
            times[name].append(time.perf_counter() - start)
    peaks = {name: peak_mb(loss, x, w, y) for name, loss in RIVALS.items()}
    base = float(np.median(times["torch, unfused"]))
    kind = str(dtype).removeprefix("torch.")
    return [
        (kind, name, f"{np.median(times[name]):.2f}", f"{np.median(times[name]) / base:.2f}", f"{peaks[name]:.0f}",
         f"{losses[name]:.5f}", f"{abs(losses[name] - truth) / truth:.1e}")
        for name in RIVALS
    ]  # fmt: skip


def main():
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    shape = (256, 64, 2_000) if given.quick else (2_048, 512, 50_000)
    load = os.getloadavg()[0]
    versions = f"normexp {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    lines = [
        "# The fused linear head on tensors",
        "",
        f"{shape[0]} x {shape[1]} to {shape[2]} classes, forward and backward, medians of {ROUNDS} rounds.",
        f"Machine: {processor()}, {os.cpu_count()} cores, load {load:.1f} before the run; {versions}.",
        "",
        "| dtype | by | seconds (median) | of unfused | extra peak MB | loss | relative error |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    for dtype in (torch.float32, torch.bfloat16):
        rows = ["| " + " | ".join(row) + " |" for row in measure(shape, dtype)]
        print("\n".join(rows), flush=True)
        lines += rows
    if given.output:
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
