"""Floor 1: loops. Two-dimensional C-contiguous rows in, ``out`` filled; no checks, no choices."""
