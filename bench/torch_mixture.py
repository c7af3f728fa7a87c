"""Whether a mixture of softmaxes earns a place among the heads: test perplexity after equal steps, on real text.

    python bench/torch_mixture.py [--only ROW ...] [--steps 450] [--every 150] [--folder bench/results/torch_mixture]

Rows ``WORDS-PARTS-SEED``: the text, the model and the optimiser of ``torch_heads.py``, with the WORDS most frequent
words (all others ``<unk>``) and a head of PARTS softmaxes (Yang, Dai, Salakhutdinov and Cohen (2018), eq. 4); ``1`` is
the dense head, ``tanh`` the dense head behind the layer that each part of a mixture has, ``wide`` the dense head in a
model that is wider throughout, with at least the parameters of a mixture of five. All rows of a seed meet the same
batches and begin with weights of that seed. The price is CPU time of a step, of all threads: other people's work on the
machine does not count. Each row is a file of its own and is not measured again unless ``--only`` names it.
"""

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import heads_data
import normexp as nx
from normexp.backends.threads import POOL
from normexp.kernels.cpu.single_loss import index_loss_single

PREDICTION = """\
Prediction, written down before the first run: after equal steps the mixtures are within 2 % of the dense head's
perplexity, either way, and a step of M parts costs M times a step of the dense head but for the layers below; so the
mixture does not earn its place.
"""
WIDTH, WIDER = 200, 208
BLOCK = 1 << 21  # logits
ROWS = [
    *(f"4000-{kind}-{seed}" for seed in (0, 1) for kind in ("1", "2", "4")),
    *(f"18000-{kind}-0" for kind in ("1", "2", "4")),
    *(f"4000-{kind}-{seed}" for seed in (0, 1) for kind in ("tanh", "wide", "3", "5")),
    *(f"18000-{kind}-1" for kind in ("1", "2", "4")),
]


class MixedLoss(torch.autograd.Function):
    """Sum of -log sum_m prior_m p_m(target), gradients made in the forward pass from a block of logits.

    Each part's rows give ``p - onehot``; what a part is responsible for multiplies its features and its features'
    gradient, not its logits.
    """

    @staticmethod
    def forward(ctx, hidden, log_prior, weight, bias, target):
        rows, parts, depth = hidden.shape
        classes = len(weight)
        of_hidden, of_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        of_bias, of_prior = torch.zeros_like(bias), torch.empty_like(log_prior)
        wide = -(-classes // 16) * 16
        height = max(1, BLOCK // (wide * parts))
        room = torch.empty(height * parts, wide)
        total = 0.0
        for first in range(0, rows, height):
            last = min(first + height, rows)
            count = (last - first) * parts
            h = hidden[first:last].reshape(count, depth)
            z = room[:count, :classes]
            torch.addmm(bias, h, weight.T, out=z)
            nll = np.empty(count)
            answers = target[first:last].repeat_interleave(parts).numpy()
            block, ones = room[:count].numpy(), np.ones(count)
            step = max(1, (1 << 16) // wide)

            def work(i, block=block, answers=answers, ones=ones, nll=nll, step=step):
                here = slice(i * step, (i + 1) * step)
                index_loss_single(block[here], classes, answers[here], ones[here], nll[here], True)

            POOL.run(work, -(-count // step))
            log_joint = log_prior[first:last] - torch.from_numpy(nll).reshape(-1, parts).float()
            log_prob = torch.logsumexp(log_joint, 1, keepdim=True)
            share = torch.exp(log_joint - log_prob)
            total -= float(log_prob.double().sum())
            of_prior[first:last] = -share
            scale = share.reshape(count, 1)
            of_hidden[first:last] = ((z @ weight) * scale).reshape(last - first, parts, depth)
            of_weight.addmm_(z.T, h * scale)
            of_bias.addmv_(z.T, scale[:, 0])
        ctx.save_for_backward(of_hidden, of_prior, of_weight, of_bias)
        return torch.tensor(total)

    @staticmethod
    def backward(ctx, upstream):
        return (*(part * upstream for part in ctx.saved_tensors), None)


class Mixture(nn.Module):
    """A mixture of softmaxes over one projection."""

    def __init__(self, depth, classes, parts):
        super().__init__()
        self.parts, self.depth = parts, depth
        self.latent, self.prior = nn.Linear(depth, parts * depth), nn.Linear(depth, parts)
        self.projection = nn.Linear(depth, classes)

    def loss(self, x, target):
        """Mean loss of rows."""
        x, target = x.reshape(-1, self.depth), target.reshape(-1)
        hidden = torch.tanh(self.latent(x)).reshape(-1, self.parts, self.depth)
        log_prior = torch.log_softmax(self.prior(x), -1)
        total = MixedLoss.apply(hidden, log_prior, self.projection.weight, self.projection.bias, target)
        return total / len(target)

    def told(self, x):
        """How much the likeliest part has of a row, on average, and how many parts a row uses (exp of entropy)."""
        log_prior = torch.log_softmax(self.prior(x.reshape(-1, self.depth)), -1)
        return float(log_prior.exp().amax(1).mean()), float((-(log_prior.exp() * log_prior).sum(1)).exp().mean())


def made(kind, depth, classes):
    """The head of a row."""
    if kind in {"1", "wide"}:
        return nx.nn.SoftmaxHead(depth, classes)
    return Mixture(depth, classes, 1 if kind == "tanh" else int(kind))


def perplexity(problem, below, head):
    """Exp of the mean loss of the test part."""
    below.eval()
    with torch.no_grad():
        losses = [(float(head.loss(below(x), target)) * target.numel(), target.numel()) for x, target in problem.test()]
    below.train()
    total, count = np.sum(losses, axis=0)
    return math.exp(total / count)


def measure(name, given):
    """Train a row, testing on the way."""
    words, kind, seed = name.split("-")
    problem = heads_data.Text(int(words))
    depth = WIDER if kind == "wide" else WIDTH
    torch.manual_seed(int(seed))
    below = heads_data.Recurrent(len(problem.counts), depth)
    head = made(kind, depth, len(problem.counts))
    parameters = [*below.parameters(), *head.parameters()]
    optimiser = torch.optim.Adagrad(parameters, lr=problem.rate)
    below.train()
    spent, points, batches = 0.0, [], problem.batches()
    for done in range(1, given.steps + 1):
        x, target = next(batches)
        start = time.process_time()
        optimiser.zero_grad()
        head.loss(below(x), target).backward()
        nn.utils.clip_grad_norm_([part for part in below.parameters() if not part.grad.is_sparse], 1.0)
        optimiser.step()
        spent += time.process_time() - start
        if done % given.every == 0 or done == given.steps:
            points.append((done, spent, perplexity(problem, below, head)))
            print(f"  {name}: {done} steps, {spent:.0f} CPU s, perplexity {points[-1][2]:.2f}", flush=True)
    row = {"classes": len(problem.counts), "parameters": sum(part.numel() for part in parameters), "points": points}
    if isinstance(head, Mixture):
        with torch.no_grad():
            row["largest_share"], row["parts_used"] = head.told(below(x))
    return row


# ---------------------------------------------------------------- what it wrote


def circumstances():
    """Machine and versions."""
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}, normexp {nx.__version__}"
    )


def table(found):
    """The Markdown of all rows that there are."""
    lines = ["# A mixture of softmaxes against the dense head", "", *PREDICTION.splitlines(), ""]
    lines += ["Written by `bench/torch_mixture.py`; mean over the seeds (lowest to highest).", ""]
    for words in dict.fromkeys(name.split("-")[0] for name in found):
        kinds = {}
        for name, row in found.items():
            if name.split("-")[0] == words:
                kinds.setdefault(name.split("-")[1], []).append(row)
        first = next(iter(kinds.values()))[0]
        steps = [done for done, _, _ in first["points"]]
        lines += [f"## {first['classes']} words", ""]
        heads = " | ".join(f"perplexity, {done} steps" for done in steps)
        lines += [f"| head | seeds | parameters | CPU ms a step | {heads} |", "|---" * (4 + len(steps)) + "|"]
        for kind, rows in kinds.items():
            cells = []
            for i in range(len(steps)):
                values = [row["points"][i][2] for row in rows]
                cells.append(f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
            price = np.mean([1e3 * row["points"][-1][1] / row["points"][-1][0] for row in rows])
            title = {"1": "dense", "wide": f"dense, width {WIDER}", "tanh": "dense behind a tanh layer"}
            told = (title.get(kind, f"{kind} parts"), str(len(rows)), f"{rows[0]['parameters']:,}", f"{price:.0f}")
            lines.append("| " + " | ".join((*told, *cells)) + " |")
        lines.append("")
    lines += sorted({row["circumstances"] for row in found.values()})
    return "\n".join(lines) + "\n"


def main():
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="rows, or how they begin")
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--every", type=int, default=150)
    parser.add_argument("--folder", type=Path, default=Path("bench/results/torch_mixture"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in ROWS:
        path = given.folder / f"{name}.json"
        if any(name.startswith(begin) for begin in given.only) if given.only else not path.exists():
            row = {**measure(name, given), "circumstances": circumstances()}
            path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    found = {name: json.loads((given.folder / f"{name}.json").read_text()) for name in ROWS
             if (given.folder / f"{name}.json").exists()}  # fmt: skip
    given.folder.with_suffix(".md").write_text(table(found), encoding="utf-8")
    print(f"wrote {given.folder.with_suffix('.md')}")


if __name__ == "__main__":
    main()
