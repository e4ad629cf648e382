"""Numbers as a person reads them."""

import math


def count(n: int) -> str:
    """A whole number in groups of three, with thin no-break spaces.

    >>> count(1797) == "1\u202f797"
    True
    """
    return f"{n:,}".replace(",", "\u202f")


def kib(n: int) -> str:
    """Bytes in KiB, with one decimal below 100; what would read 0.0 but is not zero, as such.

    >>> kib(2048), kib(310_000), kib(0), kib(40)
    ('2.0', '303', '0', '<0.1')
    """
    if n == 0 or abs(n) >= 100 * 1024:
        return count(round(n / 1024))
    return "<0.1" if 0 < n < 52 else f"{n / 1024:.1f}"


def seconds(t: float) -> str:
    """A time with three significant digits, in ms, s or min.

    >>> seconds(0.0123), seconds(4.5678), seconds(150)
    ('12.3 ms', '4.57 s', '2 min 30 s')
    """
    if t < 1:
        return f"{significant(1000 * t)} ms"
    if t < 100:
        return f"{significant(t)} s"
    return f"{int(t) // 60} min {int(t) % 60} s"


def significant(x: float, digits: int = 3) -> str:
    """A number with so many significant digits, zeros at the end included.

    >>> significant(0.1), significant(99.96), significant(1234.5), significant(3.2e-7), significant(0)
    ('0.100', '100', '1234', '3.20e-07', '0')
    """
    if x == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(float(f"{x:.{digits - 1}e}"))))
    if magnitude < -4:
        return f"{x:.{digits - 1}e}"
    return f"{x:.{max(digits - 1 - magnitude, 0)}f}"


def percent(x: float) -> str:
    """A fraction in per cent with two decimals.

    >>> percent(0.975)
    '97.50 %'
    """
    return f"{100 * x:.2f} %"


def ratio(x: float) -> str:
    """A ratio with two decimals.

    >>> ratio(1.984)
    '1.98 ×'
    """
    return f"{x:.2f} ×"
