"""What ``torch_heads.py`` trains on: text, a Zipf problem, trees; and the same tree as a rival holds it."""

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import nn

from normexp.nn import Tree
from normexp.nn.tree_layout import lay_out

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "wikitext-2"
MOST_WORDS = 18_000
BATCH, LENGTH = 20, 35


def words_of(part):
    """The tokens of a part, ends of lines among them."""
    with gzip.open(FOLDER / f"{part}.txt.gz", "rt", encoding="utf-8") as lines:
        return [word for line in lines for word in [*line.split(), "<eos>"]]


class Recurrent(nn.Module):
    """Words in, features of the next word out; a batch begins where the one before ended."""

    def __init__(self, classes, width=200):
        super().__init__()
        self.embedding = nn.Embedding(classes, width, sparse=True)
        self.recurrent = nn.GRU(width, width, batch_first=True)
        self.state = None

    def forward(self, words):
        """Features (B, L, width) of words (B, L)."""
        state = self.state
        if state is not None and state.shape[1] != len(words):
            state = None
        found, state = self.recurrent(self.embedding(words), state)
        self.state = state.detach()
        return found

    def train(self, mode=True):
        """Forget the text when it changes."""
        self.state = None
        return super().train(mode)


class Text:
    """WikiText-2, classes in falling order of frequency."""

    depth, rate, cuts, tested = 200, 0.02, [2000, 8000], 20_000

    def __init__(self, words=MOST_WORDS):
        train, test = words_of("valid"), words_of("test")
        counted = Counter(train).most_common(words)
        place = {word: i for i, (word, _) in enumerate(counted)}
        self.counts = np.array([count for _, count in counted])
        self._train = self._columns([place.get(word, place["<unk>"]) for word in train], BATCH)
        self._test = self._columns([place.get(word, place["<unk>"]) for word in test[: self.tested]], BATCH)

    @staticmethod
    def _columns(tokens, streams):
        """Tokens as parallel streams (streams, L)."""
        length = len(tokens) // streams
        return torch.tensor(tokens[: length * streams]).reshape(streams, length)

    def network(self):
        """The layers below the head."""
        return Recurrent(len(self.counts), self.depth)

    def _passes(self, streams):
        for first in range(0, streams.shape[1] - 1, LENGTH):
            x = streams[:, first : first + LENGTH + 1]
            yield x[:, :-1], x[:, 1:]

    def batches(self):
        """For ever."""
        while True:
            yield from self._passes(self._train)

    def test(self):
        """Once through the test part."""
        return self._passes(self._test)


class Zipf:
    """Classes as frequent as 1 / rank, each with features of its own under noise."""

    depth, rate, cuts, classes, rows = 128, 0.05, [4000, 25_000], 100_000, 512

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self._centres = torch.randn(self.classes, self.depth, generator=generator)
        share = 1.0 / np.arange(1, self.classes + 1)
        self.counts = share / share[-1]
        self._sums = torch.from_numpy(np.cumsum(share / share.sum()))

    def network(self):
        """The layers below the head."""
        return nn.Sequential(nn.Linear(self.depth, self.depth), nn.Tanh())

    def _drawn(self, rows, generator):
        drawn = torch.rand(rows, generator=generator, dtype=torch.float64)
        target = torch.searchsorted(self._sums, drawn).clamp(max=self.classes - 1)
        noise = torch.randn(rows, self.depth, generator=generator)
        return self._centres[target] + noise, target

    def batches(self):
        """For ever."""
        generator = torch.Generator().manual_seed(1)
        while True:
            yield self._drawn(self.rows, generator)

    def test(self):
        """Always the same 4 096 rows."""
        generator = torch.Generator().manual_seed(2)
        for _ in range(8):
            yield self._drawn(512, generator)


# ---------------------------------------------------------------- trees


def huffman_of_text(words=2000):
    """The Huffman tree of the most frequent training words."""
    return Tree.huffman(Text().counts[:words])


def wide_tree(arity=10, levels=3):
    """A full tree of 1 000 leaves: ten children a node."""
    parents, first, count = [-1], 0, 1
    for _ in range(levels):
        parents += [first + i // arity for i in range(count * arity)]
        first, count = first + count, count * arity
    return Tree.from_parents(parents)


def leaf_shares(tree):
    """How often each class is asked for: halved at each step down a binary tree, and so on."""
    children = np.bincount(tree.parents[tree.parents >= 0], minlength=len(tree.parents))
    share = np.ones(len(tree.parents))
    order = np.argsort(tree.depths, kind="stable")
    for node in order[1:]:
        share[node] = share[tree.parents[node]] / children[tree.parents[node]]
    return torch.from_numpy(share[tree.leaves])


def package_tree(tree):
    """The same tree of ``hierarchicalsoftmax``, and each node's number there (M,), -1 for the root."""
    from hierarchicalsoftmax import SoftmaxNode

    root = int(np.flatnonzero(tree.parents < 0)[0])
    nodes = {root: SoftmaxNode("root")}
    for node in np.argsort(tree.depths, kind="stable").tolist():
        if node != root:
            nodes[node] = SoftmaxNode(str(node), parent=nodes[int(tree.parents[node])])
    nodes[root].set_indexes()
    place = nodes[root].node_to_id
    return nodes[root], torch.tensor([place[nodes[i]] if i != root else -1 for i in range(len(tree.parents))])


def copy_weights(head, tree, layer, places):
    """Give the package's layer the weights of our head, found along the paths from the leaves."""
    layout = lay_out(tree)
    begins, path = torch.from_numpy(layout.path_begins), torch.from_numpy(layout.path_slots)
    node = torch.from_numpy(tree.leaves.copy())
    parents, step = torch.from_numpy(tree.parents.copy()), 0
    lengths = begins[1:] - begins[:-1]
    with torch.no_grad():
        while bool((lengths > step).any()):
            alive = lengths > step
            slot, at = path[begins[:-1][alive] + step], places[node[alive]]
            layer.weight[at] = head.weight[slot]
            layer.bias[at] = head.bias[slot]
            node, step = torch.where(alive, parents[node], node), step + 1
