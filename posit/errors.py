"""Every exception that `posit` raises on purpose, each derived from the built-in a caller would catch."""

from numpy.linalg import LinAlgError as _NumpyLinAlgError


class PositError(Exception):
    """Base of all errors raised by this package."""


class FormatError(PositError, ValueError):
    """A format that does not exist or cannot be used here."""


class FormatMismatch(PositError, ValueError):
    """Operands of different formats met; posits never convert silently.

    Not a TypeError: the operators of torch.Tensor turn those into "unsupported operand type" and lose the message.
    """


class CodeError(PositError, ValueError):
    """Codes that are not integers, or do not fit the format."""


class ShapeError(PositError, ValueError):
    """Shapes that cannot be combined."""


class LinAlgError(PositError, _NumpyLinAlgError):
    """A linear system without exactly one solution in real numbers."""


class NonFiniteError(PositError, ValueError):
    """A real number was needed and NaN, an infinity or NaR came."""


class QuireError(PositError, ValueError):
    """A quire operation that has no meaning: other format, wrong bytes, wrong version."""


class NoRuleError(PositError, NotImplementedError):
    """An operator has no exact rule for posits, and posits never detour through floats."""


class UnknownFunctionError(PositError, LookupError):
    """The name of an elementary function that does not exist."""


class TextError(PositError, ValueError):
    """Text that is not a number."""


class MissingReferenceError(PositError, ImportError):
    """A witness that is not installed, or does not offer what was asked."""


class CheckError(PositError, ValueError):
    """A function that cannot be checked: not found, not callable in the way asked for, or without an answer."""


class CounterExample(PositError, AssertionError):
    """A function under test gave a wrong answer; the message shows the smallest operands found."""
