"""How strange a row looks from its logits alone; larger is stranger."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from normexp.decide.door import Floats
from normexp.metrics.door import BLOCK_ELEMENTS
from normexp.ops import energy, generalised_entropy, log_softmax, max_logit

NORM: Final = 4.0  # of the p-norm: within the range 3 to 7 that Cattelan & Silva (2023) find to matter little


def msp(z: Floats) -> Floats:
    """Minus the log of the largest probability."""
    return np.asarray(-np.asarray(log_softmax(z)).max(axis=1))


def lacking_logit(z: Floats) -> Floats:
    """Minus the largest logit."""
    return np.asarray(-np.asarray(max_logit(z)))


def p_norm(z: Floats) -> Floats:
    """Minus the largest of the centred logits in units of their p-norm."""
    finite = np.where(np.isneginf(z), np.nan, z)
    centred = finite - np.nanmean(finite, axis=1, keepdims=True)
    largest = np.nanmax(np.abs(centred), axis=1, keepdims=True)
    centred /= np.where(largest > 0.0, largest, 1.0)  # the fourth power of 1e80 overflows, and that of 1e-90 is 0
    size = np.nansum(np.abs(centred) ** NORM, axis=1) ** (1.0 / NORM)
    return -np.asarray(np.nanmax(centred, axis=1) / np.where(size > 0.0, size, 1.0))


LOGIT_SCORES: Final[Mapping[str, Callable[[Floats], Floats]]] = MappingProxyType(
    {"gen": generalised_entropy, "max_logit": lacking_logit, "energy": energy, "msp": msp, "p_norm": p_norm}
)


def logit_score(kind: str, logits: NDArray[Any], /) -> Floats:
    """The score of each row, (N,), a block of rows at a time."""
    out = np.empty(logits.shape[0])
    step = max(1, BLOCK_ELEMENTS // logits.shape[1])
    for start in range(0, logits.shape[0], step):
        out[start : start + step] = LOGIT_SCORES[kind](logits[start : start + step].astype(np.float64))
    return out
