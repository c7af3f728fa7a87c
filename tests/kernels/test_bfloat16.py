"""The last addition to a sum in float32, rounded to bfloat16: against ml_dtypes, bit for bit."""

import ml_dtypes
import numpy as np

from normexp.kernels.cpu import bfloat16


def test_the_last_number_of_a_sum_is_added_and_rounded_to_even_once():
    rng = np.random.default_rng(0)
    total = rng.standard_normal((40, 70)).astype(np.float32)
    part = rng.standard_normal((40, 70)).astype(ml_dtypes.bfloat16)
    total[0, :6] = [np.inf, np.nan, -np.inf, 1.0, 1.0 + 2.0**-7, np.finfo(np.float32).max]
    part[0, :6] = [1.0, 1.0, np.inf, 2.0**-8, 2.0**-8, 1.0]  # two ties, to even down and up
    before = total.copy()
    with np.errstate(invalid="ignore"):
        wanted = (total + part.astype(np.float32)).astype(ml_dtypes.bfloat16)
        cut_off = ((total + part.astype(np.float32)).view(np.uint32) >> 16).astype(np.uint16).view(ml_dtypes.bfloat16)
    found = np.empty_like(part)
    bfloat16.sum_rows(part.view(np.uint16), total, found.view(np.uint16))
    np.testing.assert_array_equal(found.astype(np.float32), wanted.astype(np.float32))
    np.testing.assert_array_equal(total, before)
    assert (cut_off != wanted).mean() > 0.3  # what truncation would answer
