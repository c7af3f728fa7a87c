"""Speed, memory and errors of the functions on arrays, rivals taking turns: the tables of ``normexp bench ops``.

    python bench/ops.py [--quick] [--output bench/results/ops.md]

Rivals are torch, JAX and SciPy where they are installed.
"""

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from machine import processor
from normexp import __version__
from normexp.cli.ops_table import all_tables, cell_text

PACKAGES = ("numpy", "scipy", "numba", "torch", "jax")
QUIET = 1.5  # a higher load than this, before the run, means that others compute here


def versions() -> str:
    """The packages that took part."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def main() -> None:
    """Measure, print, and write the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    lines = [
        "# Functions on arrays",
        "",
        f"Machine: {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        f"normexp {__version__}, {versions()}; written by `bench/ops.py`.",
        "",
    ]
    if load > QUIET:
        lines += [
            f"Other work ran on these cores (load {load:.1f} before the run). All took turns, so the ratios tell more",
            "than the times; neither is what a quiet machine gives.",
            "",
        ]
    print("\n".join(lines))
    for table in all_tables(quick=given.quick):
        part = [f"## {table.title}", "", "| " + " | ".join(table.columns) + " |", "|---" * len(table.columns) + "|"]
        part += ["| " + " | ".join(cell_text(cell) for cell in row) + " |" for row in table.rows] + [""]
        print("\n".join(part), flush=True)
        lines += part
    if given.output:
        given.output.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
