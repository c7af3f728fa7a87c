"""An audit as plain values that JSON can hold."""

import math
from dataclasses import fields, is_dataclass
from typing import Any

from normexp.report.audit_facts import Audit


def audit_json(audit: Audit, /) -> dict[str, Any]:
    """Turn an audit into a dictionary that ``json.dumps(..., allow_nan=False)`` takes.

    Parameters
    ----------
    audit : Audit
        The facts.

    Returns
    -------
    dict of str to object
        The scores by name ("accuracy", "log_loss", "ece", "overconfidence", ...) and the fields of `Audit`: "kind",
        "verdicts", "cure", "refusal", "sets", "top_k", "unknown", "classes" and more. A number that is not finite
        (unknown, or an infinite loss) is None.

    Examples
    --------
    >>> import numpy as np
    >>> from normexp.report import audit, audit_json
    >>> rng = np.random.default_rng(0)
    >>> logits = 2.0 * rng.normal(size=(200, 3))
    >>> facts = audit_json(audit(logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)))
    >>> facts["n"], facts["kind"], facts["cure"]["chosen"]
    (200, 'logits', 'identity')
    """
    facts = _plain(audit)
    facts["n"] = facts.pop("n_rows")
    facts["intervals"] = {score.name: _plain((score.low, score.high)) for score in audit.scores}
    facts["decomposition"] = _plain(audit.decomposition._asdict())
    facts["versions"] = dict(audit.versions)
    del facts["scores"]
    return {**{score.name: _plain(score.value) for score in audit.scores}, **facts}


def _plain(value: Any) -> Any:
    """Dataclasses to dictionaries, tuples to lists, numbers that are not finite to None."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
