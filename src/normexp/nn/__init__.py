"""Floor 6, torch modules: losses and heads, from two classes to millions. Needs the extra ``[torch]``."""

from normexp.base.errors import MissingExtraError

try:
    import torch  # noqa: F401  (asked here, so that the answer is one sentence)
except ImportError:
    raise MissingExtraError("normexp.nn", "torch") from None

from normexp.nn.adaptive_head import AdaptiveHead
from normexp.nn.class_index import ClassIndex
from normexp.nn.hierarchical_head import HierarchicalHead
from normexp.nn.linear_loss import LinearCrossEntropyLoss
from normexp.nn.margin_head import MarginHead
from normexp.nn.row_adagrad import RowAdagrad
from normexp.nn.sampled_head import SampledHead
from normexp.nn.sharded_head import ShardedHead
from normexp.nn.softmax_head import SoftmaxHead
from normexp.nn.tree import Tree

__all__ = [
    "AdaptiveHead",
    "ClassIndex",
    "HierarchicalHead",
    "LinearCrossEntropyLoss",
    "MarginHead",
    "RowAdagrad",
    "SampledHead",
    "ShardedHead",
    "SoftmaxHead",
    "Tree",
]
