"""`posit.jit(fmt)`: the scalar operations of a format for use inside ``@numba.njit``."""

from functools import cache
from types import ModuleType

from posit._kernels import scalars
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
    """
    return _made(Format.parse(fmt))


@cache
def _made(fmt: Format) -> ScalarOperations:
    operations = ScalarOperations(f"posit.jit({fmt})", f"Scalar operations of {fmt} for Numba.")
    operations.format = fmt
    parameters = fmt.nbits, fmt.es, fmt.max_regime or 0
    operations.__dict__.update(scalars.arithmetic_functions(*parameters, fmt.storage))
    operations.__dict__.update(scalars.code_functions(fmt.nbits, fmt.storage))
    operations.__dict__.update(scalars.conversion_functions(*parameters, fmt.storage))
    operations.__dict__.update(nar=fmt.nar, minpos=fmt.minpos, maxpos=fmt.maxpos, one=1 << (fmt.nbits - 2))
    return operations
