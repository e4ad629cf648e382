"""Writes a plan as LLVM's assembly: straight-line vector code over blade-major planes.

A kernel is two functions.  ``block`` walks over full vectors: for each it evaluates every term of the plan in
registers.  ``product`` calls it, and for the elements that do not fill a vector copies the planes into a small
buffer first and the results out of it after, so that every element goes through the same instructions and
gets the same bits wherever it stands.

Nothing is left to a vectoriser: the loads, multiply-adds and stores below are vectors already.  The order of
the terms is what makes a kernel fast, see :func:`tiles`; and, for planes that the cache does not hold, that
the next piece of each plane is asked for in one go: a processor's own prefetching follows few streams, and a
conformal product reads and writes 96.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ga.algebra import grade
from ga.plan import Plan, Term, reverses

_SIZES = {"float": 4, "double": 8}  # bytes
_PIECE = 512  # bytes of each plane that are asked for at a time
_LINE = 64  # bytes that one request brings
_ARGUMENTS = "ptr %x, ptr %y, ptr %out, i64 %sx, i64 %sy, i64 %so, i64 %start, i64 %stop, i64 %far"


@dataclass(frozen=True)
class Machine:
    """What a kernel has to know of the processor."""

    vector_bytes: int  #: width of a vector register
    registers: int  #: number of vector registers
    fused: bool  #: are there instructions for a * b + c with one rounding?


class Tile(NamedTuple):
    """Terms whose results, and whose first operands, fit in registers together."""

    outs: tuple[int, ...]  #: planes of the result
    #: in groups; the first operands of a group are held while it is evaluated
    terms: tuple[tuple[Term, ...], ...]


def tiles(plan: Plan, registers: int) -> Iterator[Tile]:
    """Cut a plan in tiles that read each plane seldom.

    The product of blades a and b is the blade a ^ b (for the regressive product its complement), so the blades
    that agree in all but their lowest s generators are closed in this sense: 2**s results, 2**s first and 2**s
    second operands share 4**s terms.  A tile holds such a set of results and goes through the sets of first
    operands, loading each second operand once per set.
    """
    shift = _shift(plan, registers)
    results: dict[int, list[int]] = {}
    for k, blade in enumerate(plan.out.blades):
        results.setdefault(blade >> shift, []).append(k)
    for outs in results.values():
        groups: dict[int, list[Term]] = {}
        for k in outs:
            for term in plan.by_output[k]:
                groups.setdefault(plan.first.blades[term.i] >> shift, []).append(term)
        ordered = (sorted(group, key=lambda term: (term.j, term.i)) for group in groups.values())
        yield Tile(tuple(outs), tuple(map(tuple, ordered)))


def _shift(plan: Plan, registers: int) -> int:
    """The largest s for which results, first operands and one second operand of a tile fit in registers."""
    for shift in range(plan.out.algebra.n, 0, -1):
        if _largest(plan.out.blades, shift) + _largest(plan.first.blades, shift) + 1 < registers:
            return shift
    return 0


def _largest(blades: tuple[int, ...], shift: int) -> int:
    counts: dict[int, int] = {}
    for blade in blades:
        counts[blade >> shift] = counts.get(blade >> shift, 0) + 1
    return max(counts.values(), default=0)


class _Text:
    """Lines of a function, and names for its values."""

    def __init__(self) -> None:
        self.lines = ["entry:"]
        self.count = 0

    def __call__(self, *lines: str) -> None:
        self.lines += (line if line.endswith(":") else f"  {line}" for line in lines)

    def value(self, expression: str) -> str:
        """A new value."""
        self.count += 1
        self(f"%v{self.count} = {expression}")
        return f"%v{self.count}"


class _Planes(NamedTuple):
    """Where the planes of an operand or a result are."""

    addresses: list[str]
    along: bool  #: does the loop walk along them?  Not where there is one vector of each
    held: dict[int, str]  #: vectors that are in registers in every step


def kernel(plans: tuple[Plan, ...], scalar: str, splat: tuple[bool, bool], machine: Machine) -> str:
    """The text of a kernel.

    Args:
        plans: One plan for a product x y; two for the sandwich x y ~x: that of x y, and that of its result with x,
            which is taken reversed.
        scalar: ``"float"`` or ``"double"``.
        splat: For each operand, is it one multivector for the whole batch?
        machine: The processor.

    Returns:
        A module with one visible function, ``product(x, y, out, stride of x, of y, of out, start, stop, far)``:
        addresses of the first planes, distances between planes, which elements to compute, all counted in
        elements, and whether the planes are too large for the cache.
    """
    writer = _Writer(plans, scalar, splat, machine)
    return "\n".join([*writer.block(), *writer.entry(), *writer.declarations(), ""])


class _Writer:
    """Writes the functions of one kernel."""

    def __init__(
        self, plans: tuple[Plan, ...], scalar: str, splat: tuple[bool, bool], machine: Machine
    ) -> None:
        self.plans, self.scalar, self.splat, self.machine = plans, scalar, splat, machine
        self.layouts = {"x": plans[0].first, "y": plans[0].second, "out": plans[-1].out}
        self.size = _SIZES[scalar]
        self.lanes = machine.vector_bytes // self.size
        self.vector = f"<{self.lanes} x {scalar}>"
        self.fma = f"@llvm.fma.v{self.lanes}f{8 * self.size}"

    def declarations(self) -> list[str]:
        """What the functions call."""
        return [
            f"declare {self.vector} {self.fma}({self.vector}, {self.vector}, {self.vector})",
            "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
        ]

    def block(self) -> list[str]:
        """The loop over full vectors from start to stop."""
        text = _Text()
        x, y, out = (self._planes(text, name, len(layout)) for name, layout in self.layouts.items())
        for planes, splat in zip((x, y), self.splat, strict=True):
            if splat:
                planes.held.update({k: self._splat(text, plane) for k, plane in enumerate(planes.addresses)})
        middle = self._vectors(text, len(self.plans[0].out)) if len(self.plans) > 1 else out
        text("br label %head", "head:", "%t = phi i64 [ %start, %entry ], [ %next, %compute ]")
        text("%more = icmp slt i64 %t, %stop", "br i1 %more, label %body, label %done", "body:")
        text(
            "%done.elements = sub i64 %t, %start",
            f"%piece = and i64 %done.elements, {_PIECE // self.size - 1}",
        )
        text("%at.piece = icmp eq i64 %piece, 0", "%is.far = icmp ne i64 %far, 0")
        text(
            "%fetch.it = and i1 %at.piece, %is.far", "br i1 %fetch.it, label %fetch, label %compute", "fetch:"
        )
        text(f"%ahead = add i64 %t, {_PIECE // self.size}")
        for write, planes in ((0, x), (0, y), (1, out)):
            for plane in () if planes.held else planes.addresses:
                self._fetch(text, plane, write)
        text("br label %compute", "compute:")
        for tile in tiles(self.plans[0], self.machine.registers):
            self._tile(text, tile, (x, y, middle), ())
        if len(self.plans) > 1:
            blades = self.plans[1].second.blades
            odd = tuple(j for j, blade in enumerate(blades) if reverses(grade(blade)))
            for tile in tiles(self.plans[1], self.machine.registers):
                self._tile(text, tile, (middle, x, out), odd)
        text(f"%next = add i64 %t, {self.lanes}", "br label %head", "done:", "ret void")
        return [f"define internal void @block({_ARGUMENTS}) noinline nounwind {{", *text.lines, "}"]

    def _planes(self, text: _Text, name: str, count: int) -> _Planes:
        """Planes that the caller has given."""
        offsets = [text.value(f"mul i64 %s{name[0]}, {k}") for k in range(count)]
        return _Planes([self._at(text, f"%{name}", offset) for offset in offsets], True, {})

    def _vectors(self, text: _Text, count: int) -> _Planes:
        """One vector on the stack for each plane of an intermediate result."""
        return _Planes([text.value(f"alloca {self.vector}, align 64") for _ in range(count)], False, {})

    def _at(self, text: _Text, plane: str, element: str) -> str:
        """Address of an element."""
        return text.value(f"getelementptr {self.scalar}, ptr {plane}, i64 {element}")

    def _splat(self, text: _Text, plane: str) -> str:
        """A vector that holds one element everywhere."""
        value = text.value(f"load {self.scalar}, ptr {plane}, align {self.size}")
        one = text.value(f"insertelement {self.vector} poison, {self.scalar} {value}, i32 0")
        everywhere = f"<{self.lanes} x i32> zeroinitializer"
        return text.value(f"shufflevector {self.vector} {one}, {self.vector} poison, {everywhere}")

    def _fetch(self, text: _Text, plane: str, write: int) -> None:
        """Ask for the next piece of a plane; beyond its end that does nothing."""
        place = self._at(text, plane, "%ahead")
        for offset in range(0, _PIECE, _LINE):
            line = text.value(f"getelementptr i8, ptr {place}, i64 {offset}")
            text(f"call void @llvm.prefetch.p0(ptr {line}, i32 {write}, i32 2, i32 1)")

    def _tile(self, text: _Text, tile: Tile, planes: tuple[_Planes, ...], odd: tuple[int, ...]) -> None:
        """Evaluate a tile; the second operands in ``odd`` are taken with the other sign."""
        sums: dict[int, str] = {}
        for group in tile.terms:
            held = tuple(dict(each.held) for each in planes[:2])
            for i, j, k, sign, _ in group:
                for slot, index in enumerate((i, j)):
                    if index not in held[slot]:
                        place = self._place(text, planes[slot], index)
                        held[slot][index] = text.value(f"load {self.vector}, ptr {place}, align {self.size}")
                negative = (sign < 0) != (j in odd)
                a = text.value(f"fneg {self.vector} {held[0][i]}") if negative else held[0][i]
                sums[k] = self._add(text, a, held[1][j], sums.get(k))
        for k in tile.outs:
            place = self._place(text, planes[2], k)
            text(f"store {self.vector} {sums.get(k, 'zeroinitializer')}, ptr {place}, align {self.size}")

    def _place(self, text: _Text, planes: _Planes, index: int) -> str:
        """Address of the present vector of a plane."""
        address = planes.addresses[index]
        return self._at(text, address, "%t") if planes.along else address

    def _add(self, text: _Text, a: str, b: str, total: str | None) -> str:
        """A * b + total."""
        if total is None:
            return text.value(f"fmul {self.vector} {a}, {b}")
        if self.machine.fused:
            arguments = ", ".join(f"{self.vector} {value}" for value in (a, b, total))
            return text.value(f"call {self.vector} {self.fma}({arguments})")
        return text.value(f"fadd {self.vector} {text.value(f'fmul {self.vector} {a}, {b}')}, {total}")

    def entry(self) -> list[str]:
        """The function that is called: full vectors in place, the rest by way of a buffer."""
        text = _Text()
        text("%length = sub i64 %stop, %start", f"%rest = srem i64 %length, {self.lanes}")
        text("%full = sub i64 %stop, %rest")
        strides = "i64 %sx, i64 %sy, i64 %so"
        text(f"call void @block(ptr %x, ptr %y, ptr %out, {strides}, i64 %start, i64 %full, i64 %far)")
        text("%even = icmp eq i64 %rest, 0", "br i1 %even, label %done, label %tail", "tail:")
        whole = {name for name, splat in zip("xy", self.splat, strict=True) if splat}
        inside = {name: layout for name, layout in self.layouts.items() if name not in whole}
        for name, layout in inside.items():
            text(f"%{name}.buffer = alloca [{len(layout)} x {self.vector}], align 64")
        before = "tail"
        for name, layout in inside.items():
            if name != "out":
                text(f"store [{len(layout)} x {self.vector}] zeroinitializer, ptr %{name}.buffer, align 64")
                before = self._copy(text, name, len(layout), before)
        addresses = (f"ptr %{name}{'.buffer' * (name in inside)}" for name in ("x", "y", "out"))
        distances = (f"i64 {self.lanes if name in inside else '%s' + name[0]}" for name in ("x", "y", "out"))
        text(f"call void @block({', '.join((*addresses, *distances))}, i64 0, i64 {self.lanes}, i64 0)")
        self._copy(text, "out", len(inside["out"]), before)
        text("br label %done", "done:", "ret void")
        return [f"define void @product({_ARGUMENTS}) nounwind {{", *text.lines, "}"]

    def _copy(self, text: _Text, name: str, planes: int, before: str) -> str:
        """Two loops: the last elements of each plane into its buffer, or of the buffer ``out`` out of it."""
        lines = _COPY.format(
            n=name, s=name[0], planes=planes, before=before, scalar=self.scalar, lanes=self.lanes, size=self.size,
            source="inside" if name == "out" else "outside", target="outside" if name == "out" else "inside",
        )  # fmt: skip
        text(*lines.splitlines())
        return f"{name}.finished"


_COPY = """\
br label %{n}.plane
{n}.plane:
%{n}.k = phi i64 [ 0, %{before} ], [ %{n}.k1, %{n}.end ]
%{n}.k.more = icmp slt i64 %{n}.k, {planes}
br i1 %{n}.k.more, label %{n}.start, label %{n}.finished
{n}.start:
%{n}.row = mul i64 %{n}.k, %s{s}
%{n}.first = add i64 %{n}.row, %full
%{n}.slot = mul i64 %{n}.k, {lanes}
br label %{n}.element
{n}.element:
%{n}.t = phi i64 [ 0, %{n}.start ], [ %{n}.t1, %{n}.element ]
%{n}.there = add i64 %{n}.first, %{n}.t
%{n}.here = add i64 %{n}.slot, %{n}.t
%{n}.outside = getelementptr {scalar}, ptr %{n}, i64 %{n}.there
%{n}.inside = getelementptr {scalar}, ptr %{n}.buffer, i64 %{n}.here
%{n}.value = load {scalar}, ptr %{n}.{source}, align {size}
store {scalar} %{n}.value, ptr %{n}.{target}, align {size}
%{n}.t1 = add i64 %{n}.t, 1
%{n}.again = icmp slt i64 %{n}.t1, %rest
br i1 %{n}.again, label %{n}.element, label %{n}.end
{n}.end:
%{n}.k1 = add i64 %{n}.k, 1
br label %{n}.plane
{n}.finished:"""
