"""A summary as one HTML file that needs no network."""

from normexp.base.errors import MissingExtraError
from normexp.report.facts import Summary


def render_html(summary: Summary, /) -> str:
    """Write a summary as a page: one HTML file with its styles and figures inside.

    Parameters
    ----------
    summary : Summary
        The facts.

    Returns
    -------
    str
        HTML, encoded as UTF-8 when written. The same summary gives the same text, byte for byte. It loads nothing,
        runs no script, follows the reader's light or dark scheme, and prints.

    Raises
    ------
    MissingExtraError
        If jinja2 or matplotlib is not installed.

    Notes
    -----
    Whatever came from a table (class names, example rows, file names) is escaped. Tables of more than 30 classes
    show the worst and the largest, which keeps the file far below 2 MB for any number of classes and rows.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.report import summarise
    >>> from normexp.report.labelled import Labelled
    >>> labelled = Labelled(np.eye(2), np.array([0, 1]), ("a", "<b>"), np.array([0.5, 0.5]), ("first", "second"))
    >>> page = render_html(summarise(labelled, source="two rows"))
    >>> page.startswith("<!doctype html>"), "&lt;b&gt;" in page, "<b>" in page
    (True, True, False)
    """
    try:
        # Imported here: matplotlib costs half a second that nobody owes who only wants numbers.
        from normexp.report.page import make_page  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("render_html: a report", "cli") from error
    return make_page(summary)
