"""Geometric algebra on torch: algebras, static grade layouts, sparse products, multivector layers.

Coefficients are passed and read with the blades last; they are stored blade first, one contiguous plane a
blade.
"""

from ga import _register as _register
from ga import _versor_hooks as _versor_hooks
from ga import draw, nn, testing
from ga.algebra import CGA3, PGA2, PGA3, STA, VGA2, VGA3, Algebra
from ga.constraint import Constraint
from ga.conversions import (
    motor_from_dual_quaternion,
    motor_from_matrix,
    motor_from_rotation_translation,
    rotor_between,
    rotor_from_matrix,
    rotor_from_quaternion,
    to_dual_quaternion,
    to_matrix,
    to_quaternion,
    to_rigid_matrix,
    versor_from_vectors,
)
from ga.dense import from_dense, to_dense
from ga.errors import (
    AlgebraError,
    BladeNameError,
    ConstraintError,
    EquivarianceError,
    GAError,
    GradeCheckError,
    LayoutError,
    NotInvertibleError,
    ProductError,
)
from ga.incidence import join, meet
from ga.layout import Layout
from ga.multivector import Multivector
from ga.nn.grade_check import check_grades
from ga.order import BladeOrder
from ga.parameter import MultivectorParameter
from ga.plan import Plan, plan_for, plan_from_key
from ga.sign_table import SignTable, sign_table
from ga.versor import decompose, exp, interpolate, log, sqrt, versor_error
from ga.versor_parameter import VersorParameter

__all__ = [
    "CGA3",
    "PGA2",
    "PGA3",
    "STA",
    "VGA2",
    "VGA3",
    "Algebra",
    "AlgebraError",
    "BladeNameError",
    "BladeOrder",
    "Constraint",
    "ConstraintError",
    "EquivarianceError",
    "GAError",
    "GradeCheckError",
    "Layout",
    "LayoutError",
    "Multivector",
    "MultivectorParameter",
    "NotInvertibleError",
    "Plan",
    "ProductError",
    "SignTable",
    "VersorParameter",
    "check_grades",
    "decompose",
    "draw",
    "exp",
    "from_dense",
    "interpolate",
    "join",
    "log",
    "meet",
    "motor_from_dual_quaternion",
    "motor_from_matrix",
    "motor_from_rotation_translation",
    "nn",
    "plan_for",
    "plan_from_key",
    "rotor_between",
    "rotor_from_matrix",
    "rotor_from_quaternion",
    "sign_table",
    "sqrt",
    "testing",
    "to_dense",
    "to_dual_quaternion",
    "to_matrix",
    "to_quaternion",
    "to_rigid_matrix",
    "versor_error",
    "versor_from_vectors",
]
