"""How every example starts: what it needs, its options, the folder of data, and Fashion-MNIST as tensors.

What is missing is said in one sentence, before anything is computed.
"""

import argparse
import csv
import gzip
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

try:
    import matplotlib as mpl

    mpl.use("Agg")  # pictures go to files
    import torch
    from matplotlib import pyplot as plt

    import normexp as nx
except ModuleNotFoundError as error:
    sys.exit(f"This example needs the package {error.name}; install it with: pip install 'normexp[cli,torch]'")

csv.field_size_limit(10**9)  # a post may be long

HERE = Path(__file__).resolve().parent
DATA = HERE.parent.parent / "shared" / "data"

__all__ = ["Images", "data_file", "nx", "options", "plt", "read_csv", "read_fashion", "torch"]


def options(file: str, doc: str | None, *, epochs: int, quick_epochs: int) -> argparse.Namespace:
    """Read the command line of an example, and make its folder for results.

    Parameters
    ----------
    file, doc : str
        The example's ``__file__`` and ``__doc__``, whose first line ``--help`` shows.
    epochs, quick_epochs : int
        Passes over the training rows by default, and with ``--quick``.

    Returns
    -------
    argparse.Namespace
        `data` and `out` (folders), `epochs`, `quick` (a few rows only, to see that it runs) and `seed`.
    """
    name = Path(file).stem
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with one folder for each data set")
    parser.add_argument("--out", type=Path, default=HERE / "out" / name, help="folder for pictures and figures.json")
    parser.add_argument("--epochs", type=int, help=f"passes over the training rows; {epochs} unless told")
    parser.add_argument("--quick", action="store_true", help="a few rows and epochs, to see that it runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and batches")
    given = parser.parse_args()
    if given.epochs is None:
        given.epochs = quick_epochs if given.quick else epochs
    if given.epochs < 1:
        parser.error(f"--epochs is {given.epochs}; 1 or more would be right.")
    if not given.data.is_dir():
        parser.error(f"--data: {given.data} is no folder; give the one that holds the data sets (docs/examples.md).")
    given.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(given.seed)
    return given


def data_file(data: Path, *parts: str) -> Path:
    """Find a file of the data folder, or end with a sentence."""
    path = data.joinpath(*parts)
    if not path.is_file():
        sys.exit(f"{path} is not there; docs/examples.md says which files this example reads and where they come from.")
    return path


def read_csv(data: Path, *parts: str) -> list[dict[str, str]]:
    """Rows of a gzip-compressed table, each a dictionary by the names of the columns."""
    with gzip.open(data_file(data, *parts), "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Images(NamedTuple):
    """Pictures of one part: `x` (N, 28, 28) float32, standardised; `y` (N,) int64."""

    x: torch.Tensor
    y: torch.Tensor


def read_fashion(data: Path, *, quick: bool) -> tuple[Images, Images, Images, tuple[str, ...]]:
    """Fashion-MNIST: 50 000 images to train on, 10 000 held out of the training part, the 10 000 test images.

    Returns
    -------
    train, held_out, test : Images
        With `quick`, 5 000, 1 000 and 1 000 of them.
    classes : tuple of str
        What the ten numbers stand for.
    """
    with np.load(data_file(data, "fashion-mnist", "fashion-mnist.npz")) as archive:
        x, y = archive["x_train"], archive["y_train"]
        x_test, y_test = archive["x_test"], archive["y_test"]
    classes = tuple(data_file(data, "fashion-mnist", "labels.txt").read_text(encoding="utf-8").split("\n")[:10])
    n_train, n_other = (5_000, 1_000) if quick else (50_000, 10_000)
    mean, deviation = float(x[:n_train].mean()), float(x[:n_train].std())

    def images(pixels: np.ndarray, label: np.ndarray) -> Images:
        return Images((torch.from_numpy(pixels).float() - mean) / deviation, torch.from_numpy(label).long())

    train = images(x[:n_train], y[:n_train])
    return train, images(x[-n_other:], y[-n_other:]), images(x_test[:n_other], y_test[:n_other]), classes
