"""Every exception that ``ga`` raises on purpose.

Each class also derives from the built-in that a caller would catch, so ``except ValueError`` keeps working.
A message says what came, what was wanted and what to do about it.
"""


class GAError(Exception):
    """Base of all errors raised on purpose by ``ga``."""


class AlgebraError(GAError, ValueError):
    """A signature that is not supported, a blade that an algebra does not have, or two algebras mixed."""


class BladeNameError(AlgebraError, AttributeError):
    """A spelling that is no product of distinct generators of the algebra."""


class LayoutError(GAError, ValueError):
    """Blades, grades or a number of planes that do not fit the layout."""


class ProductError(GAError, ValueError):
    """An unknown product, or a plan key that cannot be read."""


class GradeCheckError(GAError, ValueError):
    """A model stores parameters that its declared grades do not allow."""


class EquivarianceError(GAError, AssertionError):
    """A function does not commute with a transformation it was said to commute with."""


class NotInvertibleError(GAError, ZeroDivisionError):
    """A multivector that has no inverse, or cannot be normalized."""


class ConstraintError(GAError, ValueError):
    """Data that is not what a constraint type (rotor, versor, null, simple blade) promises."""
