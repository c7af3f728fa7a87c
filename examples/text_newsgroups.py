"""An embedding bag on newsgroups20: a post is the weighted sum of its words, and a softmax head reads the sum.

    python examples/text_newsgroups.py [--quick] [--epochs 5] [--data FOLDER] [--out FOLDER]

Every word that occurs in two posts or more has 96 numbers. A post is the sum of its words' numbers, each word weighted
by 1 + log(count) times the log of how rare it is, all weights of a post scaled to length 1. ``nx.nn.SoftmaxHead`` makes
twenty logits of the sum. All of that is linear, so a word's say in a class is a product of two rows: the pictures show
the words that speak loudest for each newsgroup, and the test posts as points.

Posts are raw: headers and quotes are in the text, and give the group away in part. The test posts are later than those
trained on, and so are less like them than the held-out posts are: see what the audit makes of it (``closing.py``).
"""

import re
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from closing import draw_confusion, judge, save, write_figures
from opening import data_file, nx, options, plt, read_csv, torch
from sklearn.manifold import TSNE

from normexp.metrics import accuracy

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+")
WIDTH = 96
BATCH = 64
MAPPED = 1_500  # posts in the map
TOLD_WORDS = 7  # of each class in the picture
COLOURS = {"alt": "#6a675f", "comp": "#2c5d86", "misc": "#c7791d", "rec": "#3d7a4a", "sci": "#7b5aa6",
           "soc": "#6a675f", "talk": "#a3261b"}  # fmt: skip


class Posts(NamedTuple):
    """Posts one after another: `word` and `weight` (M,) of all of them, where each starts (N + 1,), `y` (N,)."""

    word: torch.Tensor
    weight: torch.Tensor
    start: torch.Tensor
    y: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Posts":
        """Some of them."""
        spans = [slice(int(self.start[i]), int(self.start[i + 1])) for i in rows]
        length = torch.tensor([span.stop - span.start for span in spans])
        start = torch.cat([torch.zeros(1, dtype=torch.int64), length.cumsum(0)])
        return Posts(torch.cat([self.word[s] for s in spans]), torch.cat([self.weight[s] for s in spans]), start,
                     self.y[rows])  # fmt: skip


class Vocabulary:
    """Words of two training posts or more, and how rare each is."""

    def __init__(self, counts: list[Counter]) -> None:
        n_posts = Counter(word for count in counts for word in count)
        self.words = sorted(word for word, n in n_posts.items() if n > 1)
        self.place = {word: i for i, word in enumerate(self.words)}
        self.n_posts = np.array([n_posts[word] for word in self.words])
        self.rarity = np.log(len(counts) / self.n_posts)

    def posts(self, counts: list[Counter], y: np.ndarray) -> Posts:
        """Turn counts of words into indices and weights; unknown words are left out."""
        words, weights, length = [], [], [0]
        for count in counts:
            known = [(self.place[word], n) for word, n in count.items() if word in self.place]
            place = np.array([p for p, _ in known], dtype=np.int64)
            weight = (1.0 + np.log([n for _, n in known])) * self.rarity[place]
            words.append(place)
            weights.append(weight / max(np.linalg.norm(weight), 1e-12))
            length.append(place.size)
        weight = torch.from_numpy(np.concatenate(weights)).float()
        return Posts(torch.from_numpy(np.concatenate(words)), weight, torch.tensor(length).cumsum(0),
                     torch.from_numpy(y))  # fmt: skip


class Network(torch.nn.Module):
    """Bag of embeddings, dropout, softmax head."""

    def __init__(self, n_words: int, n_classes: int) -> None:
        super().__init__()
        self.bag = torch.nn.EmbeddingBag(n_words, WIDTH, mode="sum", sparse=True)  # a batch touches few words
        torch.nn.init.normal_(self.bag.weight, std=0.1)
        self.drop = torch.nn.Dropout(0.3)
        self.head = nx.nn.SoftmaxHead(WIDTH, n_classes)

    def features(self, posts: Posts) -> torch.Tensor:
        """What the head reads, (N, 96)."""
        return self.drop(self.bag(posts.word, posts.start[:-1], per_sample_weights=posts.weight))

    def loss(self, posts: Posts) -> torch.Tensor:
        """Mean cross-entropy."""
        return self.head.loss(self.features(posts), posts.y)


def read_posts(data: Path, part: str, classes: tuple[str, ...], n: int | None) -> tuple[list[Counter], np.ndarray]:
    """Counts of the words of each post, and its class; the first n posts."""
    rows = read_csv(data, "newsgroups20", f"{part}.csv.gz")[:n]
    counts = [Counter(WORD.findall(row["text"].lower())) for row in rows]
    return counts, np.array([classes.index(row["label"]) for row in rows])


def look_at(network: Network, posts: Posts) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 96) and logits (N, 20)."""
    network.eval()
    with torch.no_grad():
        features = network.features(posts)
        return features.numpy(), network.head(features).numpy()


def train(network: Network, rows: Posts, held_out: Posts, epochs: int) -> None:
    """Adam; the sparse kind for the words, since a batch holds few of them."""
    optimisers = (torch.optim.SparseAdam(network.bag.parameters(), lr=1e-2),
                  torch.optim.Adam(network.head.parameters(), lr=1e-2))  # fmt: skip
    start = time.process_time()
    for epoch in range(1, epochs + 1):
        network.train()
        for some in torch.randperm(len(rows.y)).split(BATCH):
            network.zero_grad()
            network.loss(rows.take(some)).backward()
            for optimiser in optimisers:
                optimiser.step()
        share = accuracy(held_out.y.numpy(), look_at(network, held_out)[1])
        spent = time.process_time() - start
        print(f"epoch {epoch}: {100 * share:.2f} % of the held-out posts right, {spent:.0f} s of CPU time")


def telling_words(network: Network, vocabulary: Vocabulary) -> list[list[str]]:
    """The words that raise each class most above the average class, among words of 20 posts or more."""
    weight = network.head.weight.detach()
    say = network.bag.weight.detach() @ (weight - weight.mean(0)).T  # (words, classes): exact, the network is linear
    say = say * torch.from_numpy(vocabulary.rarity)[:, None]
    say[torch.from_numpy(vocabulary.n_posts < 20)] = -torch.inf
    return [[vocabulary.words[i] for i in column.topk(TOLD_WORDS).indices] for column in say.T]


def draw_words(words: list[list[str]], classes: tuple[str, ...], path: Path) -> None:
    """One line of words for each class."""
    figure, axes = plt.subplots(figsize=(9.6, 4.8), layout="constrained")
    axes.set(xlim=(0, 1), ylim=(len(classes) - 0.4, -0.8))
    axes.axis("off")
    for line, (name, told) in enumerate(zip(classes, words, strict=True)):
        axes.text(0.245, line, name, ha="right", fontsize=9, color=COLOURS[name.split(".")[0]])
        axes.text(0.265, line, "  ".join(told), fontsize=9)
    save(figure, path)


def draw_map(logits: np.ndarray, y: np.ndarray, classes: tuple[str, ...], path: Path) -> None:
    """Test posts as points, near each other when they got like probabilities; each class named amid its posts."""
    some = np.random.default_rng(0).permutation(len(y))[:MAPPED]
    logits, y = logits[some], y[some]
    point = TSNE(perplexity=40, random_state=0).fit_transform(np.sqrt(nx.softmax(logits, temperature=2.0)))
    figure, axes = plt.subplots(figsize=(8.4, 6.6), layout="constrained")
    colour = np.array([COLOURS[classes[k].split(".")[0]] for k in y])
    right = logits.argmax(axis=1) == y
    axes.scatter(*point[right].T, s=5, c=colour[right], alpha=0.35, linewidths=0)
    axes.scatter(*point[~right].T, s=14, c=colour[~right], alpha=0.7, marker="x", linewidths=0.8)
    for k, name in enumerate(classes):
        halo = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
        own = right & (y == k)
        middle = np.median(point[own if own.any() else y == k], axis=0)
        axes.text(*middle, name, fontsize=8, ha="center", va="center", bbox=halo,
                  color=COLOURS[name.split(".")[0]])  # fmt: skip
    axes.set_title(f"{len(y):,} test posts (t-SNE); a cross is a post that was decided wrongly", fontsize=9, loc="left")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    save(figure, path)


def main() -> None:
    """Train, look, audit."""
    given = options(__file__, __doc__, epochs=5, quick_epochs=4)
    labels = data_file(given.data, "newsgroups20", "labels.txt")
    classes = tuple(labels.read_text(encoding="utf-8").split())
    counts, y = read_posts(given.data, "train", classes, 3_000 if given.quick else None)
    later, y_test = read_posts(given.data, "test", classes, 600 if given.quick else None)
    n_train = len(y) * 4 // 5
    vocabulary = Vocabulary(counts[:n_train])
    rows, held_out = vocabulary.posts(counts[:n_train], y[:n_train]), vocabulary.posts(counts[n_train:], y[n_train:])
    test = vocabulary.posts(later, y_test)
    print(f"{n_train:,} posts to train on, {len(vocabulary.words):,} words")
    network = Network(len(vocabulary.words), len(classes))
    start = time.process_time()
    train(network, rows, held_out, given.epochs)
    seconds = time.process_time() - start
    (_, z_held), (features, z) = look_at(network, held_out), look_at(network, test)
    words = telling_words(network, vocabulary)
    draw_words(words, classes, given.out / "words.png")
    draw_map(z, y_test, classes, given.out / "map.png")
    draw_confusion(z, y_test, classes, given.out / "confusion.png")
    found = judge((z_held, y[n_train:]), (z, y_test), given.out, classes=classes, features=features,
                  source="newsgroups20, test posts")  # fmt: skip
    write_figures({**found, "cpu_seconds": round(seconds, 1), "n_words": len(vocabulary.words),
                   "words": dict(zip(classes, words, strict=True))}, given.out)  # fmt: skip


if __name__ == "__main__":
    main()
