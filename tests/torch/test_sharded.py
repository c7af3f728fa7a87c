"""The sharded head in two and three real processes: the same numbers as one, and no rank left waiting."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import normexp as nx

WORKER = Path(__file__).parents[1] / "torch_sharded_worker.py"
MOST_S = 240  # for processes that share a busy core; a hang is what it is for


def run_ranks(world, *what):
    """What rank 0 prints; every rank must end by itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, str(WORKER), *map(str, what)],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
                 "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(world)
    ]  # fmt: skip
    try:
        said = [rank.communicate(timeout=MOST_S) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    for rank, (_, errors) in zip(ranks, said, strict=True):
        assert rank.returncode == 0, errors
    return [out.strip().splitlines() for out, _ in said]


@pytest.mark.parametrize("world", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_sharded_is_unsharded(world, tmp_path):
    """Losses, gradients and top-k are compared in the ranks; a checkpoint of three is loaded on two, and on none."""
    for lines in run_ranks(world, "same", tmp_path):
        assert lines[-1] == "the same"
    if world == 3:
        for lines in run_ranks(2, "load", tmp_path):
            assert lines[-1] == "loaded"


def test_ranks_fail_together():
    """Rank 1 alone has a wrong target: rank 1 says which, rank 0 says that another rank failed; nobody hangs."""
    first, second = run_ranks(2, "wrong")
    assert "2 ranks share 1 classes" in first[0]
    assert "another rank refused" in first[-1]
    assert "target of row 2 is 99" in second[-1]


def test_without_a_process_group_it_says_what_to_do():
    with pytest.raises(nx.NormexpError, match="no process group"):
        nx.nn.ShardedHead(3, 4)
    assert not torch.distributed.is_initialized()
