"""Functions of `ga.nn` on posits, each formed with as few roundings as a format allows.

Rounding points, forward in the format of activations and backward in that of gradients, each one rounding of the exact
real value:

* `connected_product`: each coefficient, an exact sum of products of three factors over channels, paths and terms;
  backward each gradient, over all that is summed.
* `projective_map`: each coefficient, the matrix of its grade, that with e0 and the bias in one exact sum; each gradient
  of an input or a matrix.
* `grade_forms`: each form, an exact sum of squares; each gradient.
* `scaled_planes`: each product; the gradient of a value over all planes and elements that it multiplies.
* `per_channel`: none; where a parameter's gradient is a `GradientSum`, its terms are those of the samples, each rounded
  by the operator that the parameter entered.
* `smooth_root`: the real function of the stored form; its gradient, that of the root times the real slope there.

What the layers do beside these rounds once for every operator of torch (`posit.torch.ops`): sigmoid, GELU, quotient,
``weight * form + bias`` (one rounding), the mean of forms, the attention of `scaled_dot_product_attention`.
"""

import math
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ga.layout import Layout
from ga.nn.fully_connected import connected_product
from ga.nn.invariants import blade_squares, grade_forms, per_channel, scaled_planes, smooth_root
from ga.nn.projective import ProjectiveMaps, null_maps, projective_map
from ga.plan import Plan
from posit._elementary.ziv import Solution, number
from posit._planes import Factor, Terms
from posit.torch import GradientSum, PositTensor, register_function
from posit.torch.accumulation import sums_for
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.contractions import product
from posit.torch.ops.curves import Curve, apply, multiply_slope
from posit.torch.ops.pointwise import Bounded, Floats
from posit.torch.ops.reductions import sum_leading
from posit.torch.tensor import outcome, to_numpy
from postrain.geometric import (
    add_planes,
    sum_planes,
    summed_factors,
    weight_gradients_of,
    weighted_products_of,
)


@register_function(connected_product)
def _connected_product(x: Any, y: Any, weight: Any, plan: Plan) -> Any:
    return _Connected.apply(x, y, weight, plan)  # type: ignore[no-untyped-call]


class _Connected(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, x: Any, y: Any, weight: Any, plan: Plan) -> Any:
        ctx.save_for_backward(x, y, weight)
        ctx.plan, ctx.sums = plan, sums_for(weight)
        return _contracted((x, y), weight, weighted_products_of(plan))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x, y, weight), plan = ctx.saved_tensors, ctx.plan
        to_x = to_y = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = _contracted((grad, y), weight, weighted_products_of(plan.adjoint_first), mapped=0)
        if ctx.needs_input_grad[1]:
            to_y = _contracted((x, grad), weight, weighted_products_of(plan.adjoint_second), mapped=1)
        if ctx.needs_input_grad[2]:
            to_weight = _connected_weight(grad, x, y, plan, ctx.sums)
        return to_x, to_y, to_weight, None


def _contracted(
    pair: tuple[Any, Any], weight: PositTensor, terms: Terms, mapped: int | None = None
) -> PositTensor:
    """Both operands times the weight, summed over the channels that go in (x and y), or of `mapped`, that come out."""
    given = pair[0] if mapped is None else pair[mapped]
    channels = given.shape[-1]
    batch = tuple(given.shape[1:-1])
    rows = math.prod(batch)
    wanted = weight.shape[1] if mapped is None else weight.shape[2]
    factors = []
    for place, each in enumerate(pair):
        codes = np.ascontiguousarray(to_numpy(each.codes))
        summed = mapped is None or place == mapped
        shape = (rows, channels, 1) if summed else (rows, 1, wanted)
        factors.append(Factor(codes.reshape(codes.shape[0], *shape), each.format))
    matrix = to_numpy(weight.codes)
    if mapped is None:
        matrix = np.ascontiguousarray(matrix.transpose(0, 2, 1))
    factors.append(Factor(np.ascontiguousarray(matrix)[:, None], weight.format))
    result = summed_factors("connected_product", (*pair, weight), factors, terms, (rows, channels, wanted))
    return result.like(result.codes.reshape(len(terms), *batch, wanted))


def _connected_weight(
    grad: PositTensor, x: PositTensor, y: PositTensor, plan: Plan, sums: GradientSum | None
) -> PositTensor | None:
    """Gradient of the weight, (paths, out, in): over the batch and the terms of a path; None if it went to sums."""
    rows, outs, ins = math.prod(grad.shape[1:-1]), grad.shape[-1], x.shape[-1]
    turned = to_numpy(grad.codes).reshape(-1, rows, outs).transpose(0, 2, 1)
    factors = [Factor(np.ascontiguousarray(turned)[..., None], grad.format)]
    factors += [
        Factor(np.ascontiguousarray(to_numpy(each.codes)).reshape(-1, 1, rows, ins), each.format)
        for each in (x, y)
    ]
    given, terms, shape = (grad, x, y), weight_gradients_of(plan), (outs, rows, ins)
    if sums is None:
        return summed_factors("connected_product", given, factors, terms, shape)
    sums.add_form(given, factors, terms, shape)
    return None


@register_function(projective_map)
def _projective_map(planes: Any, layout: Layout, maps: ProjectiveMaps) -> Any:
    matrices = *maps.grades, *maps.null, maps.bias
    return _Projective.apply(planes, layout, *matrices)  # type: ignore[no-untyped-call]


class _Projective(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, planes: Any, layout: Layout, *matrices: Any) -> Any:
        *weights, bias = matrices
        ctx.save_for_backward(planes, *weights)
        ctx.layout = layout
        ctx.sums = [None if each is None else sums_for(each) for each in matrices]
        parts = []
        for k, where in layout.slices.items():
            plain, null = _matrices(layout, k, weights)
            n, below = _with_null(layout, k)
            own = planes[where]
            if n:
                both = torch.cat([own[:n], planes[below]], -1)
                parts.append(_mapped(both, torch.cat([plain, null], 1)))
            if n < len(own):
                parts.append(_mapped(own[n:], plain, bias if k == 0 else None))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        planes, *weights = ctx.saved_tensors
        layout, needs = ctx.layout, ctx.needs_input_grad
        to_planes = _projective_to_planes(grad, layout, weights) if needs[0] else None
        found: list[Any] = []
        pairs = [(where, where) for where in layout.slices.values()]
        pairs += [_null_pair(layout, k) for k, _, _ in null_maps(layout)]
        for place, (here, there) in enumerate(pairs):
            gradient = None
            if needs[place + 2]:
                gradient = _matrix_gradient(ctx.sums[place], _rows(grad[here]), _rows(planes[there]))
            found.append(gradient)
        to_bias = None
        if needs[-1]:
            scalars = _rows(grad[:1])
            if ctx.sums[-1] is None:
                to_bias = sum_leading("projective_map", scalars)
            else:
                ctx.sums[-1].add(scalars)
        return to_planes, None, *found, to_bias


def _matrices(layout: Layout, k: int, weights: list[Any]) -> tuple[Any, Any]:
    """The matrix of grade k, and the one that adds to it with e0 (or None)."""
    null = weights[len(layout.grades) :]
    added = [v for (_, above, _), v in zip(null_maps(layout), null, strict=True) if above == k]
    return weights[layout.grades.index(k)], added[0] if added else None


def _with_null(layout: Layout, k: int) -> tuple[int, slice]:
    """How many blades of grade k get something from the grade below, and from which planes."""
    for below, above, n in null_maps(layout):
        if above == k:
            stop = layout.slices[below].stop
            return n, slice(stop - n, stop)
    return 0, slice(0, 0)


def _null_pair(layout: Layout, k: int) -> tuple[slice, slice]:
    """Planes of the result and of the input of the map with e0 from grade k."""
    n, there = _with_null(layout, k + 1)
    start = layout.slices[k + 1].start
    return slice(start, start + n), there


def _projective_to_planes(grad: Any, layout: Layout, weights: list[Any]) -> Any:
    """Gradient of the input, each element one exact sum: of its own grade, and of the one above where it went there."""
    parts = []
    for k, where in layout.slices.items():
        plain, _ = _matrices(layout, k, weights)
        own = grad[where]
        n = _with_null(layout, k + 1)[0] if k + 1 in layout.grades else 0
        rest = len(own) - n
        if rest:
            parts.append(_mapped(own[:rest], plain.t()))
        if n:
            _, null = _matrices(layout, k + 1, weights)
            above, _ = _null_pair(layout, k)
            both = torch.cat([own[rest:], grad[above]], -1)
            parts.append(_mapped(both, torch.cat([plain.t(), null.t()], 1)))
    return torch.cat(parts)


def _rows(planes: Any) -> Any:
    return planes.reshape(-1, planes.shape[-1])


def _mapped(planes: Any, matrix: Any, bias: Any = None) -> Any:
    found = product("projective_map", _rows(planes), matrix.t(), bias)
    return found.reshape(*planes.shape[:-1], matrix.shape[0])


def _matrix_gradient(sums: Any, grad: Any, inputs: Any) -> Any:
    if sums is None:
        return product("projective_map", grad.t(), inputs)
    sums.add_product(grad.t(), inputs)
    return None


@lru_cache(maxsize=256)
def _form_terms(layout: Layout) -> tuple[Terms, Terms]:
    """Of the forms, and of the gradient of the planes."""
    squares = blade_squares(layout)
    forms = [
        [(squares[i], (i, i)) for i in range(where.start, where.stop) if squares[i]]
        for where in layout.slices.values()
    ]
    grade = [k for k, where in enumerate(layout.slices.values()) for _ in range(where.start, where.stop)]
    slopes = [[(square, (grade[i], i))] * 2 if square else [] for i, square in enumerate(squares)]
    return Terms(forms), Terms(slopes)


@register_function(grade_forms)
def _grade_forms(planes: Any, layout: Layout, squares: Any) -> Any:
    return _Forms.apply(planes, layout)  # type: ignore[no-untyped-call]


class _Forms(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, planes: Any, layout: Layout) -> Any:
        ctx.save_for_backward(planes)
        ctx.layout = layout
        return sum_planes("grade_forms", (planes, planes), _form_terms(layout)[0])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (planes,) = ctx.saved_tensors
        return sum_planes("grade_forms", (grad, planes), _form_terms(ctx.layout)[1]), None


@lru_cache(maxsize=256)
def _scaled_terms(counts: tuple[int, ...]) -> tuple[Terms, Terms]:
    """Planes times values; and the gradient of the values."""
    rows = [k for k, count in enumerate(counts) for _ in range(count)]
    sums: list[list[tuple[int, tuple[int, int]]]] = [[] for _ in counts]
    for i, k in enumerate(rows):
        sums[k].append((1, (i, i)))
    return Terms([(1, (i, k))] for i, k in enumerate(rows)), Terms(sums)


@register_function(scaled_planes)
def _scaled_planes(planes: Any, values: Any, counts: tuple[int, ...]) -> Any:
    return _Scaled.apply(planes, values, counts)  # type: ignore[no-untyped-call]


class _Scaled(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, planes: Any, values: Any, counts: tuple[int, ...]) -> Any:
        ctx.save_for_backward(planes, values)
        ctx.counts, ctx.sums = counts, sums_for(values)
        return sum_planes("scaled_planes", (planes, values), _scaled_terms(counts)[0])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (planes, values), (scaled, summed) = ctx.saved_tensors, _scaled_terms(ctx.counts)
        to_planes = to_values = None
        if ctx.needs_input_grad[0]:
            to_planes = sum_planes("scaled_planes", (grad, values), scaled, tuple(planes.shape[1:]))
        if ctx.needs_input_grad[1] and ctx.sums is None:
            to_values = sum_planes("scaled_planes", (grad, planes), summed, tuple(values.shape[1:]))
        elif ctx.needs_input_grad[1]:
            add_planes(ctx.sums, (grad, planes), summed, tuple(values.shape[1:]))
        return to_planes, to_values, None


@register_function(per_channel)
def _per_channel(parameter: Any, like: Any) -> Any:
    sums = sums_for(parameter)
    if sums is None or not torch.is_grad_enabled():
        return per_channel.__wrapped__(parameter, like)  # type: ignore[attr-defined]  # `overridable` wraps it
    return _PerSample.apply(parameter, tuple(like.shape), sums)  # type: ignore[no-untyped-call]


class _PerSample(OnceDifferentiable):
    """A parameter repeated for every sample: what is rounded for each of them is then summed exactly."""

    @staticmethod
    def forward(ctx: Any, parameter: Any, shape: tuple[int, ...], sums: GradientSum) -> Any:
        ctx.sums = sums
        return parameter.reshape(shape[0], *(1,) * (len(shape) - 2), shape[-1]).expand(shape)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        ctx.sums.add(grad.movedim(0, -2))
        return None, None, None


@register_function(smooth_root)
def _smooth_root(forms: Any, eps: float) -> Any:
    return _Root.apply(forms, float(eps))  # type: ignore[no-untyped-call]


class _Root(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, forms: Any, eps: float) -> Any:
        ctx.save_for_backward(forms)
        ctx.eps = eps
        return apply(_root_curves(eps)[0], forms, outcome("smooth_root", forms))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (forms,) = ctx.saved_tensors
        result = outcome("smooth_root", grad, forms)
        return multiply_slope(_root_curves(ctx.eps)[1], grad, forms, result), None


@lru_cache(maxsize=16)
def _root_curves(eps: float) -> tuple[Curve, Curve]:
    """(q² + ε)^¼ and its slope q/2 (q² + ε)^-¾.

    In float64 each operation has a relative error of 2**-53, and a root halves that of its argument: less than 2**-51
    and 2**-50.  For rational q both are rational only where q² + ε is a fourth power of a rational.
    """
    exact_eps = Fraction(eps)

    def value(x: Floats) -> Bounded:
        v = x * x + eps
        return np.sqrt(np.sqrt(v)), np.where(v == 0.0, 0.0, 2.0**-51)

    def slope(x: Floats) -> Bounded:
        half = np.sqrt(x * x + eps)
        return 0.5 * x / (half * np.sqrt(half)), np.where(x == 0.0, 0.0, 2.0**-49)

    def exact_value(x: Fraction) -> Solution:
        v = x * x + exact_eps
        root = _fourth_root(v)
        return root if root is not None else lambda ctx: ctx.sqrt(ctx.sqrt(number(ctx, v)))

    def exact_slope(x: Fraction) -> Solution:
        v = x * x + exact_eps
        root = _fourth_root(v)
        if root is not None:
            return x / (2 * root**3) if root else None
        if x == 0:
            return Fraction(0)

        def evaluate(ctx: Any) -> Any:
            half = ctx.sqrt(number(ctx, v))
            return number(ctx, x) / (2 * half * ctx.sqrt(half))

        return evaluate

    return Curve(value, exact_value), Curve(slope, exact_slope)


def _fourth_root(x: Fraction) -> Fraction | None:
    """The rational fourth root of a rational, if it has one."""
    parts = [math.isqrt(math.isqrt(part)) for part in (x.numerator, x.denominator)]
    return Fraction(*parts) if parts[0] ** 4 == x.numerator and parts[1] ** 4 == x.denominator else None
