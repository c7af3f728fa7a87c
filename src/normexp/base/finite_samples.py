"""What n scores promise of the next one, when all of them come in any order alike (split conformal prediction)."""

import math

# Taken off before rounding up: (9 + 1) * 0.9 must be 9 and not the next whole number.
ROUNDING = 1e-9


def finite_sample_rank(n_rows: int, share: float) -> int:
    """Which of n sorted scores bounds a new one with probability `share`: ceil((n + 1) share); above n if none does."""
    return max(1, math.ceil((n_rows + 1) * share - ROUNDING))


def fewest_rows(share: float) -> int:
    """How many scores it takes until one of them bounds a new one with probability `share`: share / (1 - share)."""
    return math.ceil(share / (1.0 - share) - ROUNDING)
