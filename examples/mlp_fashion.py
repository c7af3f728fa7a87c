"""A multi-layer perceptron on Fashion-MNIST, and which activation belongs inside, which at the end.

    python examples/mlp_fashion.py [--quick] [--epochs 6] [--data FOLDER] [--out FOLDER]

Six networks, equal but for two choices. Inside, ReLU or sigmoid. At the end,

- softmax: one question, which of the ten classes is it; its loss is the cross-entropy, fused into the last layer
  (``nx.nn.SoftmaxHead``);
- sigmoid: ten questions with yes or no, one for each class. A sigmoid is the softmax of (z, 0), so the loss of each
  question is a cross-entropy of two classes. The ten answers need not sum to 1; they are divided by their sum;
- ReLU: max(0, z), brought near 1 for the true class and 0 for the others by squared error, then divided by the sum.
  It can say exactly 0, and a class that is called impossible and then comes costs an infinite log loss.

The network of ReLU and softmax is then audited: see ``closing.py``.
"""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from closing import draw_confusion, judge, save, write_figures
from opening import Images, nx, options, plt, read_fashion, torch

from normexp.metrics import accuracy, ece, log_loss

WIDTHS = (784, 256, 128, 64)
BATCH = 128
HIDDEN = {"ReLU": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}
OUTPUTS = ("softmax", "sigmoid", "ReLU")
COLOURS = {"softmax": "#2c5d86", "sigmoid": "#c7791d", "ReLU": "#6a675f"}


class Network(torch.nn.Module):
    """Three hidden layers and a linear head whose numbers z (N, 10) are read in one of three ways."""

    def __init__(self, hidden: str, output: str, n_classes: int = 10) -> None:
        super().__init__()
        layers = [torch.nn.Flatten()]
        for before, after in pairwise(WIDTHS):
            layers += [torch.nn.Linear(before, after), HIDDEN[hidden]()]
        self.body = torch.nn.Sequential(*layers)
        self.head = nx.nn.SoftmaxHead(WIDTHS[-1], n_classes)
        self.output = output

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """What training lowers."""
        features = self.body(x)
        if self.output == "softmax":
            return self.head.loss(features, y)
        z = self.head(features)
        is_true = torch.nn.functional.one_hot(y, z.shape[1])
        if self.output == "sigmoid":
            return nx.cross_entropy(yes_or_no(z), 1 - is_true, reduction="sum") / len(y)
        return (z.relu() - is_true).square().sum(1).mean()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, 10): numbers whose softmax is what the network states as probabilities."""
        z = self.head(self.body(x))
        if self.output == "softmax":
            return z
        if self.output == "sigmoid":
            return nx.log_softmax(yes_or_no(z))[..., 0]  # softmax of log p divides the p by their sum
        share = z.relu()
        return torch.where((share > 0).any(1, keepdim=True), share, 1.0).log()  # all 0 says nothing: equal shares


def yes_or_no(z: torch.Tensor) -> torch.Tensor:
    """Two logits for each of the ten questions (N, 10, 2): yes z, no 0."""
    return torch.stack([z, torch.zeros_like(z)], -1)


def logits_of(network: Network, part: Images) -> np.ndarray:
    """Logits of a whole part, (N, 10)."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(x) for x in part.x.split(1_000)]).numpy()


def train(network: Network, rows: Images, held_out: Images, epochs: int) -> list[float]:
    """Adam on batches in random order; the share of held-out errors after each epoch."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    errors = []
    for _ in range(epochs):
        network.train()
        for some in torch.randperm(len(rows.y)).split(BATCH):
            optimiser.zero_grad()
            network.loss(rows.x[some], rows.y[some]).backward()
            optimiser.step()
        errors.append(1.0 - accuracy(held_out.y.numpy(), logits_of(network, held_out)))
    return errors


def gradient_sizes(network: Network, rows: Images) -> list[float]:
    """Root mean square of each layer's weight gradient on one batch, before the first step."""
    network.loss(rows.x[:1_000], rows.y[:1_000]).backward()
    weights = [layer.weight for layer in network.body if isinstance(layer, torch.nn.Linear)] + [network.head.weight]
    sizes = [float(weight.grad.square().mean().sqrt()) for weight in weights]
    network.zero_grad()
    return sizes


def draw(errors: dict[tuple[str, str], list[float]], gradients: dict[str, list[float]], path: Path) -> None:
    """Errors by epoch for all six, beside the size of the gradient by layer for the two insides."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
    for (hidden, output), course in errors.items():
        dashes = "-" if hidden == "ReLU" else (0, (4, 2))
        label = f"{hidden} inside, {output} at the end"
        steps = range(1, len(course) + 1)
        left.plot(steps, 100 * np.array(course), color=COLOURS[output], linestyle=dashes, marker="o", ms=3, label=label)
    left.set(xlabel="epoch", ylabel="% of the held-out images wrong", xticks=steps)
    left.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    for (hidden, sizes), colour in zip(gradients.items(), ("#2c5d86", "#a3261b"), strict=True):
        right.semilogy(range(1, len(sizes) + 1), sizes, color=colour, marker="o", ms=4, label=f"{hidden} inside")
    right.set(xticks=range(1, len(sizes) + 1), xlabel="layer, from the pixels to the head")
    right.set_ylabel("root mean square of the first gradient")
    right.legend(frameon=False, fontsize=8)
    right.yaxis.set_major_formatter("{x:g}")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def main() -> None:
    """Train the six, compare them, audit one."""
    given = options(__file__, __doc__, epochs=6, quick_epochs=2)
    rows, held_out, test, classes = read_fashion(given.data, quick=given.quick)
    y = test.y.numpy()
    errors, gradients, table, best = {}, {}, [], None
    print(f"{'inside':8} {'at the end':10} {'accuracy':>9} {'log loss':>9} {'calibration error':>18} {'CPU s':>8}")
    for output in OUTPUTS:
        for hidden in HIDDEN:
            torch.manual_seed(given.seed)  # the same start and the same batches for all
            network = Network(hidden, output)
            if output == "softmax":
                gradients[hidden] = gradient_sizes(network, rows)
            start = time.process_time()
            errors[hidden, output] = train(network, rows, held_out, given.epochs)
            seconds = time.process_time() - start
            z = logits_of(network, test)
            scores = accuracy(y, z), log_loss(y, z), ece(y, z)
            impossible = float(np.isneginf(z[np.arange(len(y)), y]).mean())
            silent = int((np.isneginf(z) | (z == 0.0).all(axis=1, keepdims=True)).all(axis=0).sum())  # never above 0
            table.append({"hidden": hidden, "output": output, "accuracy": scores[0], "ece": scores[2],
                          "log_loss": None if np.isinf(scores[1]) else scores[1], "true_class_ruled_out": impossible,
                          "silent_outputs": silent,
                          "cpu_seconds": round(seconds, 1)})  # fmt: skip
            told = f", {100 * impossible:.2f} % of the true classes called impossible" if impossible else ""
            told += f", {silent} outputs never above 0" if silent else ""
            print(f"{hidden:8} {output:10} {scores[0]:9.4f} {scores[1]:9.4f} {scores[2]:18.4f} {seconds:8.1f}{told}")
            if (hidden, output) == ("ReLU", "softmax"):
                best = network
    draw(errors, gradients, given.out / "activations.png")
    held, z = logits_of(best, held_out), logits_of(best, test)
    found = judge((held, held_out.y.numpy()), (z, y), given.out, classes=classes, source="Fashion-MNIST, test images")
    draw_confusion(z, y, classes, given.out / "confusion.png")
    write_figures({**found, "activations": table}, given.out)


if __name__ == "__main__":
    main()
