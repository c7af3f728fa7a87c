"""Every error that normexp raises on purpose.

NormexpError
├── ShapeError           (ValueError)   an array's shape does not fit the others
├── RangeError           (ValueError)   a value lies outside what the function takes
├── DtypeError           (TypeError)    a dtype the function cannot compute with
├── AxisError            (numpy.exceptions.AxisError, so ValueError and IndexError)
├── InputError           (ValueError)   a file, table or column that a person gave
├── ArtifactError        (ValueError)   a model file that cannot be trusted or read
├── ClusterError         (RuntimeError) a cluster that fails or no longer answers
└── MissingExtraError    (ImportError)  an optional package is not installed

NormexpWarning           (UserWarning)

Each is also the builtin that fits, so ``except ValueError`` works for those who have never
heard of normexp. Each message is a sentence: function and argument, what came, what would be
right, what to do.
"""

import numpy as np


class NormexpError(Exception):
    """The root of all errors that normexp raises on purpose."""


class ShapeError(NormexpError, ValueError):
    """An array's shape does not fit the others."""


class RangeError(NormexpError, ValueError):
    """A value lies outside what the function takes."""


class DtypeError(NormexpError, TypeError):
    """A dtype that the function cannot compute with."""


class AxisError(NormexpError, np.exceptions.AxisError):
    """An axis that the array does not have."""


class InputError(NormexpError, ValueError):
    """A file, table or column that a person gave is not what was expected."""


class ArtifactError(NormexpError, ValueError):
    """A model file that cannot be trusted or read."""


class ClusterError(NormexpError, RuntimeError):
    """A cluster that fails, or no longer answers."""


class MissingExtraError(NormexpError, ImportError):
    """An optional package is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs packages that are not installed; install them with: pip install 'normexp[{extra}]'"
        )


class NormexpWarning(UserWarning):
    """The root of all warnings that normexp gives on purpose."""
