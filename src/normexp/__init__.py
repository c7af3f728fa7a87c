"""normexp: the softmax output layer, done right.

Features, embeddings or logits in; probabilities that people can act on out.

>>> import normexp as nx
>>> nx.softmax([2.0, 1.0, 0.1]).round(8)
array([0.65900114, 0.24243297, 0.09856589])
"""

import importlib
from typing import TYPE_CHECKING, Any

from normexp._version import __version__

# Public name -> the module that holds it. Loaded on first use, so that ``import normexp`` costs
# no more than NumPy: neither Numba, torch, matplotlib nor scikit-learn is imported before it is needed.
_HOME = {
    "NormexpError": "normexp.base.errors",
    "NormexpWarning": "normexp.base.errors",
    "softmax": "normexp.ops",
    "log_softmax": "normexp.ops",
    "logsumexp": "normexp.ops",
    "cross_entropy": "normexp.ops",
    "cross_entropy_with_grad": "normexp.ops",
    "softmax_jacobian": "normexp.ops",
    "softmax_jvp": "normexp.ops",
    "softmax_vjp": "normexp.ops",
    "energy": "normexp.ops",
    "entropy": "normexp.ops",
    "generalised_entropy": "normexp.ops",
    "margin": "normexp.ops",
    "max_logit": "normexp.ops",
    "top_k": "normexp.ops",
    "segment_softmax": "normexp.ops",
    "entmax": "normexp.ops",
    "sparsemax": "normexp.ops",
    "gumbel_softmax": "normexp.ops",
    "sample": "normexp.ops",
    "linear_cross_entropy": "normexp.ops",
    "linear_cross_entropy_with_grad": "normexp.ops",
    "set_kept_memory": "normexp.ops",
    "set_num_threads": "normexp.ops",
    "get_num_threads": "normexp.ops",
    "SoftmaxClassifier": "normexp.linear_model",
    "SoftmaxClassifierCV": "normexp.linear_model",
    "TrustedClassifier": "normexp.trusted",
    "save": "normexp.artifact",
    "load": "normexp.artifact",
}
_FLOORS = (
    "artifact",
    "base",
    "calibration",
    "decide",
    "explain",
    "linear_model",
    "metrics",
    "nn",
    "ops",
    "report",
    "rows",
    "solvers",
    "tables",
    "trusted",
)

__all__ = ["__version__", *_HOME]  # noqa: PLE0604  (all are strings)

if TYPE_CHECKING:
    from normexp.artifact import load as load
    from normexp.artifact import save as save
    from normexp.base.errors import NormexpError as NormexpError
    from normexp.base.errors import NormexpWarning as NormexpWarning
    from normexp.linear_model import SoftmaxClassifier as SoftmaxClassifier
    from normexp.linear_model import SoftmaxClassifierCV as SoftmaxClassifierCV
    from normexp.ops import cross_entropy as cross_entropy
    from normexp.ops import cross_entropy_with_grad as cross_entropy_with_grad
    from normexp.ops import energy as energy
    from normexp.ops import entmax as entmax
    from normexp.ops import entropy as entropy
    from normexp.ops import generalised_entropy as generalised_entropy
    from normexp.ops import get_num_threads as get_num_threads
    from normexp.ops import gumbel_softmax as gumbel_softmax
    from normexp.ops import linear_cross_entropy as linear_cross_entropy
    from normexp.ops import linear_cross_entropy_with_grad as linear_cross_entropy_with_grad
    from normexp.ops import log_softmax as log_softmax
    from normexp.ops import logsumexp as logsumexp
    from normexp.ops import margin as margin
    from normexp.ops import max_logit as max_logit
    from normexp.ops import sample as sample
    from normexp.ops import segment_softmax as segment_softmax
    from normexp.ops import set_kept_memory as set_kept_memory
    from normexp.ops import set_num_threads as set_num_threads
    from normexp.ops import softmax as softmax
    from normexp.ops import softmax_jacobian as softmax_jacobian
    from normexp.ops import softmax_jvp as softmax_jvp
    from normexp.ops import softmax_vjp as softmax_vjp
    from normexp.ops import sparsemax as sparsemax
    from normexp.ops import top_k as top_k
    from normexp.trusted import TrustedClassifier as TrustedClassifier


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _FLOORS:
        value = importlib.import_module(f"normexp.{name}")
    else:
        raise AttributeError(f"module 'normexp' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_FLOORS})
