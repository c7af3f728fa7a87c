"""Options that several verbs share, so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

TableArgument = Annotated[
    Path,
    typer.Argument(
        metavar="TABLE",
        help="CSV, TSV, Parquet (also a folder of such files), NDJSON, .npz or .npy arrays, libsvm, or fastText lines; "
        "CSV and TSV also as .gz.",
    ),
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file that `normexp fit` wrote.")]
TargetOption = Annotated[str | None, typer.Option("--target", metavar="COLUMN", help="The column with the classes.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON object to standard output, nothing else.")]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, metavar="N", help="Seed of everything that is drawn at random.")
]
IgnoreExtraOption = Annotated[
    bool, typer.Option("--ignore-extra", help="Pass over columns that the model does not know.")
]
CostOption = Annotated[
    Path | None,
    typer.Option(
        "--cost",
        metavar="FILE",
        help="Decide for the least expected cost: a CSV of costs, the true class in the first column, the decisions "
        "(the classes, and unknown for refusing) in the header.",
    ),
]
