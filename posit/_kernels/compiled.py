"""The decorator of every kernel: `numba.njit`, and what stands for it where Numba is told not to compile.

With NUMBA_DISABLE_JIT a kernel is a Python function of NumPy scalars, so that it can be stepped through.  It gives the
bits of the compiled one: integers wrap, and floats become infinite or NaN.  NumPy would warn of both, which no
machine instruction does.
"""

from inspect import isfunction

import numba
import numpy as np

if numba.config.DISABLE_JIT:

    def njit(*given, **options):
        """The function itself, as silent as if it were compiled; signature and options are for Numba alone."""
        as_compiled = np.errstate(all="ignore")
        return as_compiled(given[0]) if given and isfunction(given[0]) else as_compiled

else:

    def njit(*given, **options):
        """Numba's, without the wrapper for callers in C, which takes a twentieth of the time to compile."""
        return numba.njit(*given, no_cfunc_wrapper=True, **options)
