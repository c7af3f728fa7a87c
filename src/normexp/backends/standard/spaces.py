"""A library that follows the array API standard, a device of it, and the dtypes that it computes in there.

Everything in this folder is written with the functions of the standard alone (data-apis.org/array-api), so it runs on
arrays of libraries that normexp has never heard of. What is traced (jax.jit) and has no values yet
is not asked for any.
"""

from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from normexp.base.errors import DtypeError

FLOATING = "real floating"


def name_of(dtype: Any) -> str:
    """The dtype in NumPy's words."""
    return str(dtype).rpartition(".")[2]


def library_of(x: Any) -> str:
    """What people call the library of an array."""
    return type(x).__module__.partition(".")[0]


def holds(condition: Any) -> bool:
    """Whether a 0-d condition is true; False where a traced array has no value yet."""
    try:
        return bool(condition)
    except TypeError:  # what the standard asks for, and what jax's tracers raise
        return False


@dataclass(frozen=True, slots=True)
class Space:
    """Functions and dtypes for arrays like one that came."""

    xp: Any
    device: Any
    wide: Any  # float64, or float32 where the library or the device has no float64
    index: Any  # int64, or int32 likewise

    @classmethod
    def of(cls, x: Any) -> "Space":
        """The space of an array."""
        xp, device = array_api_compat.array_namespace(x), array_api_compat.device(x)
        wide, index = getattr(xp, "float64", None), getattr(xp, "int64", None)
        if hasattr(xp, "__array_namespace_info__"):
            given = xp.__array_namespace_info__().dtypes(device=device)
            wide, index = given.get("float64"), given.get("int64")
        return cls(xp, device, xp.float32 if wide is None else wide, xp.int32 if index is None else index)

    def kind(self, dtype: Any, kind: str) -> bool:
        """Whether the dtype is of this kind, in the standard's words."""
        found: bool = self.xp.isdtype(dtype, kind)
        return found

    def result_dtype(self, dtype: Any) -> Any:
        """The dtype of probabilities and gradients: the logits' own; the widest for integers and bool."""
        return dtype if self.kind(dtype, FLOATING) else self.wide

    def loss_dtype(self, dtype: Any) -> Any:
        """The dtype of losses and log-sums: at least float32."""
        if not self.kind(dtype, FLOATING):
            return self.wide
        return dtype if self.xp.finfo(dtype).bits >= 32 else self.xp.float32

    def cast(self, x: Any, dtype: Any) -> Any:
        """The same numbers in this dtype."""
        return self.xp.astype(x, dtype, copy=False)

    def number(self, value: Any) -> Any:
        """A 0-d array of the wide dtype; arrays stay."""
        if isinstance(value, (int, float)):
            return self.xp.asarray(value, dtype=self.wide, device=self.device)
        return value

    def choose(self, condition: Any, there: Any, elsewhere: Any) -> Any:
        """``where`` for arrays of the wide dtype and numbers."""
        return self.xp.where(condition, self.number(there), self.number(elsewhere))

    def full(self, shape: Any, value: float) -> Any:
        """An array of one number, wide."""
        return self.xp.full(tuple(shape), value, dtype=self.wide, device=self.device)

    def count(self, size: int) -> Any:
        """0, 1, ... below ``size``."""
        return self.xp.arange(size, dtype=self.index, device=self.device)

    def column(self, x: Any) -> Any:
        """A last axis of length 1 more."""
        return self.xp.expand_dims(x, axis=-1)

    def first_true(self, condition: Any) -> int:
        """Where the first True stands, of the flattened array."""
        flat = self.cast(self.xp.reshape(condition, (-1,)), self.index)
        return int(self.xp.argmax(flat))

    def any(self, condition: Any) -> bool:
        """Whether one is True; False where nobody can know yet."""
        return holds(self.xp.any(condition))

    def array(self, value: Any, *, of: str, name: str, beside: Any) -> Any:
        """An array of this library of what may be one, a NumPy array, a list or a number."""
        if hasattr(value, "__array_namespace__") and not isinstance(value, (np.ndarray, np.generic)):
            return self._own(value, of=of, name=name, beside=beside)
        if type(value).__module__.partition(".")[0] == "torch":
            raise self._foreign(value, of=of, name=name, beside=beside)
        try:
            plain = np.asarray(value)
        except ValueError:
            raise DtypeError(f"{of}: {name} is {value!r}; a number or an array of numbers would be right.") from None
        if plain.dtype.kind not in "biuf" and plain.dtype.name != "bfloat16":
            raise DtypeError(f"{of}: {name} has dtype {plain.dtype}; a number or an array of numbers would be right.")
        if plain.dtype.kind == "f" or plain.dtype.name == "bfloat16":
            is_single = plain.dtype.name in {"float16", "bfloat16", "float32"} or self.wide == self.xp.float32
            plain = plain.astype(np.float32 if is_single else np.float64)
        elif plain.dtype.kind in "iu" and self.index == self.xp.int32:
            low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
            plain = np.clip(plain, max(low, int(np.iinfo(plain.dtype).min)), min(high, int(np.iinfo(plain.dtype).max)))
            plain = plain.astype(np.int32)
        return self.xp.asarray(np.ascontiguousarray(plain).reshape(plain.shape), device=self.device)

    def _own(self, value: Any, *, of: str, name: str, beside: Any) -> Any:
        """An array that has a library, if it is ours, on our device."""
        if array_api_compat.array_namespace(value) is not self.xp:
            raise self._foreign(value, of=of, name=name, beside=beside)
        if not array_api_compat.is_jax_array(value):  # jax moves arrays itself, or says why it will not
            theirs = array_api_compat.device(value)
            if theirs != self.device:
                raise DtypeError(f"{of}: {name} is on {theirs} and the logits on {self.device}; one device is right.")
        return value

    @staticmethod
    def _foreign(value: Any, *, of: str, name: str, beside: Any) -> DtypeError:
        return DtypeError(
            f"{of}: {name} is an array of {library_of(value)} and the logits one of {library_of(beside)}; "
            f"one library, or a NumPy array, would be right."
        )
