"""An audit as one HTML file that needs no network."""

from normexp.base.errors import MissingExtraError
from normexp.report.audit_facts import Audit


def render_audit(audit: Audit, /) -> str:
    """Write an audit as a page: one HTML file with its styles and figures inside.

    Parameters
    ----------
    audit : Audit
        The facts.

    Returns
    -------
    str
        HTML; it loads nothing, runs no script and prints. The same audit gives the same text, byte for byte.

    Raises
    ------
    MissingExtraError
        If jinja2 or matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.report import audit, render_audit
    >>> rng = np.random.default_rng(0)
    >>> logits = 2.0 * rng.normal(size=(200, 2))
    >>> y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    >>> page = render_audit(audit(logits, y, classes=("<b>", "c")))
    >>> page.startswith("<!doctype html>"), "&lt;b&gt;" in page, "<b>" in page
    (True, True, False)
    """
    try:
        # Imported here: matplotlib costs half a second that nobody owes who only wants numbers.
        from normexp.report.audit_page import make_audit_page  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("render_audit: a report", "cli") from error
    return make_audit_page(audit)
