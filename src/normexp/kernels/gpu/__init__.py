"""Loops over rows in Triton: strided rows in, ``out`` filled; no checks, no choices."""
