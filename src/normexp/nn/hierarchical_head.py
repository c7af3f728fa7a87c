"""The head on a tree: a softmax among the children of each node, the product along a path."""

import math
from typing import Any

import torch
from torch import nn

from normexp.backends.tensors.head_loss import suits
from normexp.backends.tensors.path_loss import Paths, loss_of_paths, steps
from normexp.backends.tensors.ready_gradients import wanted
from normexp.base.errors import ArtifactError, DtypeError
from normexp.base.types import TopK
from normexp.nn.checks import check_count, check_top
from normexp.nn.head import Head
from normexp.nn.touched import Touched, touched
from normexp.nn.tree import Tree
from normexp.nn.tree_layout import Sizes, lay_out
from normexp.ops import cross_entropy, log_softmax

DENSE = 8  # a product with all groups of a size costs what picking this part of them costs


class HierarchicalHead(Head):
    """Hierarchical softmax over any tree, all samples and levels at once.

    Parameters
    ----------
    in_features : int
        Width D of the features.
    tree : Tree
        Whose leaves are the classes.
    bias : bool, default True
        Whether each node has an offset.
    sparse : bool, default False
        Whether gradients of the weights are sparse tensors: a step then costs nothing for the nodes beside the paths
        of the targets, and needs an optimiser that takes them: ``RowAdagrad``, ``SGD``, ``Adagrad`` or ``SparseAdam``.
    device, dtype : optional
        Of the parameters.

    Raises
    ------
    RangeError, DtypeError, ShapeError
        If an argument does not fit.

    See Also
    --------
    Tree : from parents, Huffman's, or balanced by embeddings.

    Notes
    -----
    Each node but the root has a row of weights; a softmax among siblings gives the probability of a node given its
    parent, and a class has the product along its path [1]_, so that leaf probabilities are exact and sum to 1.

    ``loss`` computes what lies on the paths of the targets: on the CPU in float32 in one pass over the paths, gradients
    made at once; elsewhere groups of siblings of one size at a time, rows and levels together, gathered, or by one
    product where most groups are needed anyway. A row costs the sizes of the groups on its path, about ``2 log2 K`` in
    a binary tree. Label smoothing needs all leaves. ``top_k`` is exact, at the cost of ``log_prob``; with ``beam`` it
    follows that many best nodes down the tree, and the probabilities it gives are still exact, though a better class
    may have been missed. A state of another tree is refused.

    With ``sparse`` the sibling groups on the paths are picked and make a small tree, of which the loss is computed; the
    gradient holds each of its nodes once, only children left out, which are certain. Where ``loss`` goes in one pass,
    the loss and all gradients have the bits that they have without. Label smoothing and ``log_prob`` touch every node:
    their gradients are dense.

    References
    ----------
    .. [1] Morin and Bengio (2005), "Hierarchical probabilistic neural network language model", AISTATS.

    Examples
    --------
    >>> import torch
    >>> import normexp as nx
    >>> head = nx.nn.HierarchicalHead(4, nx.nn.Tree.from_parents([-1, 0, 0, 1, 1]))
    >>> with torch.no_grad():
    ...     _ = head.weight.zero_(), head.bias.zero_()
    >>> head.log_prob(torch.ones(1, 4)).exp().tolist()
    [[0.5, 0.25, 0.25]]
    """

    def __init__(
        self,
        in_features: int,
        tree: Tree,
        *,
        bias: bool = True,
        sparse: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if not isinstance(tree, Tree):
            raise DtypeError(
                f"HierarchicalHead: tree is a {type(tree).__name__}; a Tree, such as Tree.huffman makes, would "
                f"be right."
            )
        super().__init__(in_features, len(tree.leaves), dtype)
        self._layout = layout = lay_out(tree)
        self.sparse = sparse
        self.weight = nn.Parameter(torch.empty(layout.slots, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(layout.slots, device=device, dtype=dtype)) if bias else None
        for name, values in (("parents", tree.parents), ("leaves", tree.leaves)):
            self.register_buffer(name, torch.from_numpy(values.copy()).to(device))
        kept = {
            "_leaf_columns": layout.leaf_columns, "_class_of_slot": layout.class_of_slot,
            "_path_begins": layout.path_begins, "_path_slots": layout.path_slots,
            "_child_first": layout.child_first, "_child_count": layout.child_count,
            "_group_first": layout.group_first, "_group_size": layout.group_size, "_path_cost": layout.path_cost,
        }  # fmt: skip
        for level, part in enumerate(layout.levels):
            kept[f"_slots_{level}"], kept[f"_parents_{level}"] = part.slots, part.parents
        for name, values in kept.items():
            self.register_buffer(name, torch.from_numpy(values.copy()).to(device), persistent=False)
        self.register_load_state_dict_pre_hook(_refuse_other_trees)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters, uniform within 1 / sqrt(in_features)."""
        bound = 1.0 / math.sqrt(self.in_features)
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)

    # ---------------------------------------------------------------- all leaves

    def log_prob(self, x: Any) -> Any:
        x = self._features(x, "log_prob")
        return self._of_rows(x.reshape(-1, self.in_features)).reshape(*x.shape[:-1], self.num_classes)

    def _of_rows(self, rows: Any) -> Any:
        if not self._layout.slots:
            return (rows @ self.weight.T).sum(1, keepdim=True)  # one class, no weights: 0, and differentiable
        own = torch.cat([self._of_size(rows, part).flatten(1) for part in self._layout.sizes], 1)
        above, found = None, []
        for level in range(len(self._layout.levels)):
            here = own[:, getattr(self, f"_slots_{level}")]
            above = here if above is None else here + above[:, getattr(self, f"_parents_{level}")]
            found.append(above)
        return torch.cat(found, 1)[:, self._leaf_columns]

    def _of_size(self, rows: Any, part: Sizes) -> Any:
        """Log-probabilities (n, groups, size) of nodes given their parents, of all groups of a size."""
        bias = None if self.bias is None else self.bias[part.first : part.last]
        z = nn.functional.linear(rows, self.weight[part.first : part.last], bias)
        return log_softmax(z.reshape(len(rows), part.count, part.size))

    # ---------------------------------------------------------------- the paths of the targets

    def loss(
        self,
        x: Any,
        target: Any,
        reduction: str = "mean",
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int | None = -100,
    ) -> Any:
        """Negative log-likelihood of the targets (...)."""
        asked = self._asked(x, target, reduction, weight, label_smoothing, ignore_index)
        certain = not len(asked.target) or self.num_classes == 1
        if asked.smoothing and not certain:
            return asked.of_log_prob(self._of_rows(asked.rows))
        part, weight, bias = self._read(asked.target)
        if certain:
            offset = None if bias is None else bias[:0]
            return asked.reduced(nn.functional.linear(asked.rows, weight[:0], offset).sum(1))  # 0, and differentiable
        if asked.reduction != "none" and suits(asked.rows, weight) and self._is_sparse(asked.target):
            return loss_of_paths(asked.rows, weight, bias, part.target, part.paths, asked.scale, asked.factor)
        row, slot = steps(part.target, part.paths.begins, part.paths.path)
        losses = asked.rows.new_zeros(len(asked.rows), dtype=torch.promote_types(weight.dtype, torch.float32))
        for groups in part.sizes:
            here = ((slot >= groups.first) & (slot < groups.last)).nonzero().reshape(-1)
            if groups.size > 1 and len(here):
                found = self._step_losses(asked.rows, row[here], slot[here], weight, bias, groups)
                losses = losses.index_add(0, row[here], found.to(losses.dtype))
        return asked.reduced(losses)

    def _read(self, target: Any) -> tuple[Touched, Any, Any]:
        """What a loss of these targets reads, with its weights and offsets: the tree, or the touched part of it."""
        paths = Paths(self._path_begins, self._path_slots, self._group_first, self._group_size, self._path_cost)
        if not (self.sparse and any(wanted(self.weight, self.bias))):
            return Touched(slice(None), target, paths, self._layout.sizes), self.weight, self.bias
        part = touched(target, paths)
        weight = nn.functional.embedding(part.slots, self.weight, sparse=True)
        return part, weight, None if self.bias is None else self.bias.gather(0, part.slots, sparse_grad=True)

    def _is_sparse(self, target: Any) -> bool:
        """Whether the paths touch so little that a product with all nodes would cost more."""
        return DENSE * int(self._path_cost[target].sum()) <= len(target) * self._layout.slots

    def _step_losses(self, rows: Any, row: Any, slot: Any, weight: Any, bias: Any, part: Sizes) -> Any:
        """The loss of each step among groups of one size."""
        group, child = (slot - part.first) // part.size, (slot - part.first) % part.size
        weight, bias = weight[part.first : part.last], None if bias is None else bias[part.first : part.last]
        if len(row) * DENSE > len(rows) * part.count:
            z = nn.functional.linear(rows, weight, bias).reshape(len(rows), part.count, part.size)[row, group]
        else:
            picked = nn.functional.embedding(group, weight.reshape(part.count, -1))
            picked = picked.reshape(len(row), part.size, self.in_features)
            z = torch.bmm(picked, rows[row].to(picked.dtype).unsqueeze(2)).squeeze(2)
            if bias is not None:
                z = z + bias.reshape(part.count, part.size)[group]
        return cross_entropy(z, child, reduction="none")

    # ---------------------------------------------------------------- decisions

    def top_k(self, x: Any, k: int, beam: int | None = None) -> TopK:
        """The k likeliest classes, best first; with ``beam``, the best found by following so many nodes."""
        count = check_top(k, self.num_classes, of="HierarchicalHead.top_k")
        x = self._features(x, "top_k")
        if beam is None or not self._layout.slots:
            return super().top_k(x, count)
        width = check_count(beam, of="HierarchicalHead.top_k", name="beam", low=count)
        log_prob, index = self._beam(x.reshape(-1, self.in_features), width)
        log_prob, at = torch.topk(log_prob, count, 1)
        shape = (*x.shape[:-1], count)
        index = index.gather(1, at).reshape(shape)
        return TopK(log_prob.exp().reshape(shape), log_prob.reshape(shape), index)

    def _beam(self, rows: Any, width: int) -> tuple[Any, Any]:
        """Leaves and their log-probabilities (n, width), -inf where there are fewer."""
        nodes = torch.full((len(rows), 1), self._layout.slots, device=rows.device)  # the root
        log_prob = rows.new_zeros(len(rows), 1)
        while bool((self._child_count[nodes] > 0).any()):
            most = int(self._child_count[nodes].max())
            offset = torch.arange(max(1, most), device=rows.device)
            counts = self._child_count[nodes][..., None]
            inner = counts > 0
            slots = (self._child_first[nodes][..., None] + offset).clamp(max=self._layout.slots - 1)
            z = torch.einsum("nbad,nd->nba", self.weight[slots], rows)
            if self.bias is not None:
                z = z + self.bias[slots]
            own = log_softmax(z, where=offset < counts)
            own = torch.where(inner, own, torch.where(offset == 0, 0.0, -torch.inf))  # a leaf waits
            slots = torch.where(inner, slots, nodes[..., None])
            every = (log_prob[..., None] + own).flatten(1)
            log_prob, at = torch.topk(every, min(width, every.shape[1]), 1)
            nodes = slots.expand(*own.shape).flatten(1).gather(1, at)
            nodes = torch.where(torch.isneginf(log_prob), nodes[:, :1], nodes)  # fewer nodes than the beam is wide
        return log_prob, self._class_of_slot[nodes]

    def extra_repr(self) -> str:
        depth = len(self._layout.levels)
        return f"{super().extra_repr()}, nodes={len(self.parents)}, depth={depth}, bias={self.bias is not None}"


def _refuse_other_trees(module: Any, state: Any, prefix: str, *_: Any) -> None:
    """A state is of this tree, or an error: its weights would mean other nodes."""
    for name in ("parents", "leaves"):
        found, wanted = state.get(prefix + name), getattr(module, name)
        if found is not None and (found.shape != wanted.shape or not bool((found.to(wanted.device) == wanted).all())):
            raise ArtifactError(
                f"HierarchicalHead.load_state_dict: the state was saved with another tree ({name} differ); build the "
                f"head with Tree.from_parents(state['{prefix}parents'], leaves=state['{prefix}leaves'])."
            )
