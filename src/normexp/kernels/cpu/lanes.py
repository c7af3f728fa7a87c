"""Sum and maximum of a row in registers, in an order that is written down.

A plain loop over a row is one chain of additions, and Numba keeps several running sums in memory, where each
addition waits for the last one's store; leave to reorder (``reassoc``) would let the compiler choose the order. So
these two loops are given to LLVM as vectors. The order of a sum of n terms, with r = n mod 8:

    lane[k mod 32] += e[k] for k < n - r; the last r terms to the last r lanes of the next eight (the first, if n < 8);
    then lane[j] += lane[j + h] for h = 16, 8, 4, 2, 1.

Without JIT, the functions below the intrinsics say the same in NumPy.
"""

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from normexp.kernels.cpu.flags import EXACT

LANES = 32
_I32, _I64 = ir.IntType(32), ir.IntType(64)
EIGHT = _WIDTH = 8  # lanes of one vector
_FLOATS = ir.VectorType(ir.FloatType(), _WIDTH)
_DOUBLES = ir.VectorType(ir.DoubleType(), _WIDTH)


def _vector(builder, data, k):
    """The vector that begins at data[k]."""
    return builder.load(builder.bitcast(builder.gep(data, [k]), _FLOATS.as_pointer()), align=4)


def _folded(builder, vector, combine):
    """One number from the lanes of a vector: the upper half onto the lower, until one is left."""
    width = _WIDTH
    while width > 1:
        width //= 2
        masks = [ir.Constant(ir.VectorType(_I32, width), list(range(i, i + width))) for i in (0, width)]
        vector = combine(*[builder.shuffle_vector(vector, vector, mask) for mask in masks])
    return builder.extract_element(vector, _I32(0))


@intrinsic
def _sum_of(typingctx, row):  # noqa: ARG001  (Numba's signature)
    """Sum of a contiguous float32 array of 8 or more."""

    def codegen(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        n = builder.extract_value(array.shape, 0)
        zero = ir.Constant(_DOUBLES, [0.0] * _WIDTH)
        lanes = [cgutils.alloca_once_value(builder, zero) for _ in range(LANES // _WIDTH)]

        def add(term, lane):
            builder.store(builder.fadd(builder.load(lane), builder.fpext(term, _DOUBLES)), lane)

        whole = builder.and_(n, _I64(-LANES))
        with cgutils.for_range_slice(builder, _I64(0), whole, _I64(LANES), _I64) as (k, _):
            for i, lane in enumerate(lanes):
                add(_vector(builder, array.data, builder.add(k, _I64(_WIDTH * i))), lane)
        rest = builder.and_(n, _I64(_WIDTH - 1))
        end = builder.sub(n, rest)
        for i, lane in enumerate(lanes):
            first = builder.add(whole, _I64(_WIDTH * i))
            if i < len(lanes) - 1:
                with builder.if_then(builder.icmp_signed("<", first, end)):
                    add(_vector(builder, array.data, first), lane)
            is_last = builder.and_(builder.icmp_signed("==", first, end), builder.icmp_signed(">", rest, _I64(0)))
            with builder.if_then(is_last):  # the last eight, without those that are in
                begun = builder.trunc(builder.sub(_I64(_WIDTH), rest), _I32)
                counts = builder.insert_element(ir.Constant(ir.VectorType(_I32, _WIDTH), ir.Undefined), begun, _I32(0))
                places = ir.Constant(ir.VectorType(_I32, _WIDTH), [0] * _WIDTH)
                counts = builder.shuffle_vector(counts, counts, places)
                here = ir.Constant(ir.VectorType(_I32, _WIDTH), list(range(_WIDTH)))
                fresh = builder.icmp_signed(">=", here, counts)
                term = _vector(builder, array.data, builder.sub(n, _I64(_WIDTH)))
                add(builder.select(fresh, term, ir.Constant(_FLOATS, [0.0] * _WIDTH)), lane)
        first, second, third, fourth = [builder.load(lane) for lane in lanes]
        total = builder.fadd(builder.fadd(first, third), builder.fadd(second, fourth))
        return _folded(builder, total, builder.fadd)

    return types.float64(row), codegen


@intrinsic
def _max_of(typingctx, row):  # noqa: ARG001  (Numba's signature)
    """Largest entry of a contiguous float32 array of 8 or more; NaN is passed over."""

    def codegen(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        n = builder.extract_value(array.shape, 0)
        lowest = ir.Constant(_FLOATS, [-np.inf] * _WIDTH)
        tops = [cgutils.alloca_once_value(builder, lowest) for _ in range(4)]

        def larger(value, top):
            return builder.select(builder.fcmp_ordered(">", value, top), value, top)

        def see(k, top):
            builder.store(larger(_vector(builder, array.data, k), builder.load(top)), top)

        whole = builder.and_(n, _I64(-4 * _WIDTH))
        with cgutils.for_range_slice(builder, _I64(0), whole, _I64(4 * _WIDTH), _I64) as (k, _):
            for i, top in enumerate(tops):
                see(builder.add(k, _I64(_WIDTH * i)), top)
        for i, top in enumerate(tops[:-1]):
            first = builder.add(whole, _I64(_WIDTH * i))
            with builder.if_then(builder.icmp_signed("<=", builder.add(first, _I64(_WIDTH)), n)):
                see(first, top)
        see(builder.sub(n, _I64(_WIDTH)), tops[-1])  # the last ones, some of them once more
        first, second, third, fourth = [builder.load(top) for top in tops]
        return _folded(builder, larger(larger(first, second), larger(third, fourth)), larger)

    return types.float32(row), codegen


@njit(fastmath=EXACT, forceinline=True)
def _entry(row, k):
    return np.float64(row[k]) if k < row.shape[0] else 0.0


@njit(fastmath=EXACT, nogil=True)
def _lane_sum(row):
    if row.shape[0] >= _WIDTH:
        return _sum_of(row)
    even = (_entry(row, 0) + _entry(row, 4)) + (_entry(row, 2) + _entry(row, 6))
    return even + ((_entry(row, 1) + _entry(row, 5)) + _entry(row, 3))


@njit(fastmath=EXACT, nogil=True)
def _lane_max(row):
    if row.shape[0] >= _WIDTH:
        return _max_of(row)
    top = np.float32(-np.inf)
    for k in range(row.shape[0]):
        top = row[k] if row[k] > top else top
    return top


def _plain_sum(row):
    """The sum, without JIT."""
    lanes = np.zeros(LANES)
    n = row.shape[0]
    rest = n % _WIDTH
    for first in range(0, n - rest, _WIDTH):
        at = first % LANES
        lanes[at : at + _WIDTH] += row[first : first + _WIDTH]
    at = (n - rest) % LANES + (_WIDTH - rest if n >= _WIDTH else 0)
    lanes[at : at + rest] += row[n - rest :]
    h = LANES >> 1
    while h > 0:
        lanes[:h] += lanes[h : 2 * h]
        h >>= 1
    return lanes[0]


def _plain_max(row):
    """The maximum, without JIT."""
    return np.fmax.reduce(row, initial=np.float32(-np.inf))


@njit(fastmath=EXACT, forceinline=True)
def lane_of(k, n):
    """The lane to which the term e[k] of n goes."""
    rest = n % _WIDTH
    if k < n - rest:
        return k % LANES
    return (n - rest) % LANES + (_WIDTH - rest if n >= _WIDTH else 0) + k - (n - rest)


@njit(fastmath=EXACT, forceinline=True)
def lanes_used(n):
    """How many lanes the terms of a row of n reach."""
    return min(LANES, n if n < _WIDTH else -(-n // _WIDTH) * _WIDTH)


lane_sum = _plain_sum if config.DISABLE_JIT else _lane_sum
lane_max = _plain_max if config.DISABLE_JIT else _lane_max
