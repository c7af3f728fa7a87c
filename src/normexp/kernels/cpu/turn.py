"""A square block of an array turned on its side, in registers.

Copying a block entry by entry costs a load and a store for each; here 16 x 16 float32 (or 8 x 8 float64) are loaded as
rows and exchanged in four (three) rounds of shuffles: in the round of s, lanes whose number has the bit s change places
with those of the vector s further on (Eklundh (1972)). LLVM is given the shuffles as they are.
"""

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_KINDS = {types.float32: (ir.FloatType(), 16), types.float64: (ir.DoubleType(), 8)}


def _exchanged(builder, vectors):
    """The transpose of a square block, given as its rows."""
    side = len(vectors)
    s = side // 2
    while s > 0:
        kept = [lane + (side if lane & s else 0) - (s if lane & s else 0) for lane in range(side)]
        moved = [lane + (side if lane & s else s) for lane in range(side)]
        masks = [ir.Constant(ir.VectorType(_I32, side), lanes) for lanes in (kept, moved)]
        for i in range(side):
            if not i & s:
                pair = vectors[i], vectors[i + s]
                vectors[i], vectors[i + s] = [builder.shuffle_vector(*pair, mask) for mask in masks]
        s //= 2
    return vectors


@intrinsic
def _turn(typingctx, source, i, j, target, m, n):  # noqa: ARG001  (Numba's signature)
    """target[m + b, n + a] = source[i + a, j + b] for a and b below the block's side; the last axis of both is contiguous."""
    element, side = _KINDS[source.dtype]

    def codegen(context, builder, signature, arguments):
        def address(place, row, column):
            array = context.make_array(signature.args[place])(context, builder, arguments[place])
            stride, width = cgutils.unpack_tuple(builder, array.strides, 2)
            offset = builder.add(builder.mul(row, stride), builder.mul(column, width))
            start = builder.add(builder.ptrtoint(array.data, _I64), offset)
            return start, stride

        kind = ir.VectorType(element, side)
        start, stride = address(0, arguments[1], arguments[2])
        vectors = []
        for a in range(side):
            here = builder.add(start, builder.mul(stride, _I64(a)))
            vectors.append(builder.load(builder.inttoptr(here, kind.as_pointer()), align=element_size(element)))
        start, stride = address(3, arguments[4], arguments[5])
        for b, vector in enumerate(_exchanged(builder, vectors)):
            here = builder.add(start, builder.mul(stride, _I64(b)))
            builder.store(vector, builder.inttoptr(here, kind.as_pointer()), align=element_size(element))
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), codegen


def element_size(element):
    """Bytes of a float."""
    return 4 if isinstance(element, ir.FloatType) else 8


def _plain_turn(source, i, j, target, m, n):
    """The same, without JIT."""
    side = 64 // source.itemsize
    target[m : m + side, n : n + side] = source[i : i + side, j : j + side].T


turn_block = _plain_turn if config.DISABLE_JIT else _turn
SIDES = {np.dtype(np.float32): 16, np.dtype(np.float64): 8}
