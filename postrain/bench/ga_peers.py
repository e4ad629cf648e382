"""The peers of ``postrain bench ga`` that are made here, dense einsum and straight-line C; the reference for all."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ga import Algebra, Layout, Multivector
from ga.plan import Plan
from postrain.bench.contest import Run
from postrain.bench.numbers_peers import sliced
from postrain.errors import MeasurementError

_CHUNK = 2048  #: multivectors of the reference at a time


@dataclass(frozen=True)
class Compute:
    """What is timed, and its result as dense coefficients, shape (size, blades) or the first rows of that."""

    run: Run
    result: Callable[[], Tensor]
    work: float | None = None  #: products in a run; None: all
    note: str = ""  #: what else was seen


def cayley(algebra: Algebra, dtype: torch.dtype = torch.float32) -> Tensor:
    """The dense table of a geometric product, shape (blades of x, of the result, of y), from the algebra's signs."""
    place = {blade: k for k, blade in enumerate(algebra.blades)}
    table = torch.zeros((algebra.size,) * 3, dtype=dtype)
    for i, a in enumerate(algebra.blades):
        for j, b in enumerate(algebra.blades):
            blade, sign = algebra.product(a, b)
            table[i, place[blade], j] = sign
    return table


def dense(mv: Multivector) -> Tensor:
    """All coefficients, blades last, as the peers store them."""
    full = Layout.full(mv.algebra)
    out = mv.planes.new_zeros((*mv.shape, len(full)))
    out[..., [full.blades.index(blade) for blade in mv.layout.blades]] = mv.coefficients
    return out


def multiplied(a: Tensor, b: Tensor, table: Tensor) -> Tensor:
    """The geometric product as CGENN and GATr compute it: one einsum with the dense table."""
    return torch.einsum("...i,ijk,...k->...j", a, table, b)


def reversed_(a: Tensor, algebra: Algebra) -> Tensor:
    """The reverse of dense multivectors."""
    grades = torch.tensor([blade.bit_count() for blade in algebra.blades])
    return a * torch.where(grades % 4 >= 2, -1, 1).to(a.dtype)


def formula(x: Tensor, y: Tensor, table: Tensor, algebra: Algebra, sandwich: bool) -> Tensor:
    """X y, or x y ~x, dense."""
    product = multiplied(x, y, table)
    return multiplied(product, reversed_(x, algebra), table) if sandwich else product


def einsum(x: Multivector, y: Multivector, sandwich: bool) -> Compute:
    """Dense einsum in torch on its own threads."""
    a, b, table = dense(x), dense(y), cayley(x.algebra)

    def run(threads: int) -> None:
        formula(a, b, table, x.algebra, sandwich)

    return Compute(run, lambda: formula(a, b, table, x.algebra, sandwich))


def prove(what: str, got: Tensor, x: Multivector, y: Multivector, sandwich: bool) -> None:
    """Let a measurement go on only if a result is that of float64 within the roundings of its sums.

    m roundings move a sum of products by at most m eps of the sum of their sizes; m is the number of blades for a
    product and its square for a sandwich, whose sizes are those of both products.

    Raises:
        MeasurementError: an element is farther off; the message names the first.
    """
    algebra, blades = x.algebra, x.algebra.size
    roundings = 2 * blades * (2 if sandwich else 1)
    table = cayley(algebra, torch.float64)
    for start in range(0, len(got), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(got)))
        a, b, found = dense(x[part]).double(), dense(y[part]).double(), got[part].double()
        wanted = formula(a, b, table, algebra, sandwich)
        sizes = multiplied(a.abs(), b.abs(), table.abs())
        if sandwich:
            sizes = multiplied(sizes, a.abs(), table.abs())
        wrong = (found - wanted).abs() > roundings * torch.finfo(got.dtype).eps * sizes
        wrong |= found.isnan()
        if bool(wrong.any()):
            row, blade = wrong.nonzero()[0].tolist()
            raise MeasurementError(
                f"{what}: {int(wrong.sum())} of {wrong.numel()} coefficients differ from float64, so nothing was "
                f"timed; the first is {algebra.names[blade]} of element {start + row}: {found[row, blade]}, "
                f"wanted {wanted[row, blade]}"
            )


def c_compiler() -> str | None:
    """The system's C compiler: $CC or cc."""
    return shutil.which(os.environ.get("CC") or "cc")


def straight_line(
    plans: tuple[Plan, ...], x: Multivector, y: Multivector, folder: Path, compiler: str
) -> Compute:
    """Straight-line C over the same planes, compiled here; the second plan of a sandwich follows in the same loop.

    Raises:
        MeasurementError: the compiler refuses the file.
    """
    text = "\n".join(_c_lines(plans))
    source, library = folder / "product.c", folder / "product.so"
    source.write_text(text)
    command = [compiler, "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-o", str(library)]
    made = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)  # noqa: S603  # the user's compiler
    if made.returncode:
        raise MeasurementError(f"{compiler} refused the C of {plans}: {made.stderr[:300]}")
    function = ctypes.CDLL(str(library)).product
    function.argtypes, function.restype = [ctypes.c_void_p] * 3 + [ctypes.c_long] * 3, None
    out = Multivector(torch.zeros((len(plans[-1].out), *x.shape)), plans[-1].out)
    size = x.shape[0]
    planes = [mv.planes.contiguous() for mv in (x, y, out)]
    run = sliced(size, lambda part: function(*[t.data_ptr() for t in planes], size, part.start, part.stop))

    def result() -> Tensor:
        run(1)
        return dense(out)

    return Compute(run, result)


def _c_lines(plans: tuple[Plan, ...]) -> Iterator[str]:
    """One loop; planes do not overlap, which its pragma says: without it the loop stays scalar."""
    yield "void product(const float *x, const float *y, float *out, long n, long start, long stop) {"
    yield "#if defined(__clang__)\n#pragma clang loop vectorize(assume_safety)\n#else\n#pragma GCC ivdep\n#endif"
    yield "for (long t = start; t < stop; t++) {"
    for name, layout in (("x", plans[0].first), ("y", plans[0].second)):
        yield from (f"  float {name}{k} = {name}[{k} * n + t];" for k in range(len(layout)))
    names, signs = ("x", "y"), [1] * len(plans[0].second)
    for stage, plan in enumerate(plans):
        last = stage == len(plans) - 1
        for k, terms in enumerate(plan.by_output):
            summed = " ".join(
                f"{'+' if sign * signs[j] > 0 else '-'} {names[0]}{i} * {names[1]}{j}"
                for i, j, _, sign, _ in terms
            )
            yield f"  out[{k} * n + t] = {summed};" if last else f"  float m{k} = {summed};"
        names = "m", "x"  # the second factor of a sandwich is the reverse of x
        signs = [-1 if blade.bit_count() % 4 >= 2 else 1 for blade in plans[0].first.blades]
    yield "}}"
