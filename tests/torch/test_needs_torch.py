"""Whether the tests of this folder can run at all."""

from importlib.util import find_spec

import pytest


def test_torch_is_there():
    found = find_spec("torch")
    if not (found and found.origin):
        pytest.skip("torch is not installed, so the tests in tests/torch are left out; pip install 'normexp[torch]'")
    assert find_spec("torch.library") is not None
