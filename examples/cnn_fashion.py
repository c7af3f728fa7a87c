"""A small convolutional network on Fashion-MNIST, its filters, its errors, and images that are none of the classes.

    python examples/cnn_fashion.py [--quick] [--epochs 3] [--data FOLDER] [--out FOLDER]

Two convolutions with pooling, one hidden layer of 128 numbers, and ``nx.nn.SoftmaxHead``, whose loss is fused with its
product. The pictures show what the first layer looks for, which classes are taken for which, and the images that the
network is surest about and wrong.

The network knows ten kinds of clothing. What does it say to a handwritten character (Omniglot)? Softmax has to share
1 among ten classes whatever it sees, so "none of these" is asked of ``nx.decide.OpenSetDetector``, which looks at the
128 numbers too. Its threshold comes from known images alone. Then the logits are audited: see ``closing.py``.
"""

import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from closing import draw_confusion, judge, save, write_figures
from opening import Images, data_file, nx, options, plt, read_fashion, torch

from normexp.decide import OpenSetDetector
from normexp.metrics import accuracy, auroc

BATCH = 128
WIDTH = 128  # numbers that the head reads
WORST = 12  # images shown


class Network(torch.nn.Module):
    """28 x 28 pixels to 128 features to ten logits."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(1, 24, 5, padding=2),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),  # 14 x 14
            torch.nn.Conv2d(24, 48, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),  # 7 x 7
            torch.nn.Flatten(),
            torch.nn.Dropout(0.25),
            torch.nn.Linear(48 * 7 * 7, WIDTH),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.25),
        )
        self.head = nx.nn.SoftmaxHead(WIDTH, n_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """What the head reads, (N, 128), of images (N, 28, 28)."""
        return self.body(x[:, None])

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy."""
        return self.head.loss(self.features(x), y)


class Seen(NamedTuple):
    """What the network makes of images: `features` (N, 128) and `logits` (N, 10)."""

    features: np.ndarray
    logits: np.ndarray


def look_at(network: Network, x: torch.Tensor) -> Seen:
    """Features and logits of images (N, 28, 28)."""
    network.eval()
    with torch.no_grad():
        features = torch.cat([network.features(part) for part in x.split(500)])
        return Seen(features.numpy(), network.head(features).numpy())


def train(network: Network, rows: Images, held_out: Images, epochs: int) -> None:
    """Adam with a step that falls to 0 along a cosine; prints the held-out accuracy after each epoch."""
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    steps = epochs * -(-len(rows.y) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    start = time.process_time()
    for epoch in range(1, epochs + 1):
        network.train()
        for some in torch.randperm(len(rows.y)).split(BATCH):
            optimiser.zero_grad()
            network.loss(rows.x[some], rows.y[some]).backward()
            optimiser.step()
            schedule.step()
        share = accuracy(held_out.y.numpy(), look_at(network, held_out.x).logits)
        spent = time.process_time() - start
        print(f"epoch {epoch}: {100 * share:.2f} % of the held-out images right, {spent:.0f} s of CPU time")


def read_strangers(data: Path, like: torch.Tensor, n: int) -> torch.Tensor:
    """Handwritten characters of Omniglot (n, 28, 28), scaled as the clothing is: ink is bright, paper is dark."""
    with np.load(data_file(data, "omniglot-small", "omniglot-small.npz")) as archive:
        ink = torch.from_numpy(archive["x"]).float() / 255.0
    some = torch.randperm(len(ink), generator=torch.Generator().manual_seed(0))[:n]
    return like.min() + ink[some] * (like.max() - like.min())


def judge_strangers(held_out: Seen, y_held: np.ndarray, test: Seen, strange: Seen) -> dict[str, dict[str, float]]:
    """How well unknown scores tell strangers from test images; thresholds from held-out clothing alone."""
    found = {}
    is_strange = np.repeat([False, True], [len(test.logits), len(strange.logits)])
    print(
        f"\nNone of these: {len(strange.logits):,} handwritten characters among {len(test.logits):,} images of clothes"
    )
    for score, takes_features in (("msp", False), ("gen", False), ("auto", True)):
        known, own, other = (s.features if takes_features else None for s in (held_out, test, strange))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nx.NormexpWarning)  # a ReLU that never fires is a constant column
            detector = OpenSetDetector(score, false_alarm=0.05).fit(held_out.logits, y_held, known)
        value = np.concatenate(
            [detector.unknown_score(test.logits, own), detector.unknown_score(strange.logits, other)]
        )
        flagged = value > detector.threshold_
        found[detector.score_] = {
            "auroc": auroc(is_strange, value),
            "strangers_found": float(flagged[is_strange].mean()),
            "false_alarms": float(flagged[~is_strange].mean()),
        }
        told = found[detector.score_]
        print(
            f"  {detector.score_:18} ranks {100 * told['auroc']:.1f} % of the pairs right; finds "
            f"{100 * told['strangers_found']:.1f} % at {100 * told['false_alarms']:.1f} % false alarms"
        )
    return found


def draw_filters(network: Network, image: torch.Tensor, path: Path) -> None:
    """The first layer's filters above what each makes of one image."""
    filters = network.body[0].weight.detach()[:, 0]
    with torch.no_grad():
        maps = network.body[:2](image[None, None])[0]
    reach = float(filters.abs().max())
    figure, axes = plt.subplots(4, len(filters) // 2, figsize=(9.6, 3.7), layout="constrained")
    for i, (kernel, answer) in enumerate(zip(filters, maps, strict=True)):
        row, column = divmod(i, len(filters) // 2)
        axes[2 * row, column].imshow(kernel, cmap="RdBu_r", vmin=-reach, vmax=reach)
        axes[2 * row + 1, column].imshow(answer, cmap="Greys")
    for one in axes.flat:
        one.set(xticks=[], yticks=[])
        one.spines[:].set_visible(False)
    figure.suptitle("What the first layer looks for (red: bright, blue: dark), and where it finds it", fontsize=9)
    save(figure, path)


def draw_worst(logits: np.ndarray, part: Images, classes: tuple[str, ...], path: Path) -> None:
    """Images that the network decides wrongly and is surest about."""
    top = nx.top_k(logits, 1)
    decided, y = top.index[:, 0], part.y.numpy()
    order = np.argsort(np.where(decided != y, -top.log_prob[:, 0], np.inf))[:WORST]
    figure, axes = plt.subplots(2, WORST // 2, figsize=(9.6, 4.2), layout="constrained")
    for one, i in zip(axes.flat, order, strict=True):
        one.imshow(part.x[i], cmap="Greys")
        one.set(xticks=[], yticks=[])
        one.set_title(f"{classes[decided[i]]}? {100 * top.prob[i, 0]:.1f} %\nis: {classes[y[i]]}", fontsize=8)
        one.spines[:].set_visible(False)
    save(figure, path)


def main() -> None:
    """Train, look, audit."""
    given = options(__file__, __doc__, epochs=3, quick_epochs=2)
    rows, held_out, test, classes = read_fashion(given.data, quick=given.quick)
    strangers = read_strangers(given.data, rows.x, n=len(test.y) // 2)
    network = Network()
    start = time.process_time()
    train(network, rows, held_out, given.epochs)
    seconds = time.process_time() - start
    held, seen, strange = (look_at(network, x) for x in (held_out.x, test.x, strangers))
    y_held, y = held_out.y.numpy(), test.y.numpy()
    draw_filters(network, test.x[0], given.out / "filters.png")
    draw_worst(seen.logits, test, classes, given.out / "surest_errors.png")
    draw_confusion(seen.logits, y, classes, given.out / "confusion.png")
    found = judge((held.logits, y_held), (seen.logits, y), given.out, classes=classes, features=seen.features,
                  source="Fashion-MNIST, test images")  # fmt: skip
    unknown = judge_strangers(held, y_held, seen, strange)
    write_figures({**found, "cpu_seconds": round(seconds, 1), "strangers": unknown}, given.out)


if __name__ == "__main__":
    main()
