"""Which liberties the compiler has, by name.

Every kernel states its flags, because Numba hands a caller's flags down to inlined callees that
state none. ``nnan`` and ``ninf`` never appear (-inf is a legal logit, NaN must stay NaN), and
``reassoc``, ``arcp`` and ``afn`` never either: the order of every sum is part of the promise
that results are bitwise reproducible.
"""

FUSED = {"contract", "nsz"}
"""A product and a sum may become one fused operation: polynomials, scaling."""

EXACT = {"nsz"}
"""Every operation rounds by itself: wherever a rounding error is computed and carried."""
