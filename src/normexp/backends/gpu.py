"""CUDA tensors to the Triton kernels: shapes, strides, tiles, launches. Inputs were checked by those who call.

Importing this needs torch and triton; ``tensors.on_gpu`` does so when it meets a CUDA tensor. Under Triton's
interpreter (``TRITON_INTERPRET=1``) the same launches take tensors in CPU memory, slowly: that is how they are tested
without a GPU.
"""

from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import torch
import triton

from normexp.kernels.gpu import cross_entropy as _cross_entropy
from normexp.kernels.gpu import softmax as _softmax
from normexp.kernels.gpu import topk as _topk

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
MOST_WHOLE = 16384  # columns of a row in registers: 32 float32 for each of 512 threads
TILE = 4096  # columns at a time of a longer row
MOST_BEST = 128  # classes that top_k keeps in registers


class Plan(NamedTuple):
    """How rows of this length are cut; it depends on nothing else, so no result depends on the batch."""

    branch: Literal["single", "multi"]
    rows: int  # of one program
    columns: int  # of one tile, a power of 2
    warps: int

    @property
    def constants(self) -> dict[str, Any]:
        """As the kernels call them."""
        whole = self.branch == "single"
        return {"WHOLE": whole, "ROWS": self.rows, "COLS": self.columns, "num_warps": self.warps}


def plan(classes: int) -> Plan:
    """One tile where a row fits, several short rows together; else tile after tile, with no limit."""
    if classes > MOST_WHOLE:
        return Plan("multi", 1, TILE, 8)
    columns = max(16, triton.next_power_of_2(classes))
    rows = max(1, 1024 // columns)
    return Plan("single", rows, columns, min(16, max(4, rows * columns // 1024)))


def computes(tensor: Any) -> bool:
    """Whether the kernels take this tensor: one of CUDA, or any under the interpreter."""
    on_device = tensor.is_cuda or (tensor.device.type == "cpu" and triton.knobs.runtime.interpret)
    return on_device and tensor.dtype in DTYPES


def launch(kernel: Any, grid: tuple[int, ...], *given: Any, **constants: Any) -> None:
    """Run a kernel on the device of its first argument."""
    if not all(grid):
        return
    device = torch.cuda.device(given[0].device) if given[0].is_cuda else nullcontext()
    with device:
        kernel[grid](*given, **constants, enable_fp_fusion=True)  # the kernels are right with it and without


def over_rows(kernel: Any, count: int, classes: int, *given: Any, **constants: Any) -> None:
    """Run a kernel whose programs take some rows each."""
    cut = plan(classes)
    launch(kernel, (triton.cdiv(count, cut.rows),), *given, **cut.constants, **constants)


def softmax(logits: Any, heat: Any, *, log: bool) -> Any:
    """Softmax of rows (N, K), or its log, in a fresh tensor; heat None or (N,) float64, positive and finite."""
    count, classes = logits.shape
    out = torch.empty((count, classes), dtype=logits.dtype, device=logits.device)
    if classes:
        given = (logits, logits if heat is None else heat, out, count, classes, *logits.stride())
        strides = (0 if heat is None else heat.stride(0), classes)
        over_rows(_softmax.softmax_rows, count, classes, *given, *strides, LOG=log, HEAT=heat is not None)
    return out


def logsumexp(logits: Any) -> Any:
    """Log-sum-exp of rows (N, K), float32 (N,)."""
    count, classes = logits.shape
    out = torch.full((count,), -torch.inf, dtype=torch.float32, device=logits.device)
    if classes:
        over_rows(_softmax.logsumexp_rows, count, classes, logits, out, count, classes, *logits.stride())
    return out


def numbers(like: Any, *values: float) -> Any:
    """Float64 numbers on the device: a scalar argument of a kernel would be float32."""
    return torch.tensor(values, dtype=torch.float64, device=like.device)


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any,
    *,
    smoothing: float,
    z_loss: float,
    pulls: Any = None,
    wants_loss: bool = True,
) -> tuple[Any, Any]:
    """Losses (N,) float64 of rows (N, K), and with pulls (N,) float64 the gradient (N, K); else None for either.

    target (N,) int64, -1 where the row is ignored; weight (N,) float64, of the row.
    """
    count, classes = logits.shape
    losses = torch.zeros(count if wants_loss else 0, dtype=torch.float64, device=logits.device)
    grad = None if pulls is None else torch.zeros((count, classes), dtype=logits.dtype, device=logits.device)
    if classes:
        over_rows(
            _cross_entropy.cross_entropy_rows, count, classes,
            logits, target.contiguous(), weight.contiguous(), weight if pulls is None else pulls,
            numbers(logits, smoothing, z_loss), losses, logits if grad is None else grad, count, classes,
            *logits.stride(), 0 if pulls is None else pulls.stride(0), classes,
            LOSS=wants_loss, GRAD=grad is not None, SMOOTH=smoothing != 0.0,
        )  # fmt: skip
    return (losses if wants_loss else None), grad


def top_k(logits: Any, k: int) -> tuple[Any, Any, Any]:
    """Probabilities, their logs and the classes (int64) of the k largest logits of rows (N, K), 1 <= k <= MOST_BEST."""
    count, classes = logits.shape
    prob = torch.empty((count, k), dtype=logits.dtype, device=logits.device)
    log_prob = torch.empty_like(prob)
    index = torch.empty((count, k), dtype=torch.int64, device=logits.device)
    given = (logits, prob, log_prob, index, count, classes, *logits.stride(), k)
    over_rows(_topk.top_k_rows, count, classes, *given, K=triton.next_power_of_2(k))
    return prob, log_prob, index
