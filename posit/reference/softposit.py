"""SoftPosit, the field's reference in C, through ctypes: a witness for arithmetic, not the definition.

The wheel ``softposit`` (an sdist: it is built with a C compiler) exports the C functions from its extension
module.  They are bound here without importing the wheel's Python face.  A bound function can be called from
Python and, being a ctypes function pointer with a prototype, inside a Numba loop.

What deserves trust (checked against `posit.reference.exact`; docs/softposit.md lists the differences): the
``pX2`` functions for es = 2 up to 31 bits, ``p16`` for es = 1, ``p8`` for es = 0, and ``p32`` except next to
±maxpos.  Fused multiply-add is wrong from 11 bits on.  There is no elementary function but the square root.

Source: SoftPosit (S. H. Leong), the state of April 2019, as packed in the wheel 0.3.4.4.
"""

import ctypes
import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

from posit.errors import MissingReferenceError
from posit.formats import Format

#: Bound operations and their numbers of operands.
OPERATIONS = {"add": 2, "sub": 2, "mul": 2, "div": 2, "mulAdd": 3, "sqrt": 1, "roundToInt": 1}
_OWN = {Format(8, 0): "p8", Format(16, 1): "p16", Format(32, 2): "p32"}


@dataclass(frozen=True, slots=True)
class Binding:
    """A C function and how it wants its codes.

    >>> binding = bind("mul", Format(16))
    >>> hex(binding(0x5000, 0x4800))  # 4 * 2
    '0x5800'
    """

    function: (
        Any  #: ctypes function pointer: uint32 codes (and the width, where `width` is set) to a uint32 code
    )
    operands: int
    shift: int  #: codes are stored left-aligned by this many bits
    width: int | None  #: last argument of the ``pX2`` functions

    def __call__(self, *codes: int) -> int:
        """The code that SoftPosit answers."""
        placed = [code << self.shift for code in codes]
        return int(self.function(*placed, *([] if self.width is None else [self.width]))) >> self.shift


@cache
def library() -> ctypes.CDLL:
    """The wheel's shared object.

    Raises:
        MissingReferenceError: the wheel is not installed.
    """
    found = importlib.util.find_spec("_softposit")
    if found is None or found.origin is None:
        raise MissingReferenceError(
            "SoftPosit is not installed; it is a witness for tests: pip install 'postrain[reference]' "
            "(built from source, so a C compiler is needed)"
        )
    return ctypes.CDLL(found.origin)


def bind(operation: str, fmt: Format, *, generic: bool = False) -> Binding:
    """The C function for an operation on codes of a format.

    The C structs hold one unsigned integer; on the ABIs of x86-64 and AArch64 they are passed like it.
    es = 2 uses ``pX2`` up to 31 bits, and ``p32`` at 32, where ``pX2`` is often wrong.

    Args:
        operation: ``add sub mul div mulAdd sqrt roundToInt``.
        fmt: posit<8,0>, posit<16,1>, or any posit with es = 2 and at most 32 bits.
        generic: Use ``pX2`` at 32 bits too (to show where it is wrong).

    Raises:
        MissingReferenceError: no wheel, or SoftPosit has no such function.
    """
    if operation not in OPERATIONS or fmt.max_regime is not None:
        raise _nothing(operation, fmt)
    own = None if generic else _OWN.get(fmt)
    if own is None and (fmt.es != 2 or fmt.nbits > (32 if generic else 31)):
        raise _nothing(operation, fmt)
    operands = OPERATIONS[operation]
    integer = {"p8": ctypes.c_uint8, "p16": ctypes.c_uint16}.get(own or "", ctypes.c_uint32)
    function = getattr(library(), f"{own or 'pX2'}_{operation}")
    function.restype = integer
    function.argtypes = [integer] * operands + ([] if own else [ctypes.c_int])
    return Binding(function, operands, 0 if own else 32 - fmt.nbits, None if own else fmt.nbits)


def _nothing(operation: str, fmt: Format) -> MissingReferenceError:
    return MissingReferenceError(
        f"SoftPosit has no {operation} for {fmt}; it offers {', '.join(OPERATIONS)} "
        "for posit<8,0>, posit<16,1> and es = 2 up to 32 bits"
    )


_CONVERSIONS = {
    "from_double": ("convertDoubleTo{upper}", ctypes.c_double, None),
    "to_double": ("convert{upper}ToDouble", None, ctypes.c_double),
    "from_i32": ("i32_to_{lower}", ctypes.c_int32, None),
    "from_i64": ("i64_to_{lower}", ctypes.c_int64, None),
    "to_i32": ("{lower}_to_i32", None, ctypes.c_int32),
    "to_i64": ("{lower}_to_i64", None, ctypes.c_int64),
}
#: Conversions that `convert` offers.
CONVERSIONS = tuple(_CONVERSIONS)


def convert(conversion: str, operand: float, fmt: Format) -> float:
    """SoftPosit's conversion between posits and doubles or integers.

    Args:
        conversion: One of `CONVERSIONS`.
        operand: A code for ``to_...``, else a number.
        fmt: A format that `bind` accepts.

    Returns:
        A code for ``from_...``, else a number.

    Raises:
        MissingReferenceError: no wheel, or SoftPosit has no such function.

    >>> hex(convert("from_double", 3.14159265, Format(32))), convert("to_i32", 0x50000000, Format(32))
    ('0x4c90fdaa', 4)
    """
    if conversion not in _CONVERSIONS:
        raise _nothing(conversion, fmt)
    binding = bind("add", fmt)  # its types and shift are those of the format
    name, given, result = _CONVERSIONS[conversion]
    lower = _OWN.get(fmt, "pX2")
    function = getattr(library(), name.format(lower=lower, upper=lower.replace("p", "P")))
    code = binding.function.restype
    function.restype = result or code
    function.argtypes = [given or code] + ([ctypes.c_int] if given and binding.width is not None else [])
    width = [binding.width] if given and binding.width is not None else []
    answer: float = function(operand if given else int(operand) << binding.shift, *width)
    return answer if result else int(answer) >> binding.shift


class _Quire16(ctypes.Structure):
    _fields_ = (("v", ctypes.c_uint64 * 2),)


class _Quire32(ctypes.Structure):
    _fields_ = (("v", ctypes.c_uint64 * 8),)


def fused_dot(a: list[int], b: list[int], fmt: Format) -> int:
    """SoftPosit's quire sum of products, for posit<16,1> and posit32.

    Raises:
        MissingReferenceError: no wheel, or another format.

    >>> fused_dot([0x40000000], [0x48000000], Format(32)) == 0x48000000
    True
    """
    if fmt not in (Format(16, 1), Format(32)):
        raise _nothing("fdp_add", fmt)
    name, quire, integer = (
        ("16", _Quire16, ctypes.c_uint16) if fmt.nbits == 16 else ("32", _Quire32, ctypes.c_uint32)
    )
    add, to_posit = getattr(library(), f"q{name}_fdp_add"), getattr(library(), f"q{name}_to_p{name}")
    add.restype, add.argtypes = quire, [quire, integer, integer]
    to_posit.restype, to_posit.argtypes = integer, [quire]
    total = quire()
    for left, right in zip(a, b, strict=True):
        total = add(total, left, right)
    return int(to_posit(total))
