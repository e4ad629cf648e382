"""Exact sums of parameter gradients over many backward passes: where operators put a gradient instead of rounding it.

While a `gradient_sums` context is open, the fused rules of linear, convolution, embedding, normalization and recurrent
layers add a parameter's gradient to that parameter's `GradientSum` and return none to autograd.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import numpy.typing as npt
import torch

from posit import _quire_wire
from posit._array import PositArray
from posit._matmul_operands import carries_products
from posit._planes import Factor, Terms
from posit._quire_array import QuireArray
from posit._quire_division import divided
from posit._quire_forms import add_form, widened
from posit._quire_totals import Total
from posit._segments import add_rows
from posit.codec import Codes
from posit.errors import FormatMismatch
from posit.formats import Format
from posit.torch.tensor import PositTensor, convert_codes, to_numpy


class GradientSum:
    """The exact gradient of one parameter so far: an array of quires of the parameter's shape.

    Args:
        parameter: The parameter.
        fmt: Format of the quires; every term must be exact in it.
    """

    def __init__(self, parameter: PositTensor, fmt: Format) -> None:
        self.parameter = parameter
        self.quires = QuireArray(tuple(parameter.shape), fmt)
        self.terms = 0  #: how many gradients have been added
        self.total: Total | None = None  #: of all ranks, once they came together

    def add_product(self, a: PositTensor, b: PositTensor, rows: slice = slice(None)) -> None:
        """Add ``a @ b`` to these rows of the parameter, which hold (m, n) elements in that order."""
        self.terms += 1
        part = self.quires if rows == slice(None) else self.quires[rows]
        part.reshape(a.shape[0], b.shape[1]).matmul_add(self._posits(a), self._posits(b))

    def add(self, terms: PositTensor) -> None:
        """Add terms of shape (..., *shape of the parameter), summed over what leads."""
        self.terms += 1
        codes = self._posits(terms)
        flat = self.quires.reshape(1, self.quires.size)
        ones = np.full((1, codes.size // max(self.quires.size, 1)), self._one, self.quires.format.storage)
        flat.matmul_add(PositArray(ones, self.quires.format), codes.reshape(-1, self.quires.size))

    def add_at(self, index: npt.NDArray[np.int64], terms: PositTensor) -> None:
        """Add row t of `terms`, shape (count, ...), to row ``index[t]`` of the parameter."""
        self.terms += 1
        self._require_exact(terms)
        rows = terms.values().reshape(len(index), -1)
        add_rows(self.quires, np.ascontiguousarray(index), rows)

    def add_sum_of_products(self, a: PositTensor, b: PositTensor) -> None:
        """Add the elementwise products ``a * b`` of shape (..., *shape of the parameter), summed over what leads."""
        self.terms += 1
        size, fmt = self.quires.size, self.quires.format
        if not carries_products(fmt, fmt):
            flat = self.quires.reshape(size)
            for one, other in zip(*(self._posits(x).reshape(-1, size) for x in (a, b)), strict=True):
                flat.mul_add(one, other)
            return
        self._require_exact(a)
        self._require_exact(b)
        left, right = (np.ascontiguousarray(x.values().reshape(-1, size)) for x in (a, b))
        first = np.zeros(len(left), np.int64)
        high = (right.view(np.int64) & -(1 << 39)).view(np.float64)  # 14 bits: times 28 bits exact in float64
        for part in (high, right - high):
            if part.any():
                add_rows(self.quires.reshape(1, size), first, left * part)

    def add_form(
        self,
        operands: Iterable[PositTensor],
        factors: Sequence[Factor],
        terms: Terms,
        shape: tuple[int, int, int],
    ) -> None:
        """Add sums of products of two or three factors, as `posit._planes.sum_products` takes them.

        Args:
            operands: What the factors are made of.
            factors: In the order of the terms' planes.
            terms: Those of every plane of the parameter.
            shape: (outer, summed, lanes), of which outer times lanes are the elements of a plane.

        Raises:
            FormatError: products may leave float64's range.
            FormatMismatch: an operand is not exact in the quires' format.
        """
        for each in operands:
            self._require_exact(each)
        self.terms += 1
        if len(factors) == 3:
            self.widen()
        add_form(self.quires.reshape(len(terms), shape[0], shape[2]), factors, terms, shape)

    def widen(self) -> None:
        """Make room for products of three factors, once."""
        self.quires = widened(self.quires)

    @property
    def nbytes(self) -> int:
        """Bytes of the quires."""
        return self.quires.nbytes

    def extent(self) -> _quire_wire.Extent:
        """Which bits of the sum are in use."""
        return _quire_wire.extent(self.quires)

    def pack(self, start: int, stop: int, at: _quire_wire.Window, out: _quire_wire.Limbs) -> None:
        """Write the limbs of elements start .. stop - 1 to `out`, shape (at.count, stop - start)."""
        _quire_wire.pack(self.quires, start, stop, at, out)

    def replace(self, total: Total) -> None:
        """Become the total of all ranks, and give up the quires; nothing can be added any more."""
        self.give_up()
        self.total = total

    def give_up(self) -> None:
        """Free the memory: the sum is not needed any more."""
        self.quires, self.total = QuireArray((0,), self.quires.format, self.quires.variant), None

    def gradient(self, divisor: int = 1) -> PositTensor:
        """The sum over a whole number, rounded once to the parameter's format of gradients."""
        parameter, policy = self.parameter, self.parameter.policy
        fmt = parameter.format if policy is None else policy.gradients
        codes = self._rounded(divisor, fmt) if self.total is None else self.total.rounded(divisor, fmt)
        return PositTensor(torch.from_numpy(codes.reshape(parameter.shape)), fmt, policy=policy)

    def _rounded(self, divisor: int, fmt: Format) -> Codes:
        return divided(self.quires, divisor, fmt)

    @property
    def _one(self) -> int:
        return 1 << (self.quires.format.nbits - 2)

    def _posits(self, x: PositTensor) -> PositArray:
        self._require_exact(x)
        fmt = self.quires.format
        if x.format == fmt and fmt.nbits == 8 * fmt.storage.itemsize:
            return PositArray(to_numpy(x.codes).view(fmt.storage), fmt)  # no copy
        codes = convert_codes(to_numpy(x.codes), x.format, fmt)
        return PositArray(codes.view(fmt.storage) & fmt.storage.type(fmt.code_mask), fmt)

    def _require_exact(self, x: PositTensor) -> None:
        fmt = self.quires.format
        if x.format.nbits > fmt.nbits or (x.format.es, x.format.max_regime) != (fmt.es, fmt.max_regime):
            raise FormatMismatch(f"a gradient in {x.format} cannot be summed exactly in quires of {fmt}")


_sums: ContextVar["dict[int, GradientSum] | None"] = ContextVar("gradient_sums", default=None)


@contextmanager
def gradient_sums(
    parameters: Iterable[PositTensor], fmt: Format | None = None
) -> Iterator[list[GradientSum]]:
    """Keep the gradients of these parameters as exact sums in this context.

    Args:
        parameters: Leaves of the autograd graph.
        fmt: Format of the quires; by default each parameter's own.
    """
    made = [GradientSum(parameter, fmt or parameter.format) for parameter in parameters]
    with into(made):
        yield made


@contextmanager
def into(sums: Iterable[GradientSum]) -> Iterator[None]:
    """Let the forward passes in this context, and their backward passes whenever they run, add to these sums."""
    token = _sums.set({id(each.parameter): each for each in sums})
    try:
        yield
    finally:
        _sums.reset(token)


def sums_for(parameter: torch.Tensor) -> GradientSum | None:
    """Where the gradient of a parameter is to be added, or None: then it is rounded and returned to autograd."""
    sums = _sums.get()
    return None if sums is None else sums.get(id(parameter))


def active() -> bool:
    """Whether a `gradient_sums` context is open: results must not depend on how a batch is cut up."""
    return _sums.get() is not None
