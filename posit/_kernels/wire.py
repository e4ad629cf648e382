"""Arrays of quires cut into limbs for the wire, and put together again; planes as in `posit._kernels.quire`.

A limb holds `width` bits (at most 62) of every element's two's-complement value, from bit `low` on: limb t has weight
2**(low + width t).  All limbs but the last are 0 .. 2**width - 1; the last one has the sign.  `posit._quire_wire` says
why sums of such limbs over many ranks fit an int64.
"""

import numba
import numpy as np

from posit._kernels.compiled import njit

_N = numba.int64
_FLAT = numba.int64[:, ::1]
_BLOCK = numba.types.Array(numba.int64, 2, "A")
_LOW = np.int64(0xFFFFFFFF)


@njit(numba.void(_N, _N, _FLAT, _FLAT), nogil=True, cache=True)
def extent(begin, end, planes, found):
    """OR of all digits of folded elements begin .. end - 1, and of all digits xor their element's sign.

    found[0, t] and found[1, t] get those of plane t; found[0] of the last plane is not 0 where an element is NaR.
    """
    top = planes.shape[0] - 2
    for start in range(begin, end, 1024):
        stop = min(start + 1024, end)
        signs = planes[top, start:stop]
        for t in range(top + 1):
            digits = planes[t, start:stop]
            every, beyond = np.int64(0), np.int64(0)
            for e in range(len(digits)):
                every |= digits[e]
                beyond |= digits[e] ^ (signs[e] >> 63)
            found[0, t] |= every
            found[1, t] |= beyond & _LOW
        marks = planes[top + 1, start:stop]
        every = np.int64(0)
        for e in range(len(marks)):
            every |= marks[e]
        found[0, top + 1] |= every


@njit(numba.void(_N, _N, _FLAT, _N, _N, _BLOCK), nogil=True, cache=True)
def pack(begin, end, planes, low, width, limbs):
    """Limbs of folded elements begin .. end - 1, into columns 0 .. end - begin - 1."""
    top, count = planes.shape[0] - 2, limbs.shape[0]
    mask = (np.int64(1) << width) - 1
    for t in range(count):
        place = low + width * t
        index, by = place >> 5, place & 31
        first = planes[min(index, top), begin:end]
        second = planes[min(index + 1, top), begin:end]
        third = planes[min(index + 2, top), begin:end]
        # beyond the last digit there are copies of the sign
        shift_1 = np.int64(0) if index + 1 <= top else np.int64(63)
        shift_2 = np.int64(0) if index + 2 <= top else np.int64(63)
        kept = np.int64(-1) if t == count - 1 else mask
        out = limbs[t]
        for e in range(end - begin):
            x = first[e] >> by
            y = (second[e] >> shift_1) << (32 - by)
            z = ((third[e] >> shift_2) << (63 - by)) << 1
            out[e] = (x | y | z) & kept


@njit(numba.void(_N, _N, _BLOCK, _N, _N, _FLAT), nogil=True, cache=True)
def unpack(begin, end, limbs, low, width, planes):
    """Elements begin .. end - 1 become what the limbs in columns 0 .. end - begin - 1 stand for; none is NaR.

    A limb changes a digit by less than 2**34; the caller folds afterwards.
    """
    top, count = planes.shape[0] - 2, limbs.shape[0]
    for t in range(top + 2):
        planes[t, begin:end] = 0
    for t in range(count):
        place = low + width * t
        index, by = place >> 5, place & 31
        summed = limbs[t]
        first = planes[index, begin:end]
        if index == top:
            for e in range(end - begin):
                first[e] += summed[e] << by
            continue
        second = planes[index + 1, begin:end]
        if index + 1 == top:
            for e in range(end - begin):
                below = (summed[e] & _LOW) << by
                first[e] += below & _LOW
                second[e] += (below >> 32) + ((summed[e] >> 32) << by)
            continue
        third = planes[index + 2, begin:end]
        for e in range(end - begin):
            below, above = (summed[e] & _LOW) << by, (summed[e] >> 32) << by
            first[e] += below & _LOW
            second[e] += (below >> 32) + (above & _LOW)
            third[e] += above >> 32
