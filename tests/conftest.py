"""What all tests share: Hypothesis profiles, a seeded generator, and the folder of real data sets."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

REPO = Path(__file__).resolve().parent.parent
SHARED_DATA = REPO.parent / "shared" / "data"

# deadline=None: the first call of a kernel compiles it. derandomize: the same examples in every run.
_SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.data_too_large]
# The quick profile does not shrink what it finds, which can take minutes: run the long one on a failing test.
settings.register_profile(
    "quick",
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=_SLOW_MACHINES,
)
settings.register_profile(
    "long", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=_SLOW_MACHINES
)
settings.load_profile(os.environ.get("NORMEXP_HYPOTHESIS", "quick"))


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that starts at the same seed in every test."""
    return np.random.default_rng(20_240_229)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the repository; its tests are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real data sets are not here: {SHARED_DATA} is no folder")
    return SHARED_DATA
