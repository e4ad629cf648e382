"""A compiled loop over a C function of somebody else's, to time it without Python between its calls."""

import llvmlite.binding
import numba
import numpy as np


def binary_loop(function, shift, width):
    """Kernel (a, b, out) that calls a ctypes function of two uint32 codes for each pair of elements.

    Args:
        function: ctypes function pointer with its prototype.
        shift: Codes are handed over, and come back, left-aligned by this many bits.
        width: Third argument, or None if the function has two.
    """
    if width is None:

        @numba.njit(nogil=True)
        def kernel(a, b, out):
            for t in range(len(out)):
                out[t] = function(np.uint32(a[t]), np.uint32(b[t]))

        return kernel

    @numba.njit(nogil=True)
    def wide_kernel(a, b, out):
        for t in range(len(out)):
            left, right = np.uint32(a[t]) << np.uint32(shift), np.uint32(b[t]) << np.uint32(shift)
            out[t] = np.uint32(function(np.uint32(left), np.uint32(right), np.int32(width))) >> np.uint32(
                shift
            )

    return wide_kernel


def target_cpu():
    """The processor that LLVM, and so Numba, generates code for unless told otherwise."""
    return numba.config.CPU_NAME or llvmlite.binding.get_host_cpu_name()
