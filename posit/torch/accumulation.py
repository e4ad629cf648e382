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
from posit._bands import Bands
from posit._matmul_operands import carries_products
from posit._planes import Factor, Terms
from posit._quire_array import QuireArray
from posit._quire_division import divided
from posit._quire_forms import add_form, widened
from posit._quire_layout import EXACT, THREE, QuireLayout, layout
from posit._quire_totals import Total
from posit._segments import add_rows
from posit.codec import Codes, decode
from posit.errors import FormatMismatch
from posit.formats import Format
from posit.torch.tensor import PositTensor, convert_codes, to_numpy

_TOGETHER = 1 << 13  #: terms that are float64 together


class GradientSum:
    """The exact gradient of one parameter so far.

    What operators add goes to `Bands`, 16 bytes an element as a rule.  What these do not hold (NaR, products of three
    factors, magnitudes hundreds of bits apart, formats that float64 does not hold) goes to quires, made when needed.

    Args:
        parameter: The parameter.
        fmt: Format of the quires; every term must be exact in it.

    >>> from posit.torch import posit_tensor
    >>> total = GradientSum(posit_tensor(torch.zeros(2, 3), "posit16"), Format(16))
    >>> x = posit_tensor(torch.tensor([[1.0, 2.0]]), "posit16")
    >>> total.add_product(x.t(), posit_tensor(torch.tensor([[1.0, -1.0, 2.0]]), "posit16"))
    >>> total.gradient(2).tolist(), total.nbytes
    ([[0.5, -0.5, 1.0], [1.0, -1.0, 2.0]], 96)
    """

    def __init__(self, parameter: PositTensor, fmt: Format) -> None:
        self.parameter, self.format = parameter, fmt
        self.terms = 0  #: how many gradients have been added
        self.total: Total | None = None  #: of all ranks, once they came together
        self._bands = Bands(parameter.numel(), fmt)
        self._quires: QuireArray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held at present."""
        return self._bands.nbytes + (0 if self._quires is None else self._quires.nbytes)

    @property
    def quires(self) -> QuireArray:
        """The whole sum in quires of the parameter's shape, where it stays from now on."""
        whole = self._opened()
        self._bands.move_to(whole.reshape(whole.size))
        return whole

    @property
    def wide(self) -> bool:
        """Whether there is room for products of three factors."""
        return self._quires is not None and self._quires.variant == THREE

    @property
    def layout(self) -> QuireLayout:
        """Of quires that hold the sum."""
        return layout(self.format, THREE if self.wide else EXACT)

    def extent(self) -> _quire_wire.Extent:
        """Which bits of the sum are in use."""
        return self._bands.extent() if self._quires is None else _quire_wire.extent(self.quires)

    def pack(self, start: int, stop: int, at: _quire_wire.Window, out: _quire_wire.Limbs) -> None:
        """Write the limbs of elements start .. stop - 1 to `out`, shape (at.count, stop - start)."""
        if self._quires is None:
            self._bands.pack(start, stop, at, out)
        else:
            _quire_wire.pack(self.quires, start, stop, at, out)

    def replace(self, total: Total) -> None:
        """Become the total of all ranks, and give up the own sum; nothing can be added any more."""
        self.give_up()
        self.total = total

    def give_up(self) -> None:
        """Free the memory: the sum is not needed any more."""
        self._bands, self._quires, self.total = Bands(self.parameter.numel(), self.format), None, None

    def gradient(self, divisor: int = 1) -> PositTensor:
        """The sums over a whole number, each rounded once to the format of gradients."""
        policy = self.parameter.policy
        fmt = self.parameter.format if policy is None else policy.gradients
        if self.total is not None:
            codes = self.total.rounded(divisor, fmt).reshape(self.parameter.shape)
        elif self._quires is None:
            codes = self._bands.rounded(divisor, fmt).reshape(self.parameter.shape)
        else:
            codes = divided(self.quires, divisor, fmt)
        return PositTensor(torch.from_numpy(codes), fmt, policy=policy)

    def add_product(self, a: PositTensor, b: PositTensor, rows: slice = slice(None)) -> None:
        """Add ``a @ b`` to these rows of the parameter, which hold (m, n) elements in that order."""
        self.terms += 1

        def exactly(left: Codes, right: Codes, first: int) -> None:
            whole = self._opened().reshape(-1, right.shape[1])[first : first + len(left)]
            whole.matmul_add(PositArray(left, self.format), PositArray(right, self.format))

        self._bands.add_product(self._posits(a).codes, self._posits(b).codes, exactly, rows.start or 0)

    def add(self, terms: PositTensor) -> None:
        """Add terms of shape (..., *shape of the parameter), summed over what leads."""
        self.terms += 1
        size, fmt = self.parameter.numel(), self.format
        codes = self._posits(terms).codes.reshape(-1, size)
        together = max(_TOGETHER // max(size, 1), 1)
        for start in range(0, len(codes), together):
            part = codes[start : start + together]
            if fmt.nbits > 32 or not self._bands.add_values(np.asarray(decode(part, fmt, np.float64))):
                one = np.full((1, len(part)), 1 << (fmt.nbits - 2), fmt.storage)
                whole = self._opened().reshape(1, size)
                whole.matmul_add(PositArray(one, fmt), PositArray(part, fmt))

    def add_at(self, index: npt.NDArray[np.int64], terms: PositTensor) -> None:
        """Add row t of `terms`, shape (count, ...), to row ``index[t]`` of the parameter."""
        self.terms += 1
        self._require_exact(terms)
        rows = terms.values().reshape(len(index), -1)
        if not self._bands.add_values(rows, index):
            add_rows(self._opened(), np.ascontiguousarray(index), rows)

    def add_sum_of_products(self, a: PositTensor, b: PositTensor) -> None:
        """Add the elementwise products ``a * b`` of shape (..., *shape of the parameter), summed over what leads."""
        self.terms += 1
        size, fmt = self.parameter.numel(), self.format
        if not carries_products(fmt, fmt):
            flat = self._opened().reshape(size)
            for one, other in zip(*(self._posits(x).reshape(-1, size) for x in (a, b)), strict=True):
                flat.mul_add(one, other)
            return
        codes = [self._posits(x).codes.reshape(-1, size) for x in (a, b)]
        together = max(_TOGETHER // 4 // max(size, 1), 1)  # four and more of them at a time
        for start in range(0, len(codes[0]), together):
            left, right = (decode(each[start : start + together], fmt, np.float64) for each in codes)
            high = (right.view(np.int64) & -(1 << 39)).view(
                np.float64
            )  # 14 bits: times 28 bits exact in float64
            for part in (high, right - high):
                if part.any() and not self._bands.add_values(left * part):
                    add_rows(self._opened().reshape(1, size), np.zeros(len(left), np.int64), left * part)

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
        add_form(self._opened().reshape(len(terms), shape[0], shape[2]), factors, terms, shape)

    def widen(self) -> None:
        """Make room for products of three factors, once."""
        self._quires = widened(self._opened())

    def _opened(self) -> QuireArray:
        """Quires for what the bands do not hold."""
        if self._quires is None:
            self._quires = QuireArray(tuple(self.parameter.shape), self.format)
        return self._quires

    def _posits(self, x: PositTensor) -> PositArray:
        self._require_exact(x)
        fmt = self.format
        codes = convert_codes(to_numpy(x.codes), x.format, fmt).view(fmt.storage)
        if fmt.nbits != 8 * fmt.storage.itemsize:
            codes = codes & fmt.storage.type(fmt.code_mask)
        return PositArray(codes, fmt)

    def _require_exact(self, x: PositTensor) -> None:
        fmt = self.format
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
