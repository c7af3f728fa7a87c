"""Labelled logits to make reports of: drawn with a fixed seed, as strange as wanted."""

import numpy as np

from normexp.report.labelled import Labelled, TrainingFacts


def made(n=300, k=4, *, seed=0, claim=1.0, names=None, text="row", prior=None):
    """Calibrated logits (times `claim`) and labels drawn from them."""
    rng = np.random.default_rng(seed)
    frequency = np.full(k, 1 / k) if prior is None else np.asarray(prior)
    logits = 2.0 * rng.normal(size=(n, k)) + np.log(frequency)
    prob = np.exp(logits - logits.max(axis=1, keepdims=True))
    prob /= prob.sum(axis=1, keepdims=True)
    target = np.minimum((prob.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), k - 1)
    return Labelled(
        logits=claim * logits,
        target=target.astype(np.intp),
        classes=tuple(names or (f"class_{i}" for i in range(k))),
        prior=np.bincount(target, minlength=k) / n if prior is None else frequency,
        examples=tuple(f"{text} {i}" for i in range(n)),
    )


def facts_of(labelled, *, rows=1000, **changes):
    """Training facts that fit."""
    counts = tuple(int(c) for c in np.round(labelled.prior * rows))
    told = {
        "rows": rows,
        "features": 7,
        "classes": len(labelled.classes),
        "class_counts": counts,
        "seconds": 0.25,
        "outcome": "max|gradient| is at most tol.",
        "converged": True,
        "suboptimality": 1e-9,
        "n_iter": 12,
        "source": "train.csv",
        "target": "kind",
        "columns": ("u", "v"),
        "estimator": "SoftmaxClassifier()",
        "seed": 3,
        "versions": {"normexp": "0.0", "Python": "3"},
    }
    return TrainingFacts(**(told | changes))
