"""The main job on real input: fit and evaluate through the installed command, time, peak memory and scores.

    python bench/main_job.py [--only NAME ...] [--data ../shared/data] [--output bench/results/main_job.md]

Each row is two commands, ``normexp fit`` and ``normexp evaluate --json``, on files; the time is that of the
whole ``fit`` command, start-up and reading included; the peak memory is that of its process.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

BIN = Path(sys.executable).with_name("normexp")
TABLES = ("covertype", "dry-bean", "date-fruit")
TEXTS = {"sms-spam": None, "trec": "text", "newsgroups20": "text"}


def run(*arguments: object) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """One command: its result, seconds, and peak resident memory in MB."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(BIN), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = process.communicate()
    seconds = time.perf_counter() - began
    peak_mb = os_peak()
    return subprocess.CompletedProcess(arguments, process.returncode, out, err), seconds, peak_mb


def said(stderr: str) -> str:
    """The first sentence of each warning, without the file that it speaks of."""
    found = re.findall(r"Warning: (?:\S+: )?(.*?[.])(?: |$)", stderr, flags=re.MULTILINE)
    return " ".join(f"Warned: {sentence}" for sentence in found)


def os_peak() -> float:
    """Largest resident memory among the commands run so far, MB; each row is run in a fresh interpreter."""
    import resource

    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3


def split(frame: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    """75 % to fit, 25 % held out, stratified, seed 0."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(frame, test_size=0.25, stratify=frame["label"], random_state=0)
    for name, part in (("train", train), ("test", test)):
        part.to_csv(folder / f"{name}.csv", index=False)
    return folder / "train.csv", folder / "test.csv"


def files_of(name: str, data: Path, folder: Path) -> tuple[Path, Path, list[str]]:
    """Training file, test file, options of ``fit``."""
    if name == "digits":
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        X, y = load_digits(return_X_y=True)
        parts = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
        np.savez(folder / "train.npz", X=parts[0], y=parts[2])
        np.savez(folder / "test.npz", X=parts[1], y=parts[3])
        return folder / "train.npz", folder / "test.npz", []
    if name == "fashion-mnist":
        stored = np.load(data / name / "fashion-mnist.npz")
        for part in ("train", "test"):
            np.savez(folder / f"{part}.npz", X=stored[f"x_{part}"], y=stored[f"y_{part}"])
        return folder / "train.npz", folder / "test.npz", []
    if name in TABLES:
        train, test = split(pd.read_csv(data / name / "data.csv.gz"), folder)
        return train, test, ["--target", "label"]
    source = data / name
    if (source / "data.csv.gz").exists():
        frame = pd.read_csv(source / "data.csv.gz", dtype=str, keep_default_na=False)
        text = next(column for column in frame.columns if column != "label")
        train, test = split(frame, folder)
        return train, test, ["--target", "label", "--text", text]
    for part in ("train", "test"):
        frame = pd.read_csv(source / f"{part}.csv.gz", dtype=str, keep_default_na=False)
        frame[["text", "label"]].to_csv(folder / f"{part}.csv", index=False)
    return folder / "train.csv", folder / "test.csv", ["--target", "label", "--text", "text"]


def measure(name: str, data: Path) -> dict[str, object]:
    """Fit and evaluate one data set."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        train, test, options = files_of(name, data, folder)
        model = folder / "model.nx"
        fitted, seconds, peak_mb = run("--debug", "fit", train, *options, "-o", model, "--json")
        if fitted.returncode:
            return {"name": name, "error": fitted.stderr[-300:]}
        scored, evaluate_s, _ = run("--debug", "evaluate", model, test, "--json")
        if scored.returncode:
            return {"name": name, "error": scored.stderr[-300:]}
        found = json.loads(scored.stdout)
        return {
            "name": name,
            "accuracy": found["accuracy"],
            "log_loss": found["log_loss"],
            "prior_log_loss": found["prior"]["log_loss"],
            "fit_s": seconds,
            "evaluate_s": evaluate_s,
            "peak_mb": peak_mb,
            "recall": {row["label"]: row["recall"] for row in found["per_class"]}
            if len(found["per_class"]) == 2
            else {},
            "warnings": said(fitted.stderr),
        }


def main() -> None:
    """Measure every set in an interpreter of its own and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1].parent / "shared" / "data")
    parser.add_argument("--only", nargs="*", default=["digits", *TEXTS, "fashion-mnist", *TABLES])
    parser.add_argument("--one", help="measure this set and print JSON (used by the command itself)")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    if given.one:
        warnings.simplefilter("ignore")
        print(json.dumps(measure(given.one, given.data)))
        return
    lines = [
        f"Machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        + ", ".join(
            f"{name} {version(name)}" for name in ("normexp", "numpy", "scipy", "numba", "scikit-learn", "skrub")
        ),
        "",
        "| data | test accuracy | log loss | of the prior | fit, s | evaluate, s | peak, MB | remarks |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in given.only:
        child = subprocess.run(
            [sys.executable, __file__, "--one", name, "--data", str(given.data)],
            capture_output=True,
            text=True,
            check=True,
        )
        row = json.loads(child.stdout.splitlines()[-1])
        if "error" in row:
            lines.append(f"| {name} | failed: {row['error']} |")
        else:
            remarks = " ".join([*(f"recall of {k}: {v:.4f}." for k, v in row["recall"].items()), row["warnings"]])
            lines.append(
                f"| {name} | {row['accuracy']:.4f} | {row['log_loss']:.4f} | {row['prior_log_loss']:.4f} "
                f"| {row['fit_s']:.1f} | {row['evaluate_s']:.1f} | {row['peak_mb']:.0f} | {remarks} |"
            )
        print(lines[-1], flush=True)
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
