"""Rows of logits from the command line, from a file or from a pipe."""

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

import normexp as nx
from normexp.base.errors import InputError, RangeError

_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+$")


class Row(NamedTuple):
    """One row of logits and what softmax makes of it.

    Parameters
    ----------
    logits, probabilities : ndarray of float64, shape (K,)
        What came in, and what comes out.
    sum : float
        Sum of the probabilities.
    entropy : float
        Entropy of the probabilities, in nats.
    logsumexp : float or None
        Of the logits divided by the temperature; None at temperature 0.
    """

    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    sum: float
    entropy: float
    logsumexp: float | None


def evaluate_row(logits: NDArray[np.float64], /, *, temperature: float) -> Row:
    """Compute everything that is shown about a row.

    Parameters
    ----------
    logits : ndarray of float64, shape (K,)
        One row.
    temperature : float
        What the logits are divided by; at 0 the largest take all.

    Returns
    -------
    Row
        The row and its probabilities.

    Raises
    ------
    RangeError
        For a temperature that is negative or not finite.
    """
    if not (np.isfinite(temperature) and temperature >= 0):
        raise RangeError(f"softmax: --temperature {temperature} came; a finite number of at least 0 would be right.")
    prob = np.asarray(nx.softmax(logits, temperature=temperature))
    log_prob = np.asarray(nx.log_softmax(logits, temperature=temperature))
    with np.errstate(invalid="ignore"):
        entropy = -float(np.sum(np.where(prob == 0, 0.0, prob * log_prob)))
    lse = None if temperature == 0 else float(nx.logsumexp(logits / temperature))
    return Row(logits, prob, float(prob.sum()), entropy + 0.0, lse)  # + 0.0: no minus zero


def read_rows(words: Sequence[str], /) -> list[NDArray[np.float64]]:
    """Rows of logits from the arguments of the command, each of numbers that have a softmax.

    Parameters
    ----------
    words : sequence of str
        Numbers; or the name of one file; or "-"; or nothing, for a pipe.

    Returns
    -------
    list of ndarray of float64, shape (K,)
        At least one row; rows may differ in length.

    Raises
    ------
    InputError
        Naming the word or the line that is no number, or a row that holds NaN or +inf.
    """
    rows = _read(words)
    for at, row in enumerate(rows):
        bad = np.isnan(row) | (row == np.inf)
        if bad.any():
            word = "NaN" if np.isnan(row[bad][0]) else "infinite (or too large for a float64)"
            raise InputError(
                f"softmax: number {int(np.argmax(bad))} of row {at} is {word} (both count from 0), which leaves no "
                "probabilities; finite numbers, or -inf for an impossible class, would be right."
            )
    return rows


def _read(words: Sequence[str]) -> list[NDArray[np.float64]]:
    """Rows from words, a file or a pipe."""
    if not words or list(words) == ["-"]:
        if not words and sys.stdin.isatty():
            raise InputError("softmax: no logits came; give numbers (normexp softmax 2.0 1.0 0.1), a file, or a pipe.")
        return _parse_lines(sys.stdin, "standard input")
    commas = [word for word in words if _DECIMAL_COMMA.match(word)]
    if len(words) > 1 and commas:
        raise InputError(
            f"softmax: {commas[0]!r} could be one number with a decimal comma, or two; write "
            f"{commas[0].replace(',', '.')} or {commas[0].replace(',', ' ')}, which are clear."
        )
    numbers = [_number(part) for word in words for part in _split(word) or [word]]
    if numbers and None not in numbers:
        return [np.array(numbers, dtype=np.float64)]
    path = Path(words[0])
    if len(words) == 1 and (path.exists() or path.suffix):
        return _read_file(path)
    wrong = next((word for word in words if any(_number(part) is None for part in _split(word) or [word])), words[0])
    if wrong.startswith("-"):
        raise InputError(f"softmax: {wrong!r} is neither a number nor an option; see: normexp softmax --help")
    raise InputError(
        f"softmax: {wrong!r} is not a number{'' if len(words) > 1 else ' and there is no file of that name'}; "
        "give numbers like 2.0 1.0 0.1, or one file."
    )


def _read_file(path: Path) -> list[NDArray[np.float64]]:
    """Read a .npy file of one or two axes, or a text file."""
    if not path.exists():
        raise InputError(f"softmax: there is no file {path}; give numbers like 2.0 1.0 0.1, or the path of a file.")
    if path.is_dir():
        raise InputError(f"softmax: {path} is a folder; give a text file with one row per line, or a .npy file.")
    if path.suffix.lower() != ".npy":
        with path.open(encoding="utf-8-sig") as lines:
            return _parse_lines(lines, str(path))
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(
            f"softmax: {path} is not a .npy file of numbers ({error}); save it with numpy.save."
        ) from error
    if array.dtype.kind not in "biuf" or array.ndim not in (1, 2) or array.size == 0:
        raise InputError(
            f"softmax: {path} holds an array of shape {array.shape} and dtype {array.dtype}; "
            "numbers of shape (K,) or (N, K) would be right."
        )
    return list(np.atleast_2d(array).astype(np.float64))


def _parse_lines(lines: Iterable[str], name: str) -> list[NDArray[np.float64]]:
    """One row from each line that is neither blank nor a comment."""
    rows = []
    try:
        for number, line in enumerate(lines, start=1):
            words = _split(line)
            if not words or words[0].startswith("#"):
                continue
            numbers = [_number(word) for word in words]
            if None in numbers:
                wrong = words[numbers.index(None)]
                raise InputError(
                    f"softmax: line {number} of {name} has {wrong[:60]!r}, which is not a number; "
                    "each line needs numbers with commas or blanks between them, and no heading."
                )
            rows.append(np.array(numbers, dtype=np.float64))
    except UnicodeDecodeError as error:
        raise InputError(
            f"softmax: {name} is not UTF-8 text ({error.reason}); give text with one row per line, or a .npy file."
        ) from error
    if not rows:
        raise InputError(f"softmax: {name} has no logits; give at least one row of numbers.")
    return rows


def _split(text: str) -> list[str]:
    """Words between commas, semicolons and blanks."""
    return text.replace(",", " ").replace(";", " ").split()


def _number(word: str) -> float | None:
    """Turn a word into a number, or None."""
    try:
        return float(word)
    except ValueError:
        return None
