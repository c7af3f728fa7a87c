"""Heads of many classes on real text and on a synthetic Zipf problem: time, perplexity, and both against rivals.

    python bench/torch_heads.py [--only ROW ...] [--seconds 30] [--steps 300] [--folder bench/results/torch_heads]

Each row is a file of its own in the folder and is not measured again; ``--only`` names rows (or how they begin), and a
named row is measured again. The table and the figure are drawn of what is there: FOLDER.md and FOLDER.png.

Text: WikiText-2, its validation part to train on (217 646 tokens), the first 20 000 tokens of its test part to test on;
the vocabulary is the training part's words, at most 18 000 (it has 13 777), all other test words ``<unk>``. A model of
200 numbers for each word, one GRU layer of 200, batches of 20 x 35, Adagrad. Zipf: 100 000 classes, class k as often as
1 / k, features its own 128 normal numbers and as much noise again, batches of 512, a tanh layer of 128 before the head.
All heads begin with the same layers below and meet the same batches.

Rows: ``step-A`` and ``step-B``, AdaptiveHead against torch's at two sets of cut-offs, steps taking turns; ``equal``,
perplexity of both after equal steps; ``tree-H`` and ``tree-W``, HierarchicalHead against the package
``hierarchicalsoftmax`` on a Huffman tree and on a wide one; ``text-HEAD`` and ``zipf-HEAD``, perplexity against the
seconds of training, all heads of a problem in turns of a quarter of a second (``text`` and ``zipf`` measure them). On
two cores ``--only step equal tree``, ``--only zipf`` and ``--only text`` take about five minutes each or less. The
packages ``matplotlib`` and ``hierarchicalsoftmax`` are needed. Mixtures of softmaxes: ``torch_mixture.py``.
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import nn

import heads_data
import normexp as nx
from machine import processor

PREDICTION = """\
Prediction, written down before the first run on quiet cores (shares of the time had been profiled on busy ones): a step
of AdaptiveHead takes 0.7 of the time of torch's (three products either way, which are two thirds of torch's time, and
one pass over the logits instead of seven), and perplexities after equal steps differ by less than 0.1 %.
HierarchicalHead is 100 times as fast as the package on both trees. At 13 777 classes adaptive and sampled are below the
full head's perplexity until it has had half a minute, the Huffman tree only for the first seconds; at 100 000 all three
are below it throughout. The mixture of four softmaxes, at four times the price of a step, is above the full head all
the time.

Measured with dense gradients, the Huffman tree at 100 000 classes took 160 ms a step, most of them for a gradient and a
step of the optimiser as large as all weights, and was above the full head: 241 against 138 after half a minute.
Prediction for ``HierarchicalHead(sparse=True)``, written down before its first run: 15 ms a step, and by the slope of
its steps so far a perplexity of about 60 after half a minute, below the full head throughout and above adaptive and
sampled. On text, where a batch touches a third of the tree, steps are no slower.
"""
TURNS = """\
Why in turns: measured one after another, minutes apart, torch's adaptive head made 761 steps of text in 30 s and ours
658, though each of ours took less of `step-B`, and in `equal`, the same training of the same heads, torch's made 20
steps a second and ours 27. The machine's speed differed by a quarter between rows, the heads by a tenth: of 48.0 and
51.8 ms of a step of training, taking turns (medians of 40), 24 are the layers below and the optimiser, the same for
both. Not to blame: the optimiser (3.0 and 2.9 ms), clipping (0.7 both), the first compilation and the tests (both
outside the clock), threads of torch that spin while the kernels' threads work (121 and 123 ms on a busy machine with
one and two threads for the kernels, torch's head 213: of a step's 32 ms of CPU time kernels have 1, products 24).
"""
HEADS = ("full", "adaptive", "torch-adaptive", "sampled", "hierarchical")
CUTS = {"A": [1200, 3600], "B": [2000, 8000]}
WIDTH = 200
SAMPLES = 1024
MOST_SECONDS = 40.0  # of turns
TURN = 0.25  # seconds of training
PARTS = ("below", "head", "backward", "optimiser")  # of a step, clipping counted as the optimiser's


# ---------------------------------------------------------------- heads


class TorchAdaptive(nn.AdaptiveLogSoftmaxWithLoss):
    """PyTorch's own, with the method that the others have; classes are sorted by frequency here."""

    def loss(self, x, target):
        """Mean loss of rows."""
        return self(x.reshape(-1, self.in_features), target.reshape(-1)).loss


def made_head(name, depth, counts, cuts):
    """A head by its name."""
    classes = len(counts)
    torch.manual_seed(1)
    if name == "full":
        return nx.nn.SoftmaxHead(depth, classes)
    if name == "adaptive":
        return nx.nn.AdaptiveHead(depth, classes, cutoffs=cuts)
    if name == "torch-adaptive":
        return TorchAdaptive(depth, classes, cuts)
    if name == "sampled":
        return nx.nn.SampledHead(depth, classes, SAMPLES, class_counts=counts, sparse=True)
    return nx.nn.HierarchicalHead(depth, nx.nn.Tree.huffman(counts), sparse=True)


def like(theirs, ours):
    """Give torch's adaptive head the weights of ours."""
    with torch.no_grad():
        theirs.head.weight.copy_(ours.head_weight)
        for pair, down, tail in zip(theirs.tail, ours.down, ours.tails, strict=True):
            pair[0].weight.copy_(down)
            pair[1].weight.copy_(tail)


# ---------------------------------------------------------------- turns and training


def turns(steps, rounds):
    """Seconds of each of several functions taking turns, (rounds, functions)."""
    for step in steps:
        step()  # compiled, and memory found
    found, begun = [], time.perf_counter()
    while len(found) < rounds and (len(found) < 3 or time.perf_counter() - begun < MOST_SECONDS):
        row = np.empty(len(steps))
        for j in range(len(steps)) if len(found) % 2 else reversed(range(len(steps))):
            start = time.perf_counter()
            steps[j]()
            row[j] = time.perf_counter() - start
        found.append(row)
    return np.array(found)


def compared(seconds):
    """Medians in ms of ours (first) and the rival's, and the median of the ratios."""
    ours, rival = np.median(seconds, axis=0) * 1e3
    best = seconds.min(axis=0)
    return {
        "ours_ms": ours, "rival_ms": rival, "ratio": float(np.median(seconds[:, 0] / seconds[:, 1])),
        "ratio_of_best": float(best[0] / best[1]), "rounds": len(seconds),
    }  # fmt: skip


def step_of(head, x, target):
    """One pass forward and backward."""

    def step():
        x.grad = None
        head.zero_grad()
        head.loss(x, target).backward()

    return step


class Training:
    """A head and the layers below it, and what their training has taken."""

    def __init__(self, problem, name, cuts):
        torch.manual_seed(0)
        self.problem, self.below = problem, problem.network()
        self.head = made_head(name, problem.depth, problem.counts, cuts)
        if name == "torch-adaptive":
            like(self.head, made_head("adaptive", problem.depth, problem.counts, cuts))
        parameters = [*self.below.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.Adagrad(parameters, lr=problem.rate)
        x, target = next(problem.batches())
        self.head.loss(self.below(x), target).backward()  # kernels loaded, memory found; forgotten again
        self.below.train()
        self.name, self.spent, self.marks, self.points, self.batches = name, 0.0, [], [], problem.batches()

    def step(self):
        """One step, and the seconds of its parts."""
        x, target = next(self.batches)
        marks = [time.perf_counter()]
        self.optimiser.zero_grad()
        features = self.below(x)
        marks.append(time.perf_counter())
        loss = self.head.loss(features, target)
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        nn.utils.clip_grad_norm_([part for part in self.below.parameters() if not part.grad.is_sparse], 1.0)
        self.optimiser.step()
        marks.append(time.perf_counter())
        self.marks.append(np.diff(marks))
        self.spent += marks[-1] - marks[0]

    def test(self):
        """Add a point: seconds of training, steps, perplexity."""
        self.points.append((self.spent, len(self.marks), perplexity(self.problem, self.below, self.head)))
        print(f"  {self.name}: {self.spent:6.1f} s, {len(self.marks)} steps, perplexity {self.points[-1][2]:.1f}",
              flush=True)  # fmt: skip

    def parts_ms(self):
        """Median ms of each part of a step."""
        return dict(zip(PARTS, (np.median(self.marks, axis=0) * 1e3).tolist(), strict=True))


def train_in_turns(trainings, seconds, points=6):
    """Train all until each has had its seconds, a turn at a time, and test at times that double."""
    for at in (seconds / 2.0**i for i in reversed(range(points))):
        while any(one.spent < at for one in trainings):
            for one in trainings:
                until = min(at, one.spent + TURN)
                while one.spent < until:
                    one.step()
        for one in trainings:
            if not one.points or one.points[-1][1] < len(one.marks):
                one.test()


def perplexity(problem, below, head):
    """Exp of the mean loss of the test part; exact for every head."""
    below.eval()
    head.eval()
    with torch.no_grad():
        parts = [(float(head.loss(below(x), target)) * target.numel(), target.numel()) for x, target in problem.test()]
    below.train()
    head.train()
    total, count = np.sum(parts, axis=0)
    return float(np.exp(total / count))


# ---------------------------------------------------------------- rows


def measure_step(cuts, given):
    """AdaptiveHead and torch's: the head alone, forward and backward, at the features of a batch of text."""
    problem = heads_data.Text()
    x, target = next(problem.batches())
    x = torch.randn(*x.shape, WIDTH).reshape(-1, WIDTH).requires_grad_()
    heads = [made_head(name, WIDTH, problem.counts, cuts) for name in ("adaptive", "torch-adaptive")]
    like(heads[1], heads[0])
    losses = [head.loss(x, target.reshape(-1)).item() for head in heads]
    found = compared(turns([step_of(head, x, target.reshape(-1)) for head in heads], given.rounds))
    return {"cutoffs": cuts, "classes": len(problem.counts), "losses": losses, **found}


def measure_equal(cuts, given):
    """Perplexity of AdaptiveHead and of torch's after equal steps from equal weights, steps taking turns."""
    problem = heads_data.Text()
    both = [Training(problem, name, cuts) for name in ("adaptive", "torch-adaptive")]
    for i in range(given.steps):
        for one in both if i % 2 else both[::-1]:
            one.step()
    for one in both:
        one.test()
    ours, rival = (one.points[-1] for one in both)
    return {
        "cutoffs": cuts, "steps": given.steps, "ours_perplexity": ours[2], "rival_perplexity": rival[2],
        "difference": ours[2] / rival[2] - 1.0, "ours_seconds": ours[0], "rival_seconds": rival[0],
        "ours_parts_ms": both[0].parts_ms(), "rival_parts_ms": both[1].parts_ms(),
    }  # fmt: skip


def measure_tree(kind, given):
    """HierarchicalHead and the package's layer and loss: one tree, one set of weights, forward and backward."""
    from hierarchicalsoftmax import HierarchicalSoftmaxLinear, HierarchicalSoftmaxLoss

    rows, depth = 128, 64
    tree = heads_data.huffman_of_text() if kind == "H" else heads_data.wide_tree()
    root, places = heads_data.package_tree(tree)
    layer, loss = HierarchicalSoftmaxLinear(root, in_features=depth), HierarchicalSoftmaxLoss(root)
    head = nx.nn.HierarchicalHead(depth, tree)
    heads_data.copy_weights(head, tree, layer, places)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, depth, generator=generator).requires_grad_()
    target = torch.multinomial(heads_data.leaf_shares(tree), rows, replacement=True, generator=generator)
    nodes = places[torch.from_numpy(tree.leaves)[target]]

    def theirs():
        x.grad = None
        layer.zero_grad()
        loss(layer(x), nodes).backward()

    losses = [head.loss(x, target).item(), loss(layer(x), nodes).item()]
    found = compared(turns([step_of(head, x, target), theirs], given.rounds))
    return {"classes": head.num_classes, "rows": rows, "levels": int(tree.depths.max()), "losses": losses, **found}


def measure_curves(problem, given):
    """Perplexity against seconds, of all heads in turns: {head: row}."""
    trainings = [Training(problem, name, problem.cuts) for name in HEADS]
    train_in_turns(trainings, given.seconds)
    return {one.name: {"head": one.name, "in_turns": True, "parts_ms": one.parts_ms(), "points": one.points}
            for one in trainings}  # fmt: skip


ROWS = {
    "step-A": lambda given: measure_step(CUTS["A"], given),
    "step-B": lambda given: measure_step(CUTS["B"], given),
    "equal": lambda given: measure_equal(CUTS["B"], given),
    "tree-H": lambda given: measure_tree("H", given),
    "tree-W": lambda given: measure_tree("W", given),
}
CURVES = {"text": heads_data.Text, "zipf": heads_data.Zipf}
FILES = (*ROWS, *(f"{kind}-{name}" for kind in CURVES for name in HEADS))


# ---------------------------------------------------------------- what it wrote


def circumstances():
    """Machine, versions, and whether others computed at the same time."""
    packages = {}
    for name in ("torch", "numpy", "numba", "hierarchicalsoftmax"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "machine": processor(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 1), "python": platform.python_version(),
        "normexp": nx.__version__, **packages,
    }  # fmt: skip


def table(found):
    """The Markdown of all rows that there are."""
    lines = ["# Heads of many classes", "", *PREDICTION.splitlines(), "", "Written by `bench/torch_heads.py`.", ""]
    lines += [*TURNS.splitlines(), ""]
    lines += [
        "| row | ours | rival | of the rival's time | best of best | losses or perplexities | load before |",
        "|---" * 7 + "|",
    ]
    for name, row in found.items():
        if name.split("-")[0] in {"text", "zipf"}:
            continue
        if name == "equal":
            cells = [f"{row['steps']} steps, {row['cutoffs']}", f"{row['ours_seconds']:.0f} s",
                     f"{row['rival_seconds']:.0f} s", f"{row['ours_seconds'] / row['rival_seconds']:.2f}", "",
                     "{ours_perplexity:.2f} / {rival_perplexity:.2f} ({difference:+.2%})".format(**row)]  # fmt: skip
        else:
            cells = [f"{row['classes']} classes, {row.get('cutoffs') or str(row['levels']) + ' levels'}",
                     f"{row['ours_ms']:.1f} ms", f"{row['rival_ms']:.1f} ms", f"{row['ratio']:.4f}",
                     f"{row['ratio_of_best']:.4f}", " / ".join(f"{loss:.5f}" for loss in row["losses"])]  # fmt: skip
        lines.append(f"| {name}: " + " | ".join(cells) + f" | {row['circumstances']['load_before']} |")
    for kind, title in (("text", "WikiText-2"), ("zipf", "Zipf, 100 000 classes")):
        curves = {name: row for name, row in found.items() if name.startswith(kind)}
        if not curves:
            continue
        lines += ["", f"## {title}: perplexity against seconds of training (steps)", ""]
        for row in curves.values():
            points = ", ".join(f"{ppl:.0f} at {spent:.1f} s ({steps})" for spent, steps, ppl in row["points"])
            how = "in turns" if row.get("in_turns") else "alone"
            lines.append(f"- {row['head']} ({how}, load {row['circumstances']['load_before']}): {points}")
    if "ours_parts_ms" in found.get("equal", {}):
        both = {"ours": found["equal"]["ours_parts_ms"], "torch's": found["equal"]["rival_parts_ms"]}
        lines += ["", "## Where a step of training goes: medians of the row `equal`, ms", ""]
        lines += [f"| | {' | '.join(PARTS)} |", "|---" * (1 + len(PARTS)) + "|"]
        lines += [f"| {name} | " + " | ".join(f"{ms[part]:.1f}" for part in PARTS) + " |" for name, ms in both.items()]
    seen = {json.dumps({k: v for k, v in row["circumstances"].items() if k != "load_before"}) for row in found.values()}
    lines += ["", *(", ".join(f"{k} {v}" for k, v in json.loads(one).items()) for one in sorted(seen))]
    return "\n".join(lines) + "\n"


def draw(found, path):
    """Perplexity against time, text beside Zipf."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib import ticker

    figure, panes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for pane, kind, title in zip(panes, ("text", "zipf"), ("WikiText-2", "Zipf, 100 000 classes"), strict=True):
        for name in HEADS:
            row = found.get(f"{kind}-{name}")
            if row:
                spent, _, ppl = np.array(row["points"]).T
                pane.plot(spent, ppl, marker="o", label=name, linestyle="--" if name.startswith("torch") else "-")
        pane.set(
            title=title, xlabel="seconds of training", ylabel="perplexity of the test part", xscale="log", yscale="log"
        )
        for axis in (pane.xaxis, pane.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 3, 5)))
            axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
            axis.set_minor_locator(ticker.NullLocator())
        if pane.lines:
            pane.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    """Measure what is missing, then write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="rows, or how they begin; measured again if they are there")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--folder", type=Path, default=Path("bench/results/torch_heads"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    measures = dict(ROWS)
    measures |= {kind: lambda given, made=made: measure_curves(made(), given) for kind, made in CURVES.items()}
    for name, measure in measures.items():
        paths = {head: given.folder / f"{name}-{head}.json" for head in HEADS}
        paths = paths if name in CURVES else {name: given.folder / f"{name}.json"}
        missing = not all(path.exists() for path in paths.values())
        if not (any(name.startswith(begin) for begin in given.only) if given.only else missing):
            continue
        print(f"{name} ...", flush=True)
        before = circumstances()
        try:
            rows = measure(given)
        except ModuleNotFoundError as absent:
            print(f"  left out: {absent.name} is not installed")
            continue
        for one, row in (rows if name in CURVES else {name: rows}).items():
            paths[one].write_text(json.dumps({**row, "circumstances": before}, indent=1) + "\n", encoding="utf-8")
            print(f"  { ({k: v for k, v in row.items() if k != 'points'}) }\n  wrote {paths[one]}", flush=True)
    found = {name: json.loads((given.folder / f"{name}.json").read_text()) for name in FILES
             if (given.folder / f"{name}.json").exists()}  # fmt: skip
    given.folder.with_suffix(".md").write_text(table(found), encoding="utf-8")
    draw(found, given.folder.with_suffix(".png"))
    print(f"wrote {given.folder.with_suffix('.md')} and {given.folder.with_suffix('.png')}")


if __name__ == "__main__":
    main()
