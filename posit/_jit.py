"""`posit.jit(fmt)`: the scalar operations of a format, and its quire, for use inside ``@numba.njit``."""

from functools import cache
from types import ModuleType

from posit._kernels import scalar_quires, scalars
from posit._quire_layout import layout
from posit.formats import Format


class ScalarOperations(ModuleType):
    """The operations of one format on single codes, as functions that Numba compiles into the caller.

    A module, because that is the only kind of object whose attributes Numba resolves at compile time.
    """

    format: Format


def jit(fmt: Format | str) -> ScalarOperations:
    """Scalar operations of a format for user-written Numba loops, with the bits of the array functions.

    Arguments are integers whose low nbits are a code (so elements of ``x.codes`` and of a PositTensor's codes
    both do); results are unsigned codes of ``fmt.storage``, truth values, float64 or int64.

    Args:
        fmt: The format, or its name.

    Returns:
        A namespace with ``add sub mul div fma sqrt``, ``negate abs sign next prior nearest_int ceil floor``,
        ``compare_equal`` … ``compare_greater_equal``, ``is_nar``, ``from_float to_float from_int to_int`` and
        the codes ``nar minpos maxpos one``.  The same object for the same format.

        Its quire, with the bits of `posit.Quire`: ``quire()`` makes one, an int64 array of ``quire_size`` numbers that
        holds all its state (digits, NaR, and the counts by which carries are folded in time), so that quires may be
        rows of a matrix, one for each thread.  ``quire_add(q, a)``, ``quire_sub``, ``quire_mul_add(q, a, b)``,
        ``quire_mul_sub``, ``quire_merge(q, r)``, ``quire_sub_quire``, ``quire_negate(q)`` and ``quire_clear(q)`` change
        it in place; ``quire_to_posit(q)`` rounds once and ``quire_is_nar(q)`` asks.  Zeros are an empty quire.

    Raises:
        FormatError: an unknown name.

    >>> import numba, numpy as np, posit
    >>> k = jit("posit16")
    >>> @numba.njit
    ... def polynomial(codes):
    ...     total = k.from_float(0.0)
    ...     for c in codes:
    ...         total = k.fma(total, k.from_float(0.5), c)
    ...     return total
    >>> polynomial(posit.array([1, 2, 3], "posit16").codes) == posit.array(4.25, "posit16").codes
    np.True_
    >>> @numba.njit
    ... def dot(a, b):
    ...     q = k.quire()
    ...     for x, y in zip(a, b):
    ...         k.quire_mul_add(q, x, y)
    ...     return k.quire_to_posit(q)
    >>> x = posit.array([30000, 0.25, -30000], "posit16").codes
    >>> posit.from_codes(dot(x, posit.array([30000, 1, 30000], "posit16").codes), "posit16")
    posit.array(0.25, 'posit16')
    """
    return _made(Format.parse(fmt))


@cache
def _made(fmt: Format) -> ScalarOperations:
    operations = ScalarOperations(f"posit.jit({fmt})", f"Scalar operations of {fmt} for Numba.")
    operations.format = fmt
    parameters = fmt.parameters
    operations.__dict__.update(scalars.arithmetic_functions(*parameters, fmt.storage))
    operations.__dict__.update(scalars.code_functions(fmt.nbits, fmt.storage))
    operations.__dict__.update(scalars.conversion_functions(*parameters, fmt.storage))
    register = layout(fmt)
    place = register.digits, register.lsb, register.bits, register.unit
    operations.__dict__.update(scalar_quires.functions(*parameters, fmt.storage, *place))
    operations.__dict__.update(quire_size=register.digits + scalar_quires.SIZE)
    operations.__dict__.update(nar=fmt.nar, minpos=fmt.minpos, maxpos=fmt.maxpos, one=1 << (fmt.nbits - 2))
    return operations
