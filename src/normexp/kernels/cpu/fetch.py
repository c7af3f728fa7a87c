"""Memory that will be needed soon, asked for beforehand.

Pieces of memory that lie far apart are more than the processor foresees: it waits for each of them, unless it is told.
"""

from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from normexp.kernels.cpu.flags import EXACT

LINE = 64  # bytes that come at once
_I8, _I32 = ir.IntType(8), ir.IntType(32)


@intrinsic
def _fetch_line(typingctx, flat, i):  # noqa: ARG001  (Numba's signature)
    """Ask for the line of flat[i], which need not exist."""

    def codegen(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), _I8.as_pointer())
        builder.call(ask, [address, _I32(0), _I32(3), _I32(1)])  # to be read, kept close, data
        return context.get_dummy_value()

    return types.void(flat, types.intp), codegen


@njit(fastmath=EXACT, nogil=True)
def _fetch(flat, first, count):
    """Ask for flat[first : first + count], as far as it exists."""
    for i in range(first, first + count, LINE // flat.itemsize):
        _fetch_line(flat, i)


def _plain_fetch(flat, first, count):
    """The same, without JIT: nothing."""


fetch = _plain_fetch if config.DISABLE_JIT else _fetch
