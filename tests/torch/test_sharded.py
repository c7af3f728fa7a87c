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
        for lines in run_ranks(2, "other", tmp_path):
            assert "ArtifactError: ShardedHead.load_sharded" in lines[-1]


def test_ranks_fail_together():
    """Whatever one rank is given, both end with a sentence, in turn, and the head still works afterwards."""
    refused, alone = "another rank refused", "another rank "
    wanted = [
        ("2 ranks share 1 classes", "2 ranks share 1 classes"),
        (f"RangeError: ShardedHead: {refused}", "num_classes is 0"),
        ("num_classes=11, bias=True, dtype=torch.float32 and another rank", "num_classes=12"),
        ("dtype=torch.float32 and another rank", "dtype=torch.float64 and another rank"),
        (refused, "target of row 2 is 99"),
        ("this rank has 3 rows that count, and another rank other rows", "this rank has 2 rows"),
        ("the same batch on every rank", "the same batch on every rank"),
        (refused, "weight holds a negative number"),
        (f"ShardedHead.log_prob: {refused}", "x has shape (3, 2)"),
        (f"ShardedHead.top_k: {refused}", "k is 12"),
        ("x of shape (3, 6) and k 2, and another rank", "x of shape (1, 6) and k 2, and another rank"),
        (refused, "x has dtype int64"),
        ("no error", "no error"),
    ]
    first, second = run_ranks(2, "wrong")
    assert len(first) == len(second) == len(wanted)
    for said, (of_first, of_second) in zip(zip(first, second, strict=True), wanted, strict=True):
        assert of_first in said[0]
        assert of_second in said[1]
    assert alone in first[2]


def test_a_rank_that_never_comes_does_not_keep_the_others_waiting():
    first, second = run_ranks(2, "absent")
    assert first[-1].startswith("ClusterError: ShardedHead.loss: a rank did not answer")
    assert second == ["gone"]


def test_without_a_process_group_it_says_what_to_do():
    with pytest.raises(nx.NormexpError, match="no process group"):
        nx.nn.ShardedHead(3, 4)
    assert not torch.distributed.is_initialized()
