"""Layers on multivectors whose grades are part of their type."""

from ga.nn.geometric_product import GeometricProductLayer
from ga.nn.grade_check import GradeRecord
from ga.nn.linear import GradeLinear

__all__ = ["GeometricProductLayer", "GradeLinear", "GradeRecord"]
