"""A model from a file and the table it is to be used on, matched before any work is done."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from normexp.base.errors import ArtifactError

if TYPE_CHECKING:
    from normexp.tables.source import Source
    from normexp.trusted import TableClassifier


def open_for(
    model: Any, table: Path, /, *, ignore_extra: bool = False, with_target: bool = False
) -> "tuple[TableClassifier, Source]":
    """Open a table for a model and refuse what does not fit it.

    Parameters
    ----------
    model : estimator
        What a model file held.
    table : Path
        The table.
    ignore_extra : bool
        Whether columns that the model does not know are passed over.
    with_target : bool
        Whether the classes are needed; they are looked for under the name they had when the model was fitted.

    Returns
    -------
    tuple of (TableClassifier, Source)
        The model and the opened table.

    Raises
    ------
    ArtifactError
        For a model that knows no columns.
    InputError
        For a table that does not fit the model.
    """
    from normexp.tables import open_source
    from normexp.trusted import TableClassifier

    if not isinstance(model, TableClassifier):
        raise ArtifactError(
            f"the model file holds a {type(model).__name__}, which knows arrays and no tables; "
            "use it from Python, or fit a model with: normexp fit TABLE --target COLUMN -o MODEL."
        )
    arrays = model.features_ if model.schema_.layout == "dense" else None  # which array of an archive
    source = open_source(table, target=model.target_ if with_target else None, features=arrays)
    model.check(source, ignore_extra=ignore_extra)
    return model, source
