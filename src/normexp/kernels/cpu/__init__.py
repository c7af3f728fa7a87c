"""Loops for the CPU, compiled by Numba on first use. One file per piece of mathematics; ``__init__`` imports none."""
