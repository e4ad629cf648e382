"""Plans: which terms a product of two layouts has, decided before any number exists.

All products are one product with a filter.  A plan lists the nonzero terms ``out[k] += sign * x[i] * y[j]``
and, for each, its grade path: which grades it takes to which.  Plans are cached, and their keys are strings,
so that an operator of torch can carry one.  The derivative of a product is again a product, with the roles
exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from ga._derived import constant
from ga.algebra import Algebra, grade, swap_sign
from ga.errors import LayoutError, ProductError
from ga.layout import Layout, check_same_algebra

KEEP: dict[str, Callable[[int, int, int], bool]] = {
    "geometric": lambda r, s, t: True,
    "outer": lambda r, s, t: t == r + s,
    "left": lambda r, s, t: t == s - r,
    "right": lambda r, s, t: t == r - s,
    "inner": lambda r, s, t: t == abs(r - s),
    "scalar": lambda r, s, t: t == 0,
    "commutator": lambda r, s, t: reverses(r) ^ reverses(s) ^ reverses(t),
    "anticommutator": lambda r, s, t: not reverses(r) ^ reverses(s) ^ reverses(t),
}
"""Filters: is the part of grade t of (grade r) times (grade s) kept?  ``inner`` includes scalars.

Blades of grades r and s whose product has grade t anticommute exactly if an odd number of the three change
sign under reversion: ab = ±c gives ~b ~a = ±~c.  So (xy - yx)/2 and (xy + yx)/2 are filters as well.
"""

KINDS = (*KEEP, "regressive")
"""Names of the products.  The regressive product is the outer product of the complements."""

Path = tuple[int, int, int]
"""Grades ``(of x, of y, of the product)``."""


class Term(NamedTuple):
    """One term, ``out[k] += sign * x[i] * y[j]``; the weighted product multiplies it by ``w[path]``."""

    i: int  #: plane of the first operand
    j: int  #: plane of the second operand
    k: int  #: plane of the result
    sign: int  #: +1 or -1
    path: int  #: index into :attr:`Plan.paths`


_T = TypeVar("_T")


class _Lazy(Generic[_T]):
    """A property computed once; ``functools.cached_property`` holds a lock, which torch.compile cannot trace."""

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self.compute = compute
        self.name = compute.__name__
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> _T:
        if instance is None:
            return self  # type: ignore[return-value]  # the class shows its documentation
        value = self.compute(instance)
        instance.__dict__[self.name] = value  # found before this descriptor from now on
        return value


class Plan:
    """The terms of one product of two layouts, in one of its roles.

    The trilinear form Σ sign · x_i y_j z_k has three slots; ``roles`` says which slot is the first operand,
    the second, and the result.  ``"xyz"`` is the product itself; ``"zyx"`` takes a gradient of the result and
    y to the gradient of x; and so on.  Every derivative of a plan, of any order, is one of these six.

    >>> vector = Layout.of_grades(Algebra(3), 1)
    >>> plan = plan_for("geometric", vector, vector)
    >>> plan.out, len(plan.terms), plan.paths
    (Layout(Cl(3,0,0)[0,2]), 9, ((1, 1, 0), (1, 1, 2)))
    >>> plan.key
    'geometric 3,0,0 16 16 69 xyz'
    >>> plan_from_key(plan.key) is plan
    True
    """

    def __init__(self, kind: str, slots: tuple[Layout, Layout, Layout], roles: str) -> None:
        self.kind = kind
        self.slots = slots  #: layouts of x, y and their product z, whatever the roles
        self.roles = roles  #: permutation of ``"xyz"``: slots of first operand, second operand, result
        self.first, self.second, self.out = (slots["xyz".index(role)] for role in roles)
        masks = " ".join(f"{layout.mask:x}" for layout in slots)
        #: text that :func:`plan_from_key` turns back: kind, signature, masks of x, y, z, roles
        self.key = f"{kind} {slots[0].algebra.signature} {masks} {roles}"

    def __repr__(self) -> str:
        return f"Plan({self.key!r})"

    @_Lazy
    def paths(self) -> tuple[Path, ...]:
        """Grade paths (of x, of y, of z) with at least one term, sorted; the same in all roles."""
        x, y, z = self.slots
        return tuple(
            sorted(
                {(grade(x.blades[i]), grade(y.blades[j]), grade(z.blades[k])) for i, j, k, _ in self._triples}
            )
        )

    @_Lazy
    def terms(self) -> tuple[Term, ...]:
        """All terms, by plane of the result, then by path; within a path the positive ones first."""
        x, y, z = self.slots
        index = {path: t for t, path in enumerate(self.paths)}
        order = ["xyz".index(role) for role in self.roles]
        terms = []
        for i, j, k, sign in self._triples:
            path = index[grade(x.blades[i]), grade(y.blades[j]), grade(z.blades[k])]
            first, second, result = ((i, j, k)[slot] for slot in order)
            terms.append(Term(first, second, result, sign, path))
        return tuple(sorted(terms, key=lambda term: (term.k, term.path, -term.sign, term.i, term.j)))

    @_Lazy
    def by_output(self) -> tuple[tuple[Term, ...], ...]:
        """:attr:`terms` grouped by plane of the result; a plane without terms is zero."""
        groups: list[list[Term]] = [[] for _ in self.out.blades]
        for term in self.terms:
            groups[term.k].append(term)
        return tuple(map(tuple, groups))

    @_Lazy
    def by_path(self) -> tuple[tuple[Term, ...], ...]:
        """:attr:`terms` grouped by path: the terms that share a weight."""
        groups: list[list[Term]] = [[] for _ in self.paths]
        for term in self.terms:
            groups[term.path].append(term)
        return tuple(map(tuple, groups))

    @_Lazy
    def adjoint_first(self) -> Plan:
        """The plan from (gradient of the result, second operand) to the gradient of the first operand."""
        return _plan(self.kind, self.slots, self.roles[::-1])

    @_Lazy
    def adjoint_second(self) -> Plan:
        """The plan from (first operand, gradient of the result) to the gradient of the second operand."""
        return _plan(self.kind, self.slots, self.roles[0] + self.roles[2] + self.roles[1])

    @_Lazy
    def _triples(self) -> tuple[tuple[int, int, int, int], ...]:
        """Nonzero ``(i, j, k, sign)`` of the trilinear form, in the slots x, y, z."""
        x, y, z = self.slots
        place = {blade: k for k, blade in enumerate(z.blades)}
        found = []
        for i, a in enumerate(x.blades):
            for j, b in enumerate(y.blades):
                blade, sign = blade_product(self.kind, x.algebra, a, b)
                if sign and blade in place:
                    found.append((i, j, place[blade], sign))
        return tuple(found)


def blade_product(kind: str, algebra: Algebra, a: int, b: int) -> tuple[int, int]:
    """Product of two basis blades, ``(blade, sign)``; sign 0 where it vanishes.

    The regressive product needs no metric: with ``comp(a)`` the blade for which a ∧ comp(a) is the
    pseudoscalar, comp(a ∨ b) = comp(a) ∧ comp(b).

    Raises:
        ProductError: the kind is unknown.

    >>> blade_product("outer", Algebra(3), 0b001, 0b001)
    (0, 0)
    >>> blade_product("regressive", Algebra(3), 0b011, 0b110)  # e12 & e23 = e2
    (2, 1)
    """
    if kind == "regressive":
        return _regressive(algebra, a, b)
    check_kind(kind)
    blade, sign = algebra.table[a][b]
    return blade, sign if KEEP[kind](grade(a), grade(b), grade(blade)) else 0


def _regressive(algebra: Algebra, a: int, b: int) -> tuple[int, int]:
    everything = algebra.pseudoscalar
    if a | b != everything:
        return a & b, 0
    rest_a, rest_b, blade = everything ^ a, everything ^ b, a & b
    sign = swap_sign(a, rest_a) * swap_sign(b, rest_b) * swap_sign(rest_a, rest_b)
    return blade, sign * swap_sign(blade, everything ^ blade)


@constant
def product_layout(kind: str, x: Layout, y: Layout) -> Layout:
    """Exact blade support of a product: the blades that some pair of stored blades reaches.

    Raises:
        AlgebraError: the layouts are of different algebras.
        ProductError: the kind is unknown.

    >>> vector = Layout.of_grades(Algebra(3), 1)
    >>> product_layout("outer", vector, vector)
    Layout(Cl(3,0,0)[2])
    """
    check_kind(kind)
    check_same_algebra(f"{kind} product", x, y)
    return _product_layout(kind, x, y)


@cache
def _product_layout(kind: str, x: Layout, y: Layout) -> Layout:
    pairs = (blade_product(kind, x.algebra, a, b) for a in x.blades for b in y.blades)
    return Layout.of_blades(x.algebra, {blade for blade, sign in pairs if sign})


@constant
def sandwich_layout(x: Layout, y: Layout, versor: bool = False) -> Layout:
    """Blades that x y ~x can reach, for any x of its layout (a ternary rule, sharper than two products).

    The sandwich commutes with reversion, so the parts of y that equal their reverse (grades 0, 1, 4, 5, 8)
    only reach such grades, and the parts that change sign only reach those.  Up to 3 generators, and for
    vectors, bivectors and trivectors at 4, an even x keeps each grade without being a versor.  With
    ``versor`` x is known to be one: each part of y then only reaches its own grade.

    >>> even, vector = (Layout.of_grades(Algebra(3), k) for k in ((0, 2), 1))
    >>> sandwich_layout(even, vector)
    Layout(Cl(3,0,0)[1])
    """
    reached = Layout(x.algebra, ())
    kind_of: Callable[[int], int] = grade if versor else lambda b: reverses(grade(b))
    for kind in sorted(set(map(kind_of, y.blades))):
        part = Layout(y.algebra, tuple(b for b in y.blades if kind_of(b) == kind))
        outer = product_layout("geometric", product_layout("geometric", x, part), x)
        kept = tuple(b for b in outer.blades if kind_of(b) == kind)
        reached = reached.union(Layout(x.algebra, kept))
    return reached


def reverses(k: int) -> bool:
    """Does reversion change the sign of grade k, i.e. is (-1)**(k(k-1)/2) negative?"""
    return k % 4 >= 2


@constant
def plan_for(kind: str, x: Layout, y: Layout, out: Layout | None = None) -> Plan:
    """The cached plan of a product.

    Args:
        kind: One of :data:`KINDS`.
        x: Layout of the left operand.
        y: Layout of the right operand.
        out: Blades of the result to compute; the exact support if left out.

    Raises:
        AlgebraError: the layouts are of different algebras.
        LayoutError: ``out`` has blades that the product never reaches.
        ProductError: the kind is unknown.

    Source:
        A product with a grade filter, as in kingdon's ``codegen_product``; supports as in arXiv 2603.17627.
    """
    reached = product_layout(kind, x, y)
    if out is None:
        return _plan(kind, (x, y, reached), "xyz")
    check_same_algebra(f"{kind} product", x, out)
    unreached = Layout.of_mask(out.algebra, out.mask & ~reached.mask)
    if unreached.blades:
        raise LayoutError(
            f"the {kind} product of {x} and {y} reaches {reached}, never {', '.join(unreached.names)}; "
            "leave those blades out of the output layout"
        )
    return _plan(kind, (x, y, out), "xyz")


@cache
def _plan(kind: str, slots: tuple[Layout, Layout, Layout], roles: str) -> Plan:
    return Plan(kind, slots, roles)


@constant
def symmetric_plan(x: Layout, y: Layout, odd: tuple[int, ...]) -> Plan:
    """Plan of a geometric product x y that an involution is known to leave unchanged.

    Args:
        x: Layout of the left operand.
        y: Layout of the right operand.
        odd: Grades whose sign the involution changes: they vanish and are not computed.
    """
    reached = product_layout("geometric", x, y)
    out = Layout(x.algebra, tuple(blade for blade in reached.blades if grade(blade) not in odd))
    return plan_for("geometric", x, y, out)


@constant
def plan_from_key(key: str) -> Plan:
    """The plan whose :attr:`Plan.key` is ``key``.

    Raises:
        ProductError: the text is not the key of a plan.
    """
    try:
        kind, signature, *masks, roles = key.split(" ")
        algebra = Algebra.from_signature(signature)
        x, y, z = (Layout.of_mask(algebra, int(mask, 16)) for mask in masks)
        check_kind(kind)
        if sorted(roles) != ["x", "y", "z"]:
            raise ProductError(f"roles must be a permutation of xyz, got {roles!r}")
    except (ValueError, TypeError, KeyError) as error:
        raise ProductError(
            f"{key!r} is not the key of a plan ({error}); pass on plan.key unchanged"
        ) from error
    return _plan(kind, (x, y, z), roles)


def check_kind(kind: str) -> None:
    """Raise :class:`ProductError` unless ``kind`` names a product."""
    if kind not in KINDS:
        raise ProductError(f"unknown product {kind!r}; known are {', '.join(KINDS)}")
