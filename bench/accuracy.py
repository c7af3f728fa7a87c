"""Worst errors of the functions in ULP, over the logits of the tests: the measured side of docs/numerics.md.

    python bench/accuracy.py [--output bench/results/accuracy.md]

Prediction, written before the first run: float32 and float64 stay at half of what is promised but for softmax of
float32 (2.0 of 2.2), gradients stay below 1.5, 16-bit results at 0.5 and a little, and no true class's gradient is
falsely 0.
"""

import argparse
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("tests", "tests/ops")]

import test_accuracy as accuracy  # noqa: E402  (found on the path above)

from oracle import PROMISED  # noqa: E402  (found on the path above)
from strategies import FAMILIES, FLOATS  # noqa: E402  (found on the path above)

CLASSES = [1, 2, 3, 7, 10, 17, 100, 1_000, 50_257]
NAMES = {
    "prob": "softmax",
    "log_prob": "log_softmax",
    "lse": "logsumexp",
    "loss": "cross_entropy",
    "grad": "its gradient, every entry",
}
AT_LEAST_FLOAT32 = ("lse", "loss")  # of 16-bit logits too


def rows() -> list[str]:
    """One line for each function and dtype."""
    found = []
    for what, name in NAMES.items():
        for dtype in FLOATS:
            result = np.dtype(np.float32) if what in AT_LEAST_FLOAT32 and dtype.itemsize == 2 else dtype
            sizes = CLASSES if dtype.itemsize > 2 else CLASSES[:-1]
            error, family, size = max((*accuracy.worst(accuracy.Ours, what, n, dtype), n) for n in sizes)
            promised = PROMISED[accuracy.KIND[what]][result]
            found.append(f"| {name} | {dtype} | {result} | {error:.3f} | {promised:g} | {family}, {size} classes |")
    return found


def falsely_zero() -> list[str]:
    """How many of the true classes' gradients are 0 that the dtype has a number for."""
    found = []
    for dtype in FLOATS[2:]:
        for label, way in (("normexp", accuracy.Ours), ("textbook", accuracy.Textbook)):
            wrong = real = 0
            for name in FAMILIES:
                for n_classes in CLASSES[1:-1]:
                    c = accuracy.case(name, n_classes, dtype)
                    with np.errstate(all="ignore"):
                        counts = accuracy.falsely_zero(way.grad(c), c)
                    wrong, real = wrong + counts[0], real + counts[1]
            found.append(f"| {dtype} | {label} | {wrong} | {real} |")
    return found


def main() -> None:
    """Measure, print, and write the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    lines = ["# Errors of the functions", "", __doc__.split("\n\n")[2].strip(), ""]
    lines += [
        f"Machine: {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__},",
        f"numba {version('numba')}; written by `bench/accuracy.py`. The load of the machine does not matter.",
        "",
        "| function | logits | result | worst error, ULP | promised | where |",
        "|---|---|---|---|---|---|",
        *rows(),
        "",
        "True classes' gradients that are 0 although the dtype has a number for them:",
        "",
        "| logits | by | falsely 0 | of |",
        "|---|---|---|---|",
        *falsely_zero(),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if given.output:
        given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
