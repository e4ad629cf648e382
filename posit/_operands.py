"""What may stand beside a posit array: arrays of its format, and Python numbers, rounded first."""

from fractions import Fraction
from typing import Any

import numpy as np

from posit._array import PositArray
from posit._rational import from_number
from posit.codec import Codes
from posit.errors import FormatMismatch
from posit.formats import Format


def common_format(operands: Any) -> Format:
    """The format of the posit arrays among the operands.

    Raises:
        FormatMismatch: there are two.
    """
    formats = {x.format: None for x in operands if isinstance(x, PositArray)}
    if len(formats) != 1:
        names = " and ".join(str(fmt) for fmt in formats) or "no posit array"
        raise FormatMismatch(
            f"one format is needed, got {names}; convert with x.astype(format), which rounds once"
        )
    return next(iter(formats))


def codes_of(operand: Any, fmt: Format) -> Codes:
    """Unsigned codes of an operand.

    Raises:
        FormatMismatch: a posit array of another format, a NumPy array or number, or no number at all.
    """
    if isinstance(operand, PositArray):
        if operand.format != fmt:
            raise FormatMismatch(
                f"{fmt} met {operand.format}; posits never convert silently: "
                f"use x.astype({str(fmt)!r}), which rounds once"
            )
        return operand.codes
    if isinstance(operand, np.ndarray | np.generic):
        raise FormatMismatch(
            f"{fmt} met a NumPy {operand.dtype} of shape {operand.shape}; "
            f"round it first with posit.array(x, {str(fmt)!r}), "
            "or leave posits with x.astype(np.float64)"
        )
    if isinstance(operand, list | tuple):
        from posit.creation import array

        return array(operand, fmt).codes
    if isinstance(operand, int | float | Fraction):
        return np.array(from_number(operand, fmt), fmt.storage)
    raise FormatMismatch(
        f"{fmt} met {type(operand).__name__}, which is neither a posit array nor a Python number"
    )
