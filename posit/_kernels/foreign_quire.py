"""SoftPosit's C quires in a compiled loop, to time them without Python between their calls.

The C functions take and return a quire by value, which Numba cannot express; the calls are made in LLVM's own terms,
as the ABIs of x86-64 (System V) and AArch64 want them: 16 bytes in two registers, 64 bytes in memory.
"""

import platform

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_DIGIT, _REGISTERS = ir.IntType(64), 2


def dot_loop(address, digits, nbits):
    """Kernel (a, b, quire) that adds the products of the elements to a quire.

    Args:
        address: Of ``quire fdp_add(quire, posit, posit)``.
        digits: 64-bit digits of the quire: 2 or 8.
        nbits: Bits of a posit: 16 or 32.
    """
    add = (_in_registers if digits == _REGISTERS else _in_memory)(address, digits, nbits)

    @numba.njit(nogil=True)
    def kernel(a, b, quire):
        for t in range(len(a)):
            add(quire.ctypes, np.uint32(a[t]), np.uint32(b[t]))

    return kernel


def _in_registers(address, digits, nbits):
    pair = ir.LiteralStructType([_DIGIT] * digits)

    def emit(builder, quire, a, b):
        place = builder.bitcast(quire, pair.as_pointer())
        low, high = (builder.load(builder.gep(place, [_zero(0), _zero(t)])) for t in range(digits))
        called = _function(builder, address, pair, [_DIGIT, _DIGIT, a.type, b.type])
        builder.store(builder.call(called, [low, high, a, b]), place)

    return _adder(emit, nbits)


def _in_memory(address, digits, nbits):
    whole = ir.LiteralStructType([_DIGIT] * digits)
    passed = (
        ("byval",) if platform.machine().lower() in ("x86_64", "amd64") else ()
    )  # else a pointer to a copy

    def emit(builder, quire, a, b):
        place = builder.bitcast(quire, whole.as_pointer())
        given = place
        if not passed:
            given = cgutils.alloca_once(builder, whole)
            builder.store(builder.load(place), given)
        kinds = [place.type, given.type, a.type, b.type]
        called = _function(builder, address, ir.VoidType(), kinds)
        builder.call(called, [place, given, a, b], arg_attrs={0: ("sret",), 1: passed})

    return _adder(emit, nbits)


def _adder(emit, nbits):
    """A function of (address of a quire, two codes) for Numba; `emit` writes its call."""

    @intrinsic
    def add(context, quire, a, b):
        def generate(context, builder, signature, arguments):
            place = context.make_helper(builder, signature.args[0], arguments[0]).data
            codes = [builder.trunc(code, ir.IntType(nbits)) if nbits < 32 else code for code in arguments[1:]]
            emit(builder, place, *codes)
            return context.get_dummy_value()

        return types.void(quire, types.uint32, types.uint32), generate

    return add


def _function(builder, address, result, parameters):
    kind = ir.FunctionType(result, parameters)
    return builder.inttoptr(ir.Constant(_DIGIT, address), kind.as_pointer())


def _zero(t):
    return ir.Constant(ir.IntType(32), t)
