"""These tests need torch; without it they are skipped, and say so."""

import importlib.util

import pytest

# tests/torch is itself a folder "torch" on the path, so the name alone proves nothing
HAS_TORCH = importlib.util.find_spec("torch.library") is not None if importlib.util.find_spec("torch") else False
collect_ignore = [] if HAS_TORCH else ["cases.py"]


class _Absent(pytest.Module):
    """A test file that cannot be run."""

    def collect(self):
        pytest.skip("torch is not installed; pip install 'normexp[torch]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    """Skip the files of this folder without torch, before their imports fail."""
    if not HAS_TORCH and module_path.name.startswith("test_"):
        return _Absent.from_parent(parent, path=module_path)
    return None
