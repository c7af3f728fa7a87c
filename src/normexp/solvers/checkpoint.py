"""The state of a fit in a file: written whole or not at all after each step, and only read for the same problem."""

import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from normexp.base.errors import InputError
from normexp.solvers.truncated_newton import Resumed

F64 = NDArray[np.float64]

_FORMAT: Final = 1
# Means and spreads of the same columns, summed in blocks of another size, differ by rounding.
_SAME: Final = 1e-9


@dataclass(frozen=True)
class Identity:
    """What tells one problem from another: each entry by a name that a sentence can use, and the columns' moments."""

    facts: dict[str, Any]
    centre: F64 = field(repr=False)
    scale: F64 = field(repr=False)


@dataclass(frozen=True)
class State:
    """Where a fit stands: coefficients on the solver's scale, and how far it has come."""

    coef: F64 = field(repr=False)
    shift: F64 = field(repr=False)
    resumed: Resumed
    n_passes: int


class Checkpoint:
    """A file that holds the state of one problem.

    Parameters
    ----------
    path : path
        Made by the first step. An existing file is gone on from if it belongs to the problem, and refused if not.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise InputError(
                f"SoftmaxClassifier.fit: checkpoint is {str(path)!r}, whose folder does not exist; make the "
                "folder first."
            )

    @property
    def exists(self) -> bool:
        """Whether there is a state to go on from."""
        return self.path.exists()

    def write(self, identity: Identity, state: State) -> None:
        """Put the state in the place of the one before, in one step: no moment has half a file."""
        about = {"format": _FORMAT, "facts": identity.facts, "resumed": state.resumed, "n_passes": state.n_passes}
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            with part.open("wb") as file:
                np.savez(
                    file,
                    about=np.frombuffer(json.dumps(about).encode(), np.uint8),
                    coef=state.coef,
                    shift=state.shift,
                    centre=identity.centre,
                    scale=identity.scale,
                )
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise InputError(
                f"SoftmaxClassifier.fit: the checkpoint {str(self.path)!r} cannot be written ({error.strerror}); give "
                "a path on a disk with room."
            ) from None

    def read(self, identity: Identity) -> State:
        """Read the state, and refuse that of another problem."""
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                about = json.loads(stored["about"].tobytes())
                coef, shift, centre, scale = (stored[name] for name in ("coef", "shift", "centre", "scale"))
            known, facts = about["format"], about["facts"]
            state = State(coef, shift, Resumed(*about["resumed"]), about["n_passes"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"SoftmaxClassifier.fit: {str(self.path)!r} is no checkpoint of normexp ({error}); give another path, "
                "or remove the file to start anew."
            ) from None
        if known != _FORMAT:
            self._refuse(f"format {known}", f"format {_FORMAT}")
        for name, value in identity.facts.items():
            if facts.get(name) != value:
                self._refuse(f"{name} {facts.get(name)}", f"{name} {value}")
        close = all(
            mine.shape == its.shape and np.allclose(mine, its, rtol=_SAME, atol=_SAME * float(np.max(identity.scale)))
            for mine, its in ((identity.centre, centre), (identity.scale, scale))
        )
        if not close:
            self._refuse("rows of other values", "the rows given")
        return state

    def _refuse(self, its: str, mine: str) -> None:
        raise InputError(
            f"SoftmaxClassifier.fit: the checkpoint {str(self.path)!r} belongs to another problem: it has {its}, and "
            f"this one has {mine}. Give another path, or remove the file to start anew."
        )
