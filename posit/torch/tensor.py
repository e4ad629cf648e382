"""`PositTensor`: integer codes that PyTorch sees as a float32 tensor, with a rule for every operator it answers."""

from collections.abc import Callable
from functools import cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from posit.codec import decode, encode, signed_storage
from posit.errors import CodeError, FormatError, FormatMismatch, NonFiniteError, NoRuleError
from posit.formats import Format

Rule = Callable[..., Any]

_RULES: dict[Any, Rule] = {}
_DTYPES = {"int8": torch.int8, "int16": torch.int16, "int32": torch.int32}


@cache
def _code_dtype(fmt: Format) -> torch.dtype:
    return _DTYPES[signed_storage(fmt).name]


class PositTensor(torch.Tensor):
    """A tensor of posits: its storage is the codes, its outward dtype is float32.

    Args:
        codes: Sign-extended codes, any shape, dtype int8, int16 or int32 as wide as the format's storage.
        fmt: A format of at most 32 bits.

    Views act on the codes and share memory.  Sums and products are exact and rounded once; elementwise operators
    round once.  An operator without a rule raises `NoRuleError`: there is no silent float path, and `to_float` is
    the only way out.  Mixing with floating-point tensors raises.

    Raises:
        CodeError: codes of the wrong dtype.
        FormatError: a format wider than 32 bits.

    >>> import posit
    >>> x = posit_tensor(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), posit.posit16)
    >>> x @ x
    PositTensor([[7.0, 10.0], [15.0, 22.0]], posit16)
    """

    _codes: torch.Tensor
    _format: Format

    @staticmethod
    def __new__(cls, codes: torch.Tensor, fmt: Format, requires_grad: bool = False) -> Self:
        """Wrap codes without copying them."""
        if fmt.nbits > 32:
            raise FormatError(f"PositTensor holds formats of at most 32 bits, got {fmt}")
        wanted = _code_dtype(fmt)
        if codes.dtype != wanted:
            raise CodeError(
                f"codes of {fmt} must be {wanted}, got {codes.dtype}; to round real numbers use posit_tensor(x, fmt)"
            )
        self: Self = torch.Tensor._make_wrapper_subclass(
            cls,
            codes.shape,
            strides=codes.stride(),
            storage_offset=codes.storage_offset(),
            dtype=torch.float32,
            device=codes.device,
            requires_grad=requires_grad,
        )
        self._codes = codes
        self._format = fmt
        return self

    @property
    def codes(self) -> torch.Tensor:
        """The sign-extended codes (shared memory): signed order is posit order, NaR is the smallest."""
        return self._codes

    @property
    def format(self) -> Format:
        """The posit format."""
        return self._format

    def to_float(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The values as an ordinary tensor: exact in float64; NaR becomes NaN.  Cuts the autograd graph."""
        if dtype not in (torch.float32, torch.float64):
            raise NoRuleError(f"to_float gives torch.float32 or torch.float64, not {dtype}")
        wanted = np.dtype("float32" if dtype == torch.float32 else "float64")
        return torch.from_numpy(np.array(decode(to_numpy(self._codes), self._format, wanted)))

    def has_nar(self) -> bool:
        """Whether any element is NaR."""
        smallest = -(1 << (self._format.nbits - 1))
        return self._codes.numel() > 0 and int(self._codes.min()) == smallest

    def tolist(self) -> Any:
        """Nested lists of the exact values as Python floats."""
        return self.to_float(torch.float64).tolist()

    def numpy(self, *, force: bool = False) -> npt.NDArray[np.float32]:
        """Refused: NumPy has no posits; use ``.codes.numpy()`` or ``.to_float().numpy()``."""
        raise NoRuleError("a PositTensor has no numpy(); use .codes.numpy() or .to_float().numpy()")

    def __repr__(self, *, tensor_contents: object = None) -> str:  # type: ignore[override]  # torch leaves it untyped
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"PositTensor({self.tolist()}, {self._format}{grad})"

    def __tensor_flatten__(self) -> tuple[list[str], dict[str, Format]]:
        return ["_codes"], {"fmt": self._format}

    @staticmethod
    def __tensor_unflatten__(
        inner: dict[str, torch.Tensor], meta: dict[str, Format], *_: object
    ) -> "PositTensor":
        return PositTensor(inner["_codes"], meta["fmt"])

    def __deepcopy__(self, memo: dict[int, Any]) -> "PositTensor":
        copy = PositTensor(self._codes.clone(), self._format)
        result: Any = copy.requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            result = torch.nn.Parameter(copy, requires_grad=self.requires_grad)
        memo[id(self)] = result
        return result  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: object) -> Any:
        raise NoRuleError(
            "a PositTensor is not pickled; save weights with postrain.files.save_weights (safetensors)"
        )

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # as torch documents

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub lacks the operator
        cls,
        op: Any,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer `op` by its rule; an operator without one raises and is named."""
        rule = _RULES.get(op)
        if rule is None:
            raise NoRuleError(f"{op} has no rule for PositTensor; call .to_float() first to leave posits")
        return rule(op, *args, **(kwargs or {}))


def register_rule(*ops: Any) -> Callable[[Rule], Rule]:
    """Decorator: answer these operators (``torch.ops.….default``) on PositTensors by ``rule(op, *args, **kwargs)``."""

    def keep(rule: Rule) -> Rule:
        for op in ops:
            _RULES[op] = rule
        return rule

    return keep


def posit_tensor(x: torch.Tensor, fmt: "Format | str", *, requires_grad: bool = False) -> PositTensor:
    """Round a real tensor to posits, each element once.

    Args:
        x: float32 or float64 tensor, any shape; all finite.
        fmt: Format or its name.

    Raises:
        NonFiniteError: x holds NaN or an infinity.
        CodeError: x is not floating point.

    >>> posit_tensor(torch.tensor([0.1, -3.0]), "posit8")
    PositTensor([0.1015625, -3.0], posit8)
    """
    fmt = Format.parse(fmt)
    if x.dtype not in (torch.float32, torch.float64):
        raise CodeError(
            f"posit_tensor rounds float32 or float64 tensors, got {x.dtype}; convert with .float() first"
        )
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).sum())
        raise NonFiniteError(
            f"{bad} of {x.numel()} input values are NaN or infinite; remove them before rounding to {fmt}"
        )
    codes = encode(to_numpy(x.detach()), fmt, signed_storage(fmt))
    return PositTensor(torch.from_numpy(codes), fmt, requires_grad)


def to_numpy(x: torch.Tensor) -> npt.NDArray[Any]:
    """The memory of an ordinary CPU tensor as an array (no copy)."""
    return x.detach().numpy()


def wrap(codes: npt.NDArray[np.integer], fmt: Format) -> PositTensor:
    """Signed codes computed by a kernel as a tensor (no copy)."""
    return PositTensor(torch.from_numpy(codes), fmt)


def same_format(op: Any, *tensors: Any) -> Format:
    """The one format of all operands; every operand must be a PositTensor.

    Raises:
        FormatMismatch: formats differ, or a floating-point tensor is among the operands.
    """
    formats = set()
    for tensor in tensors:
        if not isinstance(tensor, PositTensor):
            raise FormatMismatch(
                f"{op} got a {getattr(tensor, 'dtype', type(tensor).__name__)} operand among PositTensors; "
                "round it with posit_tensor(x, fmt) first"
            )
        formats.add(tensor.format)
    if len(formats) != 1:
        names = ", ".join(sorted(fmt.name for fmt in formats))
        raise FormatMismatch(f"{op} got operands of formats {names}; convert them to one format first")
    return formats.pop()
