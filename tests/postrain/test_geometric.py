"""Geometric products and layers of posits, bit for bit against rationals; symmetries of converted networks to the bit."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import postrain.geometric  # noqa: F401  (rules for geometric products)
from ga import CGA3, PGA3, STA, VGA3, Algebra, Layout, Multivector, MultivectorParameter, exp, plan_for
from ga import nn as layers
from ga.nn.fully_connected import connected_product
from ga.nn.invariants import blade_counts, grade_forms, scaled_planes, smooth_root, squares_of
from ga.nn.projective import ProjectiveMaps, null_maps, projective_map
from ga.plan import Plan
from ga.product import product, weighted_product
from ga.testing import signed_permutations, transform
from posit import Format, posit16, posit32
from posit._planes import Factor, Terms, sum_products
from posit.errors import NoRuleError
from posit.reference import exact
from posit.torch import PositTensor, observe, posit_tensor
from posit.torch.ops.observe import Observation
from postrain.convert import convert
from postrain.errors import RecipeError
from postrain.exactness import exact_code


def drawn(shape: tuple[int, ...], seed: int, fmt: Format = posit16, *, wild: bool = False) -> Any:
    """Random posits, of which some are 0; `wild`: some are at the ends of the range, and one is NaR."""
    generator = torch.Generator().manual_seed(seed)
    values = posit_tensor(torch.randn(shape, generator=generator), fmt)
    codes = values.codes
    codes[torch.rand(shape, generator=generator) < 0.1] = 0
    if wild:
        ends = torch.tensor([1, -1, fmt.maxpos, -fmt.maxpos], dtype=codes.dtype)
        at = torch.rand(shape, generator=generator) < 0.2
        codes[at] = ends[torch.randint(4, (int(at.sum()),), generator=generator)]
        codes.view(-1)[0] = -fmt.nar
    return PositTensor(codes, fmt).requires_grad_()


def rationals(x: Any) -> Any:
    """Exact values, None for NaR."""
    fmt = x.format
    codes = (x.detach().codes.numpy().astype(np.int64) & fmt.code_mask).reshape(-1)
    flat = np.array([exact.value(int(code), fmt) for code in codes] + [None], object)[:-1]
    return flat.reshape(tuple(x.shape))


def total(terms: list[tuple[Any, ...]]) -> Fraction | None:
    if any(factor is None for term in terms for factor in term):
        return None
    found = Fraction(0)
    for term in terms:
        one = Fraction(1)
        for factor in term:
            one *= factor
        found += one
    return found


def check(got: Any, wanted: Callable[[tuple[int, ...]], Fraction | None]) -> None:
    """Every element is the rational rounded once."""
    fmt = got.format
    codes = got.detach().codes.numpy().astype(np.int64) & fmt.code_mask
    for place in itertools.product(*map(range, codes.shape)):
        real = wanted(place)
        assert codes[place] == (fmt.nar if real is None else exact.nearest(real, fmt)), place


def gradients(result: Any, *inputs: Any) -> tuple[Any, ...]:
    """The gradient that goes in, and those of the inputs."""
    grad = drawn(tuple(result.shape), 99)
    found = torch.autograd.grad(result, inputs, grad.detach())
    return rationals(grad), *found


@pytest.mark.parametrize(
    ("algebra", "kind"),
    [(VGA3, "geometric"), (PGA3, "geometric"), (PGA3, "regressive"), (STA, "inner"), (CGA3, "geometric")],
    ids=lambda x: x if isinstance(x, str) else str(x),
)
def test_every_coefficient_of_a_product_is_exact(algebra: Algebra, kind: str) -> None:
    full = Layout.full(algebra)
    plan = plan_for(kind, full, full)
    x, y = drawn((len(full), 2, 1), 0, wild=True), drawn((len(full), 3), 1)
    result = product(x, y, plan)
    a, b = rationals(x), rationals(y)
    check(
        result,
        lambda at: total([(t.sign, a[t.i, at[1], 0], b[t.j, at[2]]) for t in plan.by_output[at[0]]]),
    )


def test_products_that_float64_cannot_decide_are_exact() -> None:
    """In x ~x every bivector cancels: posit32 products have 56 bits, so no float64 sum is known to be 0."""
    full = Layout.full(VGA3)
    plan = plan_for("geometric", full, full)
    x = drawn((8, 5), 3, posit32)
    seen: list[Observation] = []
    with observe(seen.append):
        squared: Any = product(x.detach(), x.detach() * reversal(full, x), plan)
    check(squared, lambda at: total(_terms(plan, at, rationals(x), rationals(x * reversal(full, x)))))
    (observation,) = [each for each in seen if "product" in each.op]
    assert observation.open.size > 5
    assert bool((squared.codes[plan.out.slices[2]] == 0).all())
    for index in observation.open[:5].tolist():
        assert exact_code(observation, index) == int(observation.result.reshape(-1)[index])
    assert observation.in_float32().shape == observation.result.shape


def reversal(layout: Layout, like: Any) -> Any:
    signs = torch.tensor([-1.0 if b.bit_count() % 4 >= 2 else 1.0 for b in layout.blades])
    return posit_tensor(signs[:, None].expand(len(layout), like.shape[1]).contiguous(), like.format)


def _terms(plan: Plan, at: tuple[int, ...], a: Any, b: Any) -> list[tuple[Any, ...]]:
    return [(t.sign, a[(t.i, *at[1:])], b[(t.j, *at[1:])]) for t in plan.by_output[at[0]]]


def test_pieces_and_repeats_change_nothing() -> None:
    """A factor that repeats along the lanes, over more lanes than a piece has."""
    terms = Terms([[(1, (0, 0)), (-1, (1, 2))], [(1, (1, 1))]])
    x, y = drawn((2, 1, 1, 4200), 5), drawn((3, 1, 1, 42), 6)
    short = Factor(y.codes.numpy(), posit16)
    long = Factor(np.tile(y.codes.numpy(), 100), posit16)
    given = Factor(x.detach().codes.numpy(), posit16)
    found = [sum_products((given, each), terms, posit16, (1, 1, 4200)) for each in (short, long)]
    assert (found[0].codes == found[1].codes).all()
    a, b = rationals(x), rationals(y)
    for t in (0, 2047, 2048, 4199):
        real = total([(1, a[0, 0, 0, t], b[0, 0, 0, t % 42]), (-1, a[1, 0, 0, t], b[2, 0, 0, t % 42])])
        assert real is not None
        assert int(found[0].codes[0, 0, t]) & posit16.code_mask == exact.nearest(real, posit16)


@pytest.mark.parametrize("algebra", [PGA3, STA], ids=str)
def test_weighted_products_and_their_gradients_are_exact(algebra: Algebra) -> None:
    vector, even = Layout.of_grades(algebra, 1), Layout.of_grades(algebra, (0, 2, 4))
    plan = plan_for("geometric", vector, even)
    x, y = drawn((len(vector), 3, 2), 0), drawn((len(even), 3, 2), 1)
    w = drawn((len(plan.paths), 2), 2)
    result = weighted_product(x, y, w, plan)
    g, dx, dy, dw = gradients(result, x, y, w)
    a, b, c = (rationals(each) for each in (x, y, w))

    def terms(at: tuple[int, ...], of: Callable[[Any], tuple[int, ...]], plane: str) -> Any:
        return total([of(t) for t in plan.terms if getattr(t, plane) == at[0]])

    check(
        result, lambda s: terms(s, lambda t: (t.sign, a[t.i, *s[1:]], b[t.j, *s[1:]], c[t.path, s[2]]), "k")
    )
    check(dx, lambda s: terms(s, lambda t: (t.sign, g[t.k, *s[1:]], b[t.j, *s[1:]], c[t.path, s[2]]), "i"))
    check(dy, lambda s: terms(s, lambda t: (t.sign, g[t.k, *s[1:]], a[t.i, *s[1:]], c[t.path, s[2]]), "j"))

    def of_weight(at: tuple[int, ...]) -> Any:
        return total(
            [
                (t.sign, g[t.k, n, at[1]], a[t.i, n, at[1]], b[t.j, n, at[1]])
                for t in plan.by_path[at[0]]
                for n in range(3)
            ]
        )

    check(dw, of_weight)


def test_a_product_that_mixes_channels_is_one_exact_sum() -> None:
    layout = Layout.of_grades(PGA3, (1, 2))
    plan = plan_for("geometric", layout, layout)
    x, y = drawn((len(layout), 2, 3), 0), drawn((len(layout), 2, 3), 1)
    w = drawn((len(plan.paths), 4, 3), 2)
    result: Any = connected_product(x, y, w, plan)
    g, dx, dy, dw = gradients(result, x, y, w)
    a, b, c = (rationals(each) for each in (x, y, w))
    terms = plan.terms

    def forward(s: tuple[int, ...]) -> Any:
        k, n, o = s
        return total(
            [
                (t.sign, a[t.i, n, m], b[t.j, n, m], c[t.path, o, m])
                for t in terms
                if t.k == k
                for m in range(3)
            ]
        )

    def to_x(s: tuple[int, ...]) -> Any:
        i, n, m = s
        return total(
            [
                (t.sign, g[t.k, n, o], b[t.j, n, m], c[t.path, o, m])
                for t in terms
                if t.i == i
                for o in range(4)
            ]
        )

    def to_y(s: tuple[int, ...]) -> Any:
        j, n, m = s
        return total(
            [
                (t.sign, g[t.k, n, o], a[t.i, n, m], c[t.path, o, m])
                for t in terms
                if t.j == j
                for o in range(4)
            ]
        )

    def to_w(s: tuple[int, ...]) -> Any:
        p, o, m = s
        return total(
            [
                (t.sign, g[t.k, n, o], a[t.i, n, m], b[t.j, n, m])
                for t in terms
                if t.path == p
                for n in range(2)
            ]
        )

    for got, wanted in ((result, forward), (dx, to_x), (dy, to_y), (dw, to_w)):
        check(got, wanted)


def test_maps_with_e0_are_one_exact_sum() -> None:
    layout, ins, outs = Layout.full(PGA3), 3, 2
    null = null_maps(layout)
    x = drawn((16, 2, ins), 0)
    weights = [drawn((outs, ins), 10 + k) for k in range(5)]
    extra = [drawn((outs, ins), 20 + k) for k in range(4)]
    bias = drawn((outs,), 30)
    result: Any = projective_map(x, layout, ProjectiveMaps(tuple(weights), tuple(extra), bias))
    g, dx, *found = gradients(result, x, *weights, *extra, bias)
    a, w, v, b = (
        rationals(x),
        [rationals(each) for each in weights],
        [rationals(each) for each in extra],
        rationals(bias),
    )
    grade = [blade.bit_count() for blade in layout.blades]
    into = {
        layout.slices[above].start + t: (layout.slices[below].stop - n + t, below)
        for below, above, n in null
        for t in range(n)
    }
    assert all(layout.blades[q] == 1 | layout.blades[p] for q, (p, _) in into.items())  # e0 times a blade

    def forward(s: tuple[int, ...]) -> Any:
        k, n, o = s
        terms = [(a[k, n, m], w[grade[k]][o, m]) for m in range(ins)]
        if k in into:
            source, below = into[k]
            terms += [(a[source, n, m], v[below][o, m]) for m in range(ins)]
        return total([*terms, (b[o],)] if k == 0 else terms)

    def to_x(s: tuple[int, ...]) -> Any:
        i, n, m = s
        terms = [(g[i, n, o], w[grade[i]][o, m]) for o in range(outs)]
        terms += [
            (g[q, n, o], v[below][o, m]) for q, (p, below) in into.items() if p == i for o in range(outs)
        ]
        return total(terms)

    check(result, forward)
    check(dx, to_x)
    own = [[(i, i) for i in range(16)[where]] for where in layout.slices.values()]
    moved = [[(q, p) for q, (p, below) in into.items() if below == k] for k in range(4)]

    def to_matrix(pairs: list[tuple[int, int]]) -> Callable[[tuple[int, ...]], Any]:
        return lambda s: total([(g[q, n, s[0]], a[i, n, s[1]]) for q, i in pairs for n in range(2)])

    for got, pairs in zip(found, [*own, *moved], strict=False):
        check(got, to_matrix(pairs))
    check(found[9], lambda s: total([(g[0, n, s[0]],) for n in range(2)]))


def test_forms_and_scaled_planes_round_once() -> None:
    layout = Layout.full(STA)
    x, values = drawn((16, 2, 3), 0), drawn((5, 1, 3), 1)
    forms: Any = grade_forms(x, layout, squares_of(layout))
    g, dx = gradients(forms, x)
    a, signs = rationals(x), [int(each) for each in squares_of(layout).tolist()]
    grade = [blade.bit_count() for blade in layout.blades]
    check(
        forms,
        lambda s: total([(signs[i], a[i, *s[1:]], a[i, *s[1:]]) for i in range(16) if grade[i] == s[0]]),
    )
    check(dx, lambda s: total([(2 * signs[s[0]], g[grade[s[0]], *s[1:]], a[s])]))
    scaled: Any = scaled_planes(x, values, blade_counts(layout))
    h, dx, dv = gradients(scaled, x, values)
    v = rationals(values)
    check(scaled, lambda s: total([(a[s], v[grade[s[0]], 0, s[2]])]))
    check(dx, lambda s: total([(h[s], v[grade[s[0]], 0, s[2]])]))
    check(
        dv,
        lambda s: total(
            [(h[i, n, s[2]], a[i, n, s[2]]) for i in range(16) if grade[i] == s[0] for n in range(2)]
        ),
    )


def test_the_root_of_a_form_rounds_once() -> None:
    mpmath = pytest.importorskip("mpmath")
    codes = torch.tensor(
        [0, 1, -1, 0x4000, 0x4800, -0x4C91, posit16.maxpos, 0x1234, -posit16.nar], dtype=torch.int16
    )
    q: Any = PositTensor(codes, posit16).requires_grad_()
    eps = 1e-16
    root: Any = smooth_root(q, eps)
    (slope,) = torch.autograd.grad(root, q, posit_tensor(torch.full((9,), 3.0), posit16))
    with mpmath.workprec(400):
        for t, value in enumerate(q.to_float(torch.float64).tolist()[:-1]):
            form = mpmath.mpf(value) ** 2 + mpmath.mpf(eps)
            wanted = form**0.25, 3 * mpmath.mpf(value) / 2 / form**0.75
            for got, real in zip((root, slope), wanted, strict=True):
                sign, mantissa, exponent, _ = mpmath.mpf(real)._mpf_
                ratio = (-1) ** sign * int(mantissa) * Fraction(2) ** int(exponent)
                assert int(got.codes[t]) & 0xFFFF == exact.nearest(ratio, posit16)
    assert int(root.codes[-1]) == int(slope.codes[-1]) == -posit16.nar
    nine: Any = smooth_root(posit_tensor(torch.tensor([9.0, -9.0]), posit16), 0.0)
    assert nine.tolist() == [3.0, 3.0]


def built(name: str) -> tuple[nn.Module, Layout, int]:
    """A layer, the layout of its input and the channels."""
    generator = torch.Generator().manual_seed(0)
    full, sta, cga = Layout.full(PGA3), Layout.full(STA), Layout.of_grades(CGA3, (1, 2))
    table: dict[str, Callable[[], tuple[nn.Module, Layout, int]]] = {
        "linear": lambda: (layers.GradeLinear(full, 3, 4, generator=generator), full, 3),
        "e0": lambda: (layers.ProjectiveLinear(full, 3, 4, generator=generator), full, 3),
        "product": lambda: (layers.GeometricProductLayer(sta, 3, generator=generator), sta, 3),
        "connected": lambda: (layers.FullyConnectedGeometricProduct(cga, 3, 4, generator=generator), cga, 3),
        "bilinear": lambda: (layers.GeometricBilinear(full, 3, 4, generator=generator), full, 3),
        "gelu": lambda: (layers.GatedGELU(), full, 3),
        "gate": lambda: (layers.NormGate(sta, 3), sta, 3),
        "norm": lambda: (layers.GradeNorm(full, 3), full, 3),
        "layer norm": lambda: (layers.MultivectorLayerNorm(sta), sta, 3),
        "attention": lambda: (layers.GeometricAttention(full, 4, 2, generator=generator), full, 4),
        "Lorentz attention": lambda: (layers.GeometricAttention(sta, 4, 2, generator=generator), sta, 4),
    }
    return table[name]()


LAYERS = (
    *("linear", "e0", "product", "connected", "bilinear", "gelu", "gate", "norm", "layer norm"),
    *("attention", "Lorentz attention"),
)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_work_converted_and_are_near_float32(name: str) -> None:
    """Half-precision roundings move results and gradients by less than 1 %; zeros stay zeros where they must."""
    layer, layout, channels = built(name)
    given = torch.randn(len(layout), 4, 5, channels, generator=torch.Generator().manual_seed(1))
    real = given.clone().requires_grad_()
    wanted = layer(Multivector(real, layout)).planes
    start = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2))
    sources = [real, *layer.parameters()]
    expected = torch.autograd.grad(wanted, sources, start)
    convert(layer, "posit16")
    x: Any = posit_tensor(given, posit16, requires_grad=True)
    got: Any = layer(Multivector(x, layout)).planes
    found: Any = torch.autograd.grad(got, [x, *layer.parameters()], posit_tensor(start, posit16))
    for ours, theirs in zip((got, *found), (wanted, *expected), strict=True):
        assert isinstance(ours, PositTensor)
        scale = float(theirs.detach().abs().max())
        assert float((ours.to_float() - theirs.detach()).abs().max()) <= 1e-2 * scale


@pytest.mark.parametrize("name", ["linear", "product", "connected", "gelu", "gate", "norm", "layer norm"])
def test_exact_zeros_stay_zeros(name: str) -> None:
    """An input of one vector of the even part alone: what its grades cannot reach is 0 in every bit."""
    layer, layout, channels = built(name)
    planes = torch.randn(len(layout), 4, channels, generator=torch.Generator().manual_seed(1))
    kept = layout.grades[-1]
    planes[[k for k, b in enumerate(layout.blades) if b.bit_count() not in (0, kept)]] = 0.0
    with torch.no_grad():
        dense = layer(Multivector(planes, layout)).planes
        posits = convert(layer, "posit16")(Multivector(planes, layout)).planes
    zero = (dense == 0).flatten(1).all(1)
    assert bool(zero.any())
    assert bool((posits.codes[zero] == 0).all())


def test_multivectors_by_type_are_refused_by_name() -> None:
    model = nn.Module()
    model.by = MultivectorParameter(VGA3.vector([1.0, 2.0, 3.0]))
    with pytest.raises(RecipeError, match=r"convert by: it is a multivector by type: keep its planes"):
        convert(model, "posit16")


def test_a_versor_kept_as_a_buffer_moves_points_in_posits() -> None:
    class Moved(nn.Module):
        planes: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.motor = exp(PGA3.bivector([0.5, 0.0, -0.25, 0.75, 0.0, 0.125]))
            self.register_buffer("planes", self.motor.planes)

        def forward(self, x: Multivector) -> Multivector:
            return Multivector(self.planes[:, None], self.motor.layout, self.motor.constraint) >> x

    model, points = Moved(), PGA3.point(torch.tensor([[1.0, 2.0, 3.0], [0.0, -1.0, 0.5]]))
    wanted = model(points).coefficients
    got: Any = convert(model, "posit16")(points).coefficients
    assert float((got.to_float() - wanted).abs().max()) < 5e-3


def test_formats_whose_products_leave_float64_are_refused_by_name() -> None:
    wide = Format(20, 5)
    vector = Layout.of_grades(VGA3, 1)
    x = posit_tensor(torch.ones(3), wide)
    with pytest.raises(
        NoRuleError, match=r"ga.product.default: products of posit<20,5>.* leave float64's range"
    ):
        product(x, x, plan_for("geometric", vector, vector))


class Stack(nn.Module):
    """Blocks of a linear map, a normalization and a product in Cl(3,0,0)."""

    def __init__(self, depth: int, generator: torch.Generator) -> None:
        super().__init__()
        full = Layout.full(VGA3)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                layers.GradeLinear(full, 4, 4, generator=generator),
                layers.GradeNorm(full, 4),
                layers.GeometricProductLayer(full, 4, generator=generator),
                layers.NormGate(full, 4),
            )
            for _ in range(depth)
        )

    def forward(self, x: Multivector) -> Multivector:
        """Through all blocks."""
        for block in self.blocks:
            x = block(x)
        return x


def test_signed_permutations_of_the_axes_change_no_bit_in_posits() -> None:
    generator = torch.Generator().manual_seed(0)
    model, full = Stack(3, generator), Layout.full(VGA3)
    x = Multivector(posit_tensor(torch.randn(8, 6, 4, generator=generator), posit16).to_float(), full)
    matrices = signed_permutations(3)
    with torch.no_grad():
        real = [
            _differences(model(transform(x, m)).planes, transform(model(x), m).planes) for m in matrices[::7]
        ]
        convert(model, "posit16")
        plain: Any = model(x).planes
        image = Multivector(plain.to_float(), full)
        for matrix in matrices:
            moved: Any = model(transform(x, matrix)).planes
            wanted = posit_tensor(transform(image, matrix).planes, posit16)
            assert torch.equal(moved.codes, wanted.codes)
    assert sum(real) > 0  # float32 sums depend on their order


def _differences(a: Tensor, b: Tensor) -> int:
    return int((a != b).sum())
