"""The cases of this folder run in a process of their own, which ``test_kernels.py`` starts.

Triton decides when it is imported whether kernels are compiled or interpreted, so the choice must be made before
anything else in the process imports it: that is ``TRITON_INTERPRET``, 1 without a GPU and 0 with one.
"""

import os

import pytest

IN_OWN_PROCESS = "TRITON_INTERPRET" in os.environ
collect_ignore_glob = [] if IN_OWN_PROCESS else ["cases_*.py"]


@pytest.fixture
def device():
    """The GPU where there is one; CPU memory under the interpreter."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def launched(monkeypatch):
    """Every launch as (name of the kernel, its constants)."""
    from normexp.backends import gpu, gpu_head

    seen, launch = [], gpu.launch

    def recorded(kernel, grid, *given, **constants):
        seen.append((kernel.__name__, constants))
        launch(kernel, grid, *given, **constants)

    monkeypatch.setattr(gpu, "launch", recorded)
    monkeypatch.setattr(gpu_head, "launch", recorded)
    return seen


@pytest.fixture(params=["single", "multi"])
def branch(request, monkeypatch, launched):
    """Rows in one tile, or cut into tiles of 16 columns; the kernels that ran must have taken that branch.

    Eight rows to a program, where a long row has one to itself, keep the interpreter quick.
    """
    from normexp.backends import gpu

    if request.param == "multi":
        monkeypatch.setattr(gpu, "plan", lambda _: gpu.Plan("multi", 8, 16, 4))
    yield request.param
    over_rows = [constants["WHOLE"] for _, constants in launched if "WHOLE" in constants]
    assert over_rows
    assert set(over_rows) == {request.param == "single"}
