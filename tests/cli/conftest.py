"""Tables, a fitted model, and two ways to call the command: in this process, and as it is installed."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from normexp.cli.app import run

COMMAND = Path(sys.executable).parent / "normexp"


class Outcome(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        """Standard output, which must be one JSON object and nothing else."""
        return json.loads(self.out)


@pytest.fixture
def call(capsys):
    """Run a command in this process."""

    def call(*arguments):
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def installed():
    """Run the installed command as a process of its own."""
    if not COMMAND.exists():
        pytest.skip(f"normexp is not installed beside {sys.executable}")

    def installed(*arguments, **options):
        done = subprocess.run(
            [COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False, **options
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return installed


def fruit(n_rows=240, seed=3):
    """Fruit of three kinds: a number, a category, a date and a class."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["apple", "lemon", "plum"], n_rows)
    mass = np.array([{"apple": 170.0, "lemon": 90.0, "plum": 50.0}[name] for name in kind]) + rng.normal(0, 20, n_rows)
    colours = {"apple": ["red", "green"], "lemon": ["yellow", "green"], "plum": ["blue", "red"]}
    colour = [str(rng.choice(colours[name])) for name in kind]
    day = np.datetime64("2024-03-01") + rng.integers(0, 200, n_rows)
    return pl.DataFrame({"mass": mass.round(1), "colour": colour, "picked": day, "kind": kind})


def arrays(n_rows=200, seed=4):
    """Three clouds in four dimensions."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n_rows)
    return (rng.normal(size=(n_rows, 4)) + 2.5 * np.eye(3, 4)[y]).astype(np.float32), y


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """The same fruit in every format that holds a table, and clouds in the formats that hold arrays."""
    folder = tmp_path_factory.mktemp("tables")
    frame = fruit()
    frame.write_csv(folder / "fruit.csv")
    with gzip.open(folder / "fruit.csv.gz", "wb") as file:
        file.write((folder / "fruit.csv").read_bytes())
    frame.write_csv(folder / "fruit.tsv", separator="\t")
    frame.write_parquet(folder / "fruit.parquet")
    frame.with_columns(pl.col("picked").cast(pl.String)).write_ndjson(folder / "fruit.ndjson")
    X, y = arrays()
    np.savez(folder / "clouds.npz", X=X, y=y)
    (folder / "clouds").mkdir()
    np.save(folder / "clouds" / "X.npy", X)
    np.save(folder / "clouds" / "y.npy", y)
    rows = (" ".join(f"{d + 1}:{x:.4f}" for d, x in enumerate(row)) for row in X)
    (folder / "clouds.svm").write_text("".join(f"{label} {row}\n" for label, row in zip(y, rows, strict=True)))
    words = {"spam": ["win", "cash", "now", "prize"], "ham": ["see", "you", "at", "lunch"]}
    rng = np.random.default_rng(5)
    lines = [(name, " ".join(rng.choice(words[name], 5))) for name in rng.choice(["spam", "ham"], 120)]
    (folder / "messages.txt").write_text("".join(f"__label__{name} {text}\n" for name, text in lines))
    pl.DataFrame({"label": [name for name, _ in lines], "text": [text for _, text in lines]}).write_csv(
        folder / "messages.csv"
    )
    return folder


@pytest.fixture(scope="session")
def model(tables, tmp_path_factory):
    """A model of the fruit, fitted once."""
    path = tmp_path_factory.mktemp("model") / "fruit.nx"
    assert run(["fit", str(tables / "fruit.csv"), "--target", "kind", "-o", str(path)]) == 0
    return path
