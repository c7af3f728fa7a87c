"""Speed and memory of the Triton kernels on a GPU, rivals taking turns, against a copy on the device.

    python bench/gpu/bench_gpu.py [--quick] [--output bench/results/gpu.md]

The published figures to be reached, written down before any run: at least 85 % of the copy's bytes per second for
softmax and cross-entropy of up to 65 536 columns, at least 65 % beyond; the fused head in about 1.2 GB (cut
cross-entropy, Wijmans et al. (2024), where plain torch takes 28 GB). A share counts the bytes that the result needs at
least: reading the logits once, and writing what comes out.
"""

import argparse
import platform
import statistics
import sys
from pathlib import Path

TARGETS = ((65_536, 0.85), (None, 0.65))
SIZES = ((32_768, 256), (16_384, 4_096), (8_192, 16_384), (4_096, 32_768), (4_096, 65_536), (1_024, 262_144))
HEAD = (8_192, 2_304, 256_000)  # tokens, features, classes: those of the published figure


def elapsed_ms(functions, repeats):
    """The median time of each function, all taking turns; the device's second-level cache is emptied before each."""
    import torch

    flush = torch.empty(1 << 28, dtype=torch.int8, device="cuda")
    times = {name: [] for name in functions}
    for function in functions.values():
        for _ in range(3):
            function()
    for _ in range(repeats):
        for name, function in functions.items():
            flush.zero_()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            torch.cuda.synchronize()
            times[name].append(start.elapsed_time(end))
    return {name: statistics.median(found) for name, found in times.items()}


def peak_bytes(function):
    """What a call takes at most beyond what was there before it."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    kept = function()
    torch.cuda.synchronize()
    del kept
    return torch.cuda.max_memory_allocated() - before


def row_functions(logits, target):
    """(name, bytes moved, our function, torch's) of each op on rows."""
    import torch

    import normexp as nx

    size = logits.numel() * logits.element_size()
    watched = logits.clone().requires_grad_()

    def ours():
        watched.grad = None
        nx.cross_entropy(watched, target).backward()

    def theirs(z, t):
        return torch.nn.functional.cross_entropy(z.float(), t)

    def both(function):
        watched.grad = None
        function(watched, target).backward()

    yield "softmax", 2 * size, lambda: nx.softmax(logits), lambda z, _: torch.softmax(z, -1), None
    yield "log_softmax", 2 * size, lambda: nx.log_softmax(logits), lambda z, _: torch.log_softmax(z, -1), None
    yield "cross_entropy", size, lambda: nx.cross_entropy(logits, target), theirs, None
    yield "cross_entropy, forward and backward", 3 * size, ours, theirs, both
    yield "top_k(5)", size, lambda: nx.top_k(logits, 5), lambda z, _: torch.topk(torch.softmax(z, -1), 5), None


def row_table(dtype, repeats, sizes):
    """Lines of the table of one dtype."""
    import torch

    lines = [
        "| function | rows x columns | ms | share of the copy | target | eager torch | torch.compile |",
        "|---" * 7 + "|",
    ]
    for count, classes in sizes:
        logits = torch.randn(count, classes, device="cuda").to(dtype)
        target = torch.randint(0, classes, (count,), device="cuda")
        other = torch.empty_like(logits)
        for name, moved, ours, theirs, both in row_functions(logits, target):
            torch.compiler.reset()
            compiled = torch.compile(theirs)

            def run(function, both=both, logits=logits, target=target):
                return both(function) if both else function(logits, target)

            functions = {
                "copy": lambda logits=logits, other=other: other.copy_(logits),
                "ours": ours,
                "eager": lambda run=run, theirs=theirs: run(theirs),
                "compiled": lambda run=run, compiled=compiled: run(compiled),
            }
            ms = elapsed_ms(functions, repeats)
            copied = 2 * logits.numel() * logits.element_size() / ms["copy"]
            share = {key: moved / ms[key] / copied for key in ("ours", "eager", "compiled")}
            aim = next(part for most, part in TARGETS if most is None or classes <= most)
            wanted = f"{aim:.0%}" if not name.startswith("top_k") else ""
            lines.append(
                f"| {name} | {count} x {classes} | {ms['ours']:.3f} | {share['ours']:.0%} | {wanted} | "
                f"{share['eager']:.0%} | {share['compiled']:.0%} |"
            )
    return lines


def head_table(repeats, shape):
    """The fused head, forward and backward, in bfloat16: time and peak memory; torch where it fits."""
    import torch

    import normexp as nx

    count, depth, classes = shape
    x = torch.randn(count, depth, device="cuda", dtype=torch.bfloat16)
    projection = torch.randn(classes, depth, device="cuda", dtype=torch.bfloat16) / depth**0.5
    target = torch.randint(0, classes, (count,), device="cuda")

    def ours():
        return nx.linear_cross_entropy_with_grad(x, projection, target)

    def torch_like():
        a, b = x.clone().requires_grad_(), projection.detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy((a @ b.T).float(), target)
        loss.backward()
        return loss.detach(), a.grad, b.grad

    lines = ["| head | ms | peak memory beyond the inputs, MB | loss |", "|---|---|---|---|"]
    for name, function in (("normexp", ours), ("torch", torch_like), ("torch.compile", torch.compile(torch_like))):
        try:
            ms = elapsed_ms({name: function}, repeats)[name]
            peak = peak_bytes(function)
            lines.append(f"| {name} | {ms:.1f} | {peak / 1e6:.0f} | {float(function()[0]):.6f} |")
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            lines.append(f"| {name} | does not fit | | |")
    return [f"{count} tokens, {depth} features, {classes} classes, bfloat16, forward and backward", "", *lines]


def main() -> None:
    """Measure, print, and write the tables as Markdown; refuse without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats: to see that it runs")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    try:
        import torch
    except ModuleNotFoundError:
        sys.exit("bench_gpu: torch is not installed; pip install 'normexp[gpu]' on a machine with a CUDA device.")
    if not torch.cuda.is_available():
        sys.exit("bench_gpu: torch sees no CUDA device; run it on a machine that has one, with a CUDA build of torch.")
    try:
        import triton
    except ModuleNotFoundError:
        sys.exit("bench_gpu: triton is not installed, so plain torch would be measured; pip install 'normexp[gpu]'.")
    from normexp import __version__

    repeats, sizes, head = (5, SIZES[:2], (512, 256, 16_000)) if given.quick else (50, SIZES, HEAD)
    lines = [
        "# On a GPU",
        "",
        f"{torch.cuda.get_device_name()}, Python {platform.python_version()}, normexp {__version__},",
        f"torch {torch.__version__}, triton {triton.__version__}; written by `bench/gpu/bench_gpu.py`.",
    ]
    for dtype in (torch.float32, torch.bfloat16):
        lines += ["", f"## Rows, {str(dtype).removeprefix('torch.')}", "", *row_table(dtype, repeats, sizes)]
    lines += ["", "## Fused head", "", *head_table(max(3, repeats // 5), head)]
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if given.output:
        given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
