"""Machine instructions that Numba lacks: leading zeros, fused multiply-add, bit casts, high products.

Numba widens every 32-bit integer operation to 64 bits; the shifts named ...32 stay in 32-bit lanes, of which
a vector register holds twice as many.  A shift by 32 or more is undefined, as in C.

With NUMBA_DISABLE_JIT they are plain Python, so that every kernel can be stepped through.
"""

from fractions import Fraction

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

if numba.config.DISABLE_JIT:

    def clz64(x):
        """Leading zeros of a uint64; 64 for 0."""
        return np.int64(64 - int(x).bit_length())

    def fma64(a, b, c):
        """A * b + c in float64, rounded once."""
        a, b, c = np.float64(a), np.float64(b), np.float64(c)
        if not np.isfinite([a, b, c]).all():
            return a * b + c
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        if exact == 0:
            return a * b + c  # which knows the sign of 0
        try:
            return np.float64(exact)
        except OverflowError:
            return np.float64(np.inf if exact > 0 else -np.inf)

    def float_bits(x):
        """The 64 bits of a float64 as int64."""
        return np.float64(x).view(np.int64)

    def bits_float(x):
        """The float64 that has these 64 bits."""
        return np.int64(x).view(np.float64)

    def mulhi64(a, b):
        """The high 64 bits of the 128-bit product of two uint64."""
        return np.uint64(int(a) * int(b) >> 64)

    def clz32(x):
        """Leading zeros of an int32 read as unsigned; 32 for 0."""
        return np.int32(32 - (int(x) & 0xFFFFFFFF).bit_length())

    def shl32(x, k):
        """The low 32 bits of x << k."""
        return np.uint32((int(x) << int(k)) & 0xFFFFFFFF).view(np.int32)

    def shr32(x, k):
        """The int32 x read as unsigned, shifted right by k."""
        return np.uint32((int(x) & 0xFFFFFFFF) >> int(k)).view(np.int32)

    def sar32(x, k):
        """X >> k with copies of the sign."""
        return np.int32(int(x) >> int(k))

    def float32_bits(x):
        """The 32 bits of a float32 as int32."""
        return np.float32(x).view(np.int32)

    def bits_float32(x):
        """The float32 that has these 32 bits."""
        return np.int32(x).view(np.float32)

    def flat_signed(x):
        """The memory of a matrix of codes as flat signed integers."""
        return x.ravel(order="A").view(f"i{x.itemsize}")

    def call_gemm(address, turned_a, turned_b, m, n, k, a, lda, b, ldb, c):
        """Stands for a BLAS, whose address is 0 here: it is never called."""
        raise NotImplementedError

else:

    @intrinsic
    def clz64(typingctx, x):
        """Leading zeros of a uint64; 64 for 0."""

        def codegen(context, builder, signature, args):
            return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

        return types.int64(types.uint64), codegen

    @intrinsic
    def fma64(typingctx, a, b, c):
        """A * b + c in float64, rounded once."""

        def codegen(context, builder, signature, args):
            return builder.fma(*args)

        return types.float64(types.float64, types.float64, types.float64), codegen

    @intrinsic
    def float_bits(typingctx, x):
        """The 64 bits of a float64 as int64."""

        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], ir.IntType(64))

        return types.int64(types.float64), codegen

    @intrinsic
    def bits_float(typingctx, x):
        """The float64 that has these 64 bits."""

        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], ir.DoubleType())

        return types.float64(types.int64), codegen

    @intrinsic
    def mulhi64(typingctx, a, b):
        """The high 64 bits of the 128-bit product of two uint64."""

        def codegen(context, builder, signature, args):
            wide = ir.IntType(128)
            product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
            return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

        return types.uint64(types.uint64, types.uint64), codegen

    @intrinsic
    def clz32(typingctx, x):
        """Leading zeros of an int32 read as unsigned; 32 for 0."""

        def codegen(context, builder, signature, args):
            return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

        return types.int32(types.int32), codegen

    @intrinsic
    def shl32(typingctx, x, k):
        """The low 32 bits of x << k."""

        def codegen(context, builder, signature, args):
            return builder.shl(*args)

        return types.int32(types.int32, types.int32), codegen

    @intrinsic
    def shr32(typingctx, x, k):
        """The int32 x read as unsigned, shifted right by k."""

        def codegen(context, builder, signature, args):
            return builder.lshr(*args)

        return types.int32(types.int32, types.int32), codegen

    @intrinsic
    def sar32(typingctx, x, k):
        """X >> k with copies of the sign."""

        def codegen(context, builder, signature, args):
            return builder.ashr(*args)

        return types.int32(types.int32, types.int32), codegen

    @intrinsic
    def float32_bits(typingctx, x):
        """The 32 bits of a float32 as int32."""

        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], ir.IntType(32))

        return types.int32(types.float32), codegen

    @intrinsic
    def bits_float32(typingctx, x):
        """The float32 that has these 32 bits."""

        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], ir.FloatType())

        return types.float32(types.int32), codegen

    @intrinsic
    def _pointer(typingctx, address):
        """An address as a pointer."""

        def codegen(context, builder, signature, args):
            return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

        return types.voidptr(types.uintp), codegen

    _SIGNED = {size: np.dtype(f"i{size}") for size in (1, 2, 4, 8)}

    def flat_signed(x):
        """The memory of a matrix of codes as flat signed integers; it must be contiguous, in either order."""

    @overload(flat_signed, inline="always")
    def _flat_signed(x):
        kind = _SIGNED[x.dtype.bitwidth // 8]

        def view(x):
            return numba.carray(_pointer(x.ctypes.data), (x.size,), kind)

        return view

    @intrinsic
    def call_gemm(typingctx, address, turned_a, turned_b, m, n, k, a, lda, b, ldb, c):
        """C (m, n) = A B by the cblas_dgemm at an address, which takes 64-bit integers; row-major, C without gaps.

        The factors are flat float64; one that is `turned` lies there transposed, `lda` and `ldb` are the lengths of
        the rows that lie there.
        """

        def codegen(context, builder, signature, args):
            kinds = dict(zip(names, signature.args, strict=True))
            given = dict(zip(names, args, strict=True))
            enum, size, real = ir.IntType(32), ir.IntType(64), ir.DoubleType()
            data = {
                name: context.make_array(kinds[name])(context, builder, given[name]).data
                for name in ("a", "b", "c")
            }
            function = ir.FunctionType(
                ir.VoidType(),
                [enum] * 3 + [size] * 3 + [real, real.as_pointer(), size, real.as_pointer(), size]
                + [real, real.as_pointer(), size],
            )  # fmt: skip
            no_transpose = ir.Constant(enum, 111)  # CblasNoTrans; CblasTrans is 112

            def transposed(name):
                return builder.add(no_transpose, builder.trunc(given[name], enum))

            builder.call(
                builder.inttoptr(given["address"], function.as_pointer()),
                [
                    ir.Constant(enum, 101),  # CblasRowMajor
                    *(transposed("turned_a"), transposed("turned_b")),
                    *(given["m"], given["n"], given["k"]),
                    *(ir.Constant(real, 1.0), data["a"], given["lda"], data["b"], given["ldb"]),
                    *(ir.Constant(real, 0.0), data["c"], given["n"]),
                ],
            )
            return context.get_dummy_value()

        names = ("address", "turned_a", "turned_b", "m", "n", "k", "a", "lda", "b", "ldb", "c")
        whole = types.int64
        wanted = types.void(whole, whole, whole, whole, whole, whole, a, whole, b, whole, c)
        return wanted, codegen
