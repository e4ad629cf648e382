"""`einsum` on one or two posit arrays, as one exact matrix product or sum: one rounding per element."""

from collections import Counter
from typing import Any

import numpy as np

from posit import _reductions
from posit._array import PositArray
from posit._operands import common_format
from posit._products import exact_product, result_format
from posit.codec import Codes
from posit.errors import NoRuleError, ShapeError
from posit.formats import Format

_SUPPORTED = "give explicit letters, as 'ij,jk->ik', and one or two arrays; three would round more than once"


def einsum(subscripts: str, *operands: PositArray, out_format: Format | str | None = None) -> PositArray:
    """Einstein summation over letters, each output element an exact sum rounded once.

    Args:
        subscripts: Letters per operand and, after ``->``, of the result (by default those that occur once,
            sorted).
        operands: One or two posit arrays.
        out_format: Format of the result; by default that of the operands.  It must be named where they differ.

    Raises:
        NoRuleError: an ellipsis, or more than two operands.
        ShapeError: letters do not fit the shapes.
        FormatMismatch: the operands' formats differ and `out_format` is not named.

    >>> from posit.creation import array
    >>> x = array([[1, 2], [3, 4]], "posit16")
    >>> einsum("ij,kj->ik", x, x), einsum("ii", x, out_format="posit8")
    (posit.array([[5.0, 11.0],
           [11.0, 25.0]], 'posit16'), posit.array(5.0, 'posit8'))
    """
    inputs, output = _read(subscripts, len(operands))
    sizes: dict[str, int] = {}
    if len(operands) == 2:
        fmt = result_format("einsum", operands[0], operands[1], out_format)
    else:
        fmt = common_format(operands) if out_format is None else Format.parse(out_format)
    reduced = [_diagonals(letters, x, sizes) for letters, x in zip(inputs, operands, strict=True)]
    if any(letter not in sizes for letter in output) or len(set(output)) != len(output):
        raise ShapeError(
            f"einsum {subscripts!r}: each letter of the result must occur, once, and in an operand"
        )
    if len(operands) == 1:
        return _one(*reduced[0], output, operands[0].format, fmt)
    return PositArray(_two(reduced, output, sizes, (operands[0].format, operands[1].format, fmt)), fmt)


def _one(letters: str, codes: Codes, output: str, source: Format, fmt: Format) -> PositArray:
    summed = tuple(i for i, s in enumerate(letters) if s not in output)
    x = PositArray(codes, source)
    total = _reductions.sum(x, axis=summed, out_format=fmt) if summed else x.astype(fmt)
    rest = [s for s in letters if s in output]
    return total.transpose([rest.index(s) for s in output])


def _read(subscripts: Any, count: int) -> tuple[list[str], str]:
    text = subscripts.replace(" ", "") if isinstance(subscripts, str) else "..."
    left, arrow, output = text.partition("->")
    inputs = left.split(",")
    if not (left + output).replace(",", "").isalpha() or "," in output or count > 2:
        raise NoRuleError(f"einsum({subscripts!r}) with {count} arrays has no rule for posits; {_SUPPORTED}")
    if len(inputs) != count:
        raise ShapeError(f"einsum {subscripts!r} names {len(inputs)} operands, got {count}")
    if not arrow:
        output = "".join(sorted(s for s, times in Counter(left.replace(",", "")).items() if times == 1))
    return inputs, output


def _diagonals(letters: str, operand: PositArray, sizes: dict[str, int]) -> tuple[str, Codes]:
    """A view of the codes with every letter once, and the letters' sizes checked and recorded."""
    if len(letters) != operand.ndim:
        raise ShapeError(f"einsum letters {letters!r} do not fit shape {operand.shape}")
    for letter, size in zip(letters, operand.shape, strict=True):
        if sizes.setdefault(letter, size) != size:
            raise ShapeError(f"einsum letter {letter!r} has sizes {sizes[letter]} and {size}")
    once = "".join(dict.fromkeys(letters))
    return once, np.einsum(f"{letters}->{once}", operand.codes)


def _two(
    operands: list[tuple[str, Codes]],
    output: str,
    sizes: dict[str, int],
    formats: tuple[Format, Format, Format],
) -> Codes:
    """Batch letters in both and the result, rows in a, columns in b; every other letter is summed over."""
    a, b = operands
    batch = [s for s in output if s in a[0] and s in b[0]]
    rows = [s for s in output if s not in b[0]]
    columns = [s for s in output if s not in a[0]]
    summed = [s for s in dict.fromkeys(a[0] + b[0]) if s not in output]
    left = _arranged(a, [*batch, *rows, *summed], sizes)
    right = _arranged(b, [*batch, *summed, *columns], sizes)
    count, m, k, n = (
        int(np.prod([sizes[s] for s in group], dtype=np.int64)) for group in (batch, rows, summed, columns)
    )
    if batch:
        stacked = exact_product(left.reshape(count, m, k), right.reshape(count, k, n), *formats)
    else:
        stacked = exact_product(left.reshape(m, k), right.reshape(k, n), *formats)
    made = [*batch, *rows, *columns]
    return stacked.reshape([sizes[s] for s in made]).transpose([made.index(s) for s in output])


def _arranged(operand: tuple[str, Codes], wanted: list[str], sizes: dict[str, int]) -> Codes:
    """Axes in the wanted order; a letter the operand lacks is broadcast."""
    letters, codes = operand
    present = [s for s in wanted if s in letters]
    moved = codes.transpose([letters.index(s) for s in present])
    expanded = moved[tuple(slice(None) if s in letters else None for s in wanted)]
    return np.broadcast_to(expanded, [sizes[s] for s in wanted])
