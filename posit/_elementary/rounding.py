"""One posit at a time, in Python integers: its exact value, rounding, rounding of an enclosed real."""

from fractions import Fraction

from posit.formats import Format


def value(code: int, fmt: Format) -> Fraction | None:
    """Exact value of a code of which the low nbits bits count; None for NaR.

    >>> value(0x5A00, Format(16)), value(-0x5A00, Format(16)), value(0x8000, Format(16))
    (Fraction(10, 1), Fraction(-10, 1), None)
    """
    code &= fmt.code_mask
    if code == fmt.nar:
        return None
    if code == 0:
        return Fraction(0)
    magnitude = code if code < fmt.nar else (1 << fmt.nbits) - code
    length = fmt.nbits - 1
    ones = bool(magnitude >> (length - 1))
    inverted = magnitude ^ fmt.maxpos if ones else magnitude  # leading zeros of this are the regime's run
    run = min(length - inverted.bit_length(), fmt.max_regime or length)
    left = max(length - run - (0 if run == fmt.max_regime else 1), 0)
    body = (magnitude & ((1 << left) - 1)) << fmt.es  # pad with es zeros, so that cut exponent bits are 0
    exponent, fraction = body >> left, body & ((1 << left) - 1)
    scale = ((run - 1 if ones else -run) << fmt.es) + exponent
    significand = (1 << left) | fraction
    scale -= left
    result = Fraction(significand << scale) if scale >= 0 else Fraction(significand, 1 << -scale)
    return result if code < fmt.nar else -result


def round_fraction(x: Fraction, fmt: Format) -> int:
    """Code (unsigned) of a rational: nearest on the encoding, ties to even, never to 0 or NaR.

    >>> hex(round_fraction(Fraction(1, 10), Format(16)))
    '0x24cd'
    """
    if x == 0:
        return 0
    shift = max(0, 80 + x.denominator.bit_length() - abs(x.numerator).bit_length())
    quotient, rest = divmod(abs(x.numerator) << shift, x.denominator)
    return round_scaled(x < 0, 2 * quotient + (rest != 0), -shift - 1, fmt)


def round_scaled(negative: bool, mantissa: int, exponent: int, fmt: Format) -> int:
    """Code (unsigned) of ±mantissa * 2**exponent for a positive mantissa, rounded once.

    The bit string regime, exponent, fraction is written out in full and cut after nbits - 1 bits; what is cut
    off decides the rounding (Posit Standard 2022, section 4.1).
    """
    bits = mantissa.bit_length() - 1
    regime, low_exponent = divmod(bits + exponent, 1 << fmt.es)
    bound = fmt.max_regime or fmt.nbits - 1
    if regime >= bound:
        code = fmt.maxpos
    elif regime < -bound:
        code = fmt.minpos
    else:
        run = regime + 1 if regime >= 0 else -regime
        string = ((1 << run) - 1) << 1 if regime >= 0 else 1
        length = run + 1
        if run == fmt.max_regime:
            string, length = string >> 1, length - 1
        string = (string << fmt.es | low_exponent) << bits | mantissa - (1 << bits)
        length += fmt.es + bits
        code = _cut(string, length, fmt.nbits - 1)
        code = min(max(code, fmt.minpos), fmt.maxpos)
    return (1 << fmt.nbits) - code if negative else code


def _cut(string: int, length: int, kept: int) -> int:
    """The first `kept` bits of a bit string, rounded to nearest by the rest, ties to even."""
    excess = length - kept
    if excess <= 0:
        return string << -excess
    code, rest = string >> excess, string & ((1 << excess) - 1)
    half = 1 << (excess - 1)
    return code + (rest > half or (rest == half and code & 1 == 1))


def round_enclosed(negative: bool, mantissa: int, exponent: int, precision: int, fmt: Format) -> int | None:
    """Code of all reals within ±mantissa * 2**exponent * (1 ± 2**-precision); None if they round apart."""
    wide = mantissa << precision
    low = round_scaled(negative, wide - mantissa, exponent - precision, fmt)
    high = round_scaled(negative, wide + mantissa, exponent - precision, fmt)
    return low if low == high else None
