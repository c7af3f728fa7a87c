"""Heads of one and of ten million classes: training steps, exact and approximate answers, memory.

    python bench/torch_million.py [--quick] [--only PART] [--output bench/results/torch_million.md]

Each row is a process of its own. Memory is the highest resident set (VmHWM) less that of the same process after a small
head has taken the same steps: code, compiled kernels and torch's optimiser machinery are in the baseline, weights and
everything for them are not. Times are medians.

Prediction, written down before the first run, for two quiet cores:

- train, 1 000 000 x 128, batch 256, 1 024 samples, RowAdagrad: 12 ms a step; W (512 MB) + 8 MB of state + 90 MB, most
  of these while the parameters are made. 8 192 samples: 45 ms. torch.optim.SparseAdam on the same head: 20 ms, and
  three times W. torch.optim.Adagrad on dense gradients: 1 s, and three times W or more: misses the bar.
- top_k(5) exact, batch 32: the product of 8.2 GFLOP is three quarters of the time whoever computes it; 1.7 times as
  fast as torch's matmul, softmax and topk, below the goal of 2, with 30 MB for 260 MB.
- top_k(5) through the index: 2 ms a row and 95 % of the exact five on clustered classes, 60 s to build; the interval
  holds the normaliser for about 95 % of the rows.
- train, 10 000 000 x 64, bfloat16 and float16: 1.3 GB of weights, 40 MB of state, 1.9 GB in all; 15 ms a step; the
  loss on held-out rows falls by a half in 600 steps, and with bfloat16 rounded to nearest it falls by less.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch

import normexp as nx
from machine import processor
from normexp import __version__

STATUS = Path("/proc/self/status")
SIZES = {"million": (1_000_000, 128, 256), "ten million": (10_000_000, 64, 256)}
QUICK = {"million": (20_000, 32, 64), "ten million": (50_000, 16, 64)}


def memory_mb(field):
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def zipf(count, classes, generator):
    """Targets whose ranks follow Zipf's law."""
    drawn = torch.rand(count, dtype=torch.float64, generator=generator) * torch.log(torch.tensor(classes + 1.0))
    return torch.expm1(drawn).long().clamp(0, classes - 1)


def features(target, depth):
    """What a network would say of these classes: a fixed pattern of 0.7 sigma for each, and noise."""
    bits = (target[:, None] * 2654435761 + torch.arange(depth) * 40503) % 1_000_003
    pattern = torch.sin(bits.double() * 12.9898).float()
    return pattern + 0.3 * torch.randn(len(target), depth)


class NearestAdagrad(nx.nn.RowAdagrad):
    """RowAdagrad, rounding to nearest: what it would be without its draws."""

    def _move(self, parameter, lr, eps):
        from normexp.nn import row_adagrad

        kept, row_adagrad.rounded_at_random = row_adagrad.rounded_at_random, lambda x, dtype: x.to(dtype)
        super()._move(parameter, lr, eps)
        row_adagrad.rounded_at_random = kept


OPTIMISERS = {
    "RowAdagrad": lambda p: nx.nn.RowAdagrad(p, lr=0.1),
    "RowAdagrad, rounding to nearest": lambda p: NearestAdagrad(p, lr=0.1),
    "torch SGD": lambda p: torch.optim.SGD(p, lr=0.5),
    "torch SparseAdam": lambda p: torch.optim.SparseAdam(p, lr=0.01),
    "torch Adagrad, dense gradients": lambda p: torch.optim.Adagrad(p, lr=0.1),
}


def run_training(size, samples, optimiser, dtype, steps):
    """Seconds of each step, the exact loss of held-out rows before and after, MB of weights and of state."""
    classes, depth, batch = size
    sparse = "dense" not in optimiser
    head = nx.nn.SampledHead(depth, classes, samples, sparse=sparse, dtype=getattr(torch, dtype))
    moving = OPTIMISERS[optimiser](head.parameters())
    generator = torch.Generator().manual_seed(5)
    held = zipf(64, classes, generator)
    x_held = features(held, depth)

    def loss_of_held():
        head.eval()
        with torch.no_grad():  # small tiles in float32: this must not be what the memory is measured of
            z = torch.stack([head.logits_of(x_held, torch.arange(a, min(a + 8_192, classes))).logsumexp(1)
                             for a in range(0, classes, 8_192)]).logsumexp(0)  # fmt: skip
            true = head.logits_of(x_held, held[:, None]).squeeze(1)
        head.train()
        return (z - true).mean().item()

    before, times = loss_of_held(), []
    for _ in range(steps):
        target = zipf(batch, classes, generator)
        x = features(target, depth)
        start = time.perf_counter()
        moving.zero_grad()
        head.loss(x, target).backward()
        moving.step()
        times.append(time.perf_counter() - start)
    state = sum(t.numel() * t.element_size() for s in moving.state.values() for t in s.values() if torch.is_tensor(t))
    weights = sum(p.numel() * p.element_size() for p in head.parameters())
    return times, before, loss_of_held(), weights / 1e6, state / 1e6


def train(where, quick, samples, optimiser, dtype, steps):
    """A row of the tables of training."""
    torch.manual_seed(0)
    run_training((2_000, 16, 32), 64, optimiser, dtype, 2)
    baseline = memory_mb("VmHWM")
    times, before, after, weights, state = run_training(
        (QUICK if quick else SIZES)[where], samples, optimiser, dtype, 5 if quick else steps
    )
    beyond = memory_mb("VmHWM") - baseline - weights - state
    return [f"{optimiser}, {dtype}, {samples} samples", len(times), f"{1e3 * statistics.median(times):.1f}",
            f"{weights:.0f}", f"{state:.0f}", f"{beyond:.0f}", f"{before:.3f}", f"{after:.3f}"]  # fmt: skip


def clustered(size, count=32):
    """A head whose classes lie around common directions, offsets as of frequencies, and rows near classes."""
    classes, depth, _ = size
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(max(1, classes // 100), depth, generator=generator)
    head = nx.nn.SoftmaxHead(depth, classes).requires_grad_(requires_grad=False)
    head.weight.normal_(generator=generator).mul_(0.5)
    for first in range(0, classes, 100_000):
        part = head.weight[first : first + 100_000]
        part += centres[torch.arange(first, first + len(part)) % len(centres)]
    head.weight.mul_(2.5 / depth**0.5)
    head.bias.copy_(-0.3 * torch.log1p(torch.arange(float(classes))))
    rows = head.weight[torch.randint(classes, (count,), generator=generator)] * depth**0.5 / 2.5
    return head, rows + 0.3 * torch.randn(count, depth, generator=generator)


def torch_top_k(head, x):
    return torch.softmax(torch.nn.functional.linear(x, head.weight, head.bias), -1).topk(5)


def our_top_k(head, x):
    return head.top_k(x, 5)


def top_k_times(quick):
    """Both in turns: seconds of each, and what their answers differ by."""
    head, x = clustered((QUICK if quick else SIZES)["million"])
    times = {our_top_k: [], torch_top_k: []}
    ours, theirs = our_top_k(head, x), torch_top_k(head, x)
    for _ in range(3 if quick else 15):
        for function, seen in times.items():
            start = time.perf_counter()
            function(head, x)
            seen.append(time.perf_counter() - start)
    a, b = (1e3 * statistics.median(seen) for seen in times.values())
    same = (ours.index == theirs.indices).float().mean().item()
    return ["normexp / torch", f"{a:.0f} / {b:.0f}", f"{b / a:.2f}", f"{100 * same:.1f} %"]


def top_k_memory(quick, who):
    """What a call adds to the memory of the process."""
    function = {"normexp": our_top_k, "torch": torch_top_k}[who]
    function(*clustered((2_000, 16, 32)))
    head, x = clustered((QUICK if quick else SIZES)["million"])
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_mb("VmRSS")
    function(head, x)
    return [who, f"{memory_mb('VmHWM') - before:.0f}"]


def approximate(quick, candidates, samples, storage):
    """Building, asking, and how near the answers are to the exact ones."""
    size = (QUICK if quick else SIZES)["million"]
    nx.nn.ClassIndex(clustered((2_000, 16, 32))[0], candidates=64)
    head, rows = clustered(size, 32 + 256)
    x, known = rows[:32], rows[32:]
    before = memory_mb("VmRSS")
    start = time.perf_counter()
    index = nx.nn.ClassIndex(head, candidates=candidates, samples=samples, storage=storage, rng=0)
    build_s = time.perf_counter() - start
    index_mb = memory_mb("VmRSS") - before
    exact = head.top_k(x, 5)
    best = head.logits_of(x, exact.index[:, :1]).double().squeeze(1)
    truth = best - exact.log_prob[:, 0].double()

    def held():
        rates = []
        for _ in range(20):
            found = index.top_k(x, 5)
            first = head.logits_of(x, found.index[:, :1]).double().squeeze(1)
            low, high = (first - torch.log(end[:, 0].double()) for end in (found.high, found.low))
            rates.append((low - 1e-6 <= truth) & (truth <= high + 1e-6))
        return 100 * torch.stack(rates).double().mean().item()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nx.NormexpWarning)  # that it is not calibrated
        held_before = held()
    index.calibrate(known)
    held_after = held()
    times, alone, errors = [], [], []
    for _ in range(20):
        start = time.perf_counter()
        found = index.top_k(x, 5)
        times.append(time.perf_counter() - start)
        errors.append((found.log_normaliser - truth).abs().median().item())
    for _ in range(5):
        start = time.perf_counter()
        head.top_k(x, 5)
        alone.append(time.perf_counter() - start)
    wide = index.top_k(x, candidates)
    of_candidates = torch.logsumexp(head.logits_of(x, wide.index).double(), 1)
    recall = (found.index[:, :, None] == exact.index[:, None, :]).any(-1).float().mean().item()
    return [f"{candidates} + {samples}, {storage}", f"{build_s:.0f}", f"{index_mb:.0f}",
            f"{1e3 * statistics.median(times):.0f} / {1e3 * statistics.median(alone):.0f}", f"{100 * recall:.1f} %",
            f"{statistics.median(errors):.4f}", f"{found.error.median().item():.4f}",
            f"{held_before:.0f} / {held_after:.0f} %", f"{(truth - of_candidates).median().item():.3f}"]  # fmt: skip


TRAINING = ["optimiser", "steps", "ms a step", "W, MB", "state, MB", "beyond both, MB", "loss before", "after"]
PARTS = {
    "train": (
        "Training, 1 000 000 x 128, batch 256",
        TRAINING,
        [
            (train, ["million", 1_024, "RowAdagrad", "float32", 60]),
            (train, ["million", 8_192, "RowAdagrad", "float32", 60]),
            (train, ["million", 1_024, "torch SGD", "float32", 60]),
            (train, ["million", 1_024, "torch SparseAdam", "float32", 60]),
            (train, ["million", 1_024, "torch Adagrad, dense gradients", "float32", 5]),
        ],
    ),
    "top_k": ("top_k(5), exact, 1 000 000 x 128, batch 32", ["by", "ms", "torch / normexp", "same classes"],
              [(top_k_times, [])]),
    "memory": ("Memory of the same", ["by", "extra peak MB"], [(top_k_memory, ["normexp"]), (top_k_memory, ["torch"])]),
    "index": (
        "top_k(5) through the index, the same head and rows (times: index / exact, 32 rows)",
        ["candidates + samples", "build, s", "index, MB", "ms", "recall of 5", "median error of log Z", "stated",
         "95 % intervals hold: as built / calibrated on 256 rows", "log Z of candidates alone is short by"],
        [(approximate, [256, 4_096, "int8"])],
    ),
    "ten": (
        "Training, 10 000 000 x 64, batch 256",
        TRAINING,
        [(train, ["ten million", 1_024, how, dtype, 600]) for how, dtype in (
            ("RowAdagrad", "bfloat16"), ("RowAdagrad", "float16"), ("RowAdagrad, rounding to nearest", "bfloat16"))],
    ),
}  # fmt: skip
FUNCTIONS = {f.__name__: f for f in (train, top_k_times, top_k_memory, approximate)}


def row_of(function, arguments, quick):
    """The row, measured in a process of its own."""
    given = [arguments[0], quick, *arguments[1:]] if function is train else [quick, *arguments]
    asked = json.dumps([function.__name__, given])
    done = subprocess.run([sys.executable, __file__, "--row", asked], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{asked} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Measure, print, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    if given.row:
        name, arguments = json.loads(given.row)
        print(json.dumps(FUNCTIONS[name](*arguments)))
        return
    versions = f"normexp {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    lines = [
        "# Heads of a million classes and more",
        "",
        f"Machine: {processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the run; {versions}.",
        *(["Small sizes: `--quick`."] if given.quick else []),
    ]
    print("\n".join(lines))
    for part in given.only or PARTS:
        title, heads, rows = PARTS[part]
        table = ["", f"## {title}", "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        print("\n".join(table), flush=True)
        for function, arguments in rows:
            table.append(f"| {' | '.join(map(str, row_of(function, arguments, given.quick)))} |")
            print(table[-1], flush=True)
        lines += table
    if given.output:
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
