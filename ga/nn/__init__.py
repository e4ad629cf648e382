"""Layers on multivectors whose grades are part of their type."""

from ga.nn.activation import GatedGELU, NormGate
from ga.nn.attention import GeometricAttention
from ga.nn.fully_connected import FullyConnectedGeometricProduct
from ga.nn.geometric_product import GeometricProductLayer
from ga.nn.grade_check import GradeRecord
from ga.nn.linear import GradeLinear
from ga.nn.normalization import GradeNorm, MultivectorLayerNorm
from ga.nn.projective import GeometricBilinear, ProjectiveLinear
from ga.nn.versor_layer import VersorLayer

__all__ = [
    "FullyConnectedGeometricProduct",
    "GatedGELU",
    "GeometricAttention",
    "GeometricBilinear",
    "GeometricProductLayer",
    "GradeLinear",
    "GradeNorm",
    "GradeRecord",
    "MultivectorLayerNorm",
    "NormGate",
    "ProjectiveLinear",
    "VersorLayer",
]
