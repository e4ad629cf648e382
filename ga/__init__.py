"""Geometric algebra on torch: algebras, static grade layouts, sparse products, multivector layers.

Coefficients are passed and read with the blades last; they are stored blade first, one contiguous plane a
blade.
"""

from ga import _register as _register
from ga import nn, testing
from ga.algebra import CGA3, PGA2, PGA3, STA, VGA2, VGA3, Algebra
from ga.errors import AlgebraError, EquivarianceError, GAError, GradeCheckError, LayoutError, ProductError
from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn.grade_check import check_grades
from ga.plan import Plan, plan_for, plan_from_key

__all__ = [
    "CGA3",
    "PGA2",
    "PGA3",
    "STA",
    "VGA2",
    "VGA3",
    "Algebra",
    "AlgebraError",
    "EquivarianceError",
    "GAError",
    "GradeCheckError",
    "Layout",
    "LayoutError",
    "Multivector",
    "Plan",
    "ProductError",
    "check_grades",
    "nn",
    "plan_for",
    "plan_from_key",
    "testing",
]
