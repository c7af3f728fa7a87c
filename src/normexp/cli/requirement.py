"""Checks such as ``accuracy>=0.9`` that decide the exit status of `normexp evaluate`."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from normexp.base.errors import InputError

_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM: Final = re.compile(r"\s*([A-Za-z_]\w*)\s*(>=|<=|>|<)\s*(\S+)\s*")


class Check(NamedTuple):
    """A requirement and what became of it.

    Parameters
    ----------
    requirement : str
        As it was given.
    metric : str
        Name of the score.
    value : float
        The score.
    holds : bool
        Whether the requirement holds; never for NaN, which stands for a score that cannot be told.
    """

    requirement: str
    metric: str
    value: float
    holds: bool


@dataclass(frozen=True)
class Requirement:
    """A score, a comparison and a number.

    Parameters
    ----------
    text : str
        As it was given.
    metric, comparison : str
        Name of the score, and one of ``>= <= > <``.
    bound : float
        The number.
    """

    text: str
    metric: str
    comparison: str
    bound: float

    def check(self, scores: Mapping[str, Any], /) -> Check:
        """Compare the score with the bound.

        Parameters
        ----------
        scores : mapping of str to object
            What `normexp.report.as_json` returned.

        Returns
        -------
        Check
            Whether the requirement holds.

        Raises
        ------
        InputError
            For a score that is not there; it names the nearest.
        """
        known = list(scores["intervals"])  # every score has one, known or not
        if self.metric not in known:
            near = get_close_matches(self.metric, known, n=1)
            hint = f"the nearest is {near[0]!r}" if near else f"there are {', '.join(known)}"
            raise InputError(f"evaluate: --require {self.text!r} names the score {self.metric!r}; {hint}.")
        value = math.nan if scores[self.metric] is None else float(scores[self.metric])
        return Check(self.text, self.metric, value, _COMPARE[self.comparison](value, self.bound))


def parse_requirement(text: str, /) -> Requirement:
    """Read a requirement.

    Parameters
    ----------
    text : str
        A score, one of ``>= <= > <`` and a number.

    Returns
    -------
    Requirement
        Its parts.

    Raises
    ------
    InputError
        For anything else.

    Examples
    --------
    >>> parse_requirement("accuracy >= 0.9").bound
    0.9
    """
    match = _FORM.fullmatch(text)
    try:
        if match is not None:
            return Requirement(text, match[1], match[2], float(match[3]))
    except ValueError:  # the third part is no number
        pass
    raise InputError(
        f"evaluate: --require {text!r} came; a score, one of >= <= > < and a number would be right, "
        "like 'accuracy>=0.9'."
    )
