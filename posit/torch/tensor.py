"""`PositTensor`: integer codes that PyTorch sees as a float32 tensor, with a rule for every operator it answers."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from posit.codec import decode, encode, signed_storage
from posit.errors import CodeError, FormatError, FormatMismatch, NonFiniteError, NoRuleError
from posit.formats import Format
from posit.rounding import certified
from posit.torch._settle import settle, settled
from posit.torch.policy import Policy, in_backward, phase
from posit.torch.registry import calling_module, fused_rule, rule_of
from posit.torch.scaling import Grid

_DTYPES = {"int8": torch.int8, "int16": torch.int16, "int32": torch.int32}


@cache
def _code_dtype(fmt: Format) -> torch.dtype:
    return _DTYPES[signed_storage(fmt).name]


class PositTensor(torch.Tensor):
    """A tensor of posits: its storage is the codes, its outward dtype is float32.

    Args:
        codes: Sign-extended codes, any shape, dtype int8, int16 or int32 as wide as the format's storage.
        fmt: A format of at most 32 bits.
        policy: In which formats results computed from it are held; without one, in `fmt`.

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
    _policy: Policy | None
    _grid: Grid | None = None
    _is_loss: bool = False

    @staticmethod
    def __new__(
        cls, codes: torch.Tensor, fmt: Format, requires_grad: bool = False, policy: Policy | None = None
    ) -> Self:
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
        self._policy = policy
        return self

    @property
    def codes(self) -> torch.Tensor:
        """The sign-extended codes (shared memory): signed order is posit order, NaR is the smallest."""
        return self._codes

    @property
    def format(self) -> Format:
        """The posit format."""
        return self._format

    @property
    def policy(self) -> Policy | None:
        """In which formats results computed from it are held."""
        return self._policy

    @property
    def grid(self) -> Grid | None:
        """The grid that updates of a scaled parameter are rounded to."""
        return self._grid

    def like(self, codes: torch.Tensor) -> "PositTensor":
        """Other codes of the same format and policy."""
        return PositTensor(codes, self._format, policy=self._policy)

    def values(self) -> npt.NDArray[np.float64]:  # type: ignore[override]  # torch's is for sparse tensors
        """The exact values as a float64 array of the same shape; NaR is NaN."""
        return np.asarray(decode(to_numpy(self._codes), self._format, np.float64))

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

    def __deepcopy__(self, memo: dict[int, Any]) -> "PositTensor":
        copy = self.like(self._codes.clone())
        result: Any = copy.requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            result = torch.nn.Parameter(copy, requires_grad=self.requires_grad)
        result._grid = self._grid
        memo[id(self)] = result
        return result  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: object) -> Any:
        raise NoRuleError(
            "a PositTensor is not pickled; save weights with postrain.files.save_weights (safetensors)"
        )

    @classmethod
    def __torch_function__(
        cls,
        function: Any,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer whole functions that have a fused rule; all others fall apart into operators."""
        fused = fused_rule(function)
        if fused is not None:
            if torch._C._functorch.peek_interpreter_stack() is not None:
                raise NoRuleError(
                    f"{getattr(function, '__name__', function)} of posits has a derivative of its own, which "
                    "torch.func (grad, vjp, jvp, vmap) does not see; use torch.autograd.grad or backward()"
                )
            # run again inside a backward pass it is still a forward pass, which autograd.Function hides
            again = torch._C._current_graph_task_id() != -1 and torch.is_grad_enabled()
            with phase(backward=False) if again else nullcontext():
                return settled(function, (args, kwargs), lambda: fused(*args, **(kwargs or {})))
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub lacks the operator
        cls,
        op: Any,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer `op` by its rule; an operator without one raises and is named."""
        rule = rule_of(op)
        if rule is None:
            raise NoRuleError(
                f"{op} has no rule for PositTensor{calling_module()}; call .to_float() first to leave posits"
            )
        result = rule(op, *args, **(kwargs or {}))
        settle(op, (args, kwargs), result)
        return result


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
    result: PositTensor = _rounded(x, Format.parse(fmt), requires_grad)
    return result


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch leaves it untyped
def _rounded(x: torch.Tensor, fmt: Format, requires_grad: bool) -> PositTensor:
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        raise NoRuleError(
            "posit_tensor got a tensor of a torch.func transform (jvp, vmap, grad): posits have no rules for them; "
            "use torch.autograd, or leave the transform out"
        )
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an operator's result will be."""

    format: Format
    policy: Policy | None
    loss: bool = False

    def wrap(self, codes: npt.NDArray[np.integer]) -> PositTensor:
        """Signed codes computed by a kernel as a tensor (no copy)."""
        return self.like(torch.from_numpy(codes))

    def like(self, codes: torch.Tensor) -> PositTensor:
        """A tensor of codes as a tensor."""
        made = PositTensor(codes, self.format, policy=self.policy)
        made._is_loss = self.loss
        return made

    def round(
        self,
        approximation: npt.NDArray[np.float64],
        error: npt.NDArray[np.float64],
        exact: Callable[[int], int],
    ) -> PositTensor:
        """Real results, rounded once, from approximations with proven errors: see `posit.rounding.certified`."""
        return self.wrap(certified(approximation, error, self.format, exact, signed_storage(self.format)))

    def cast(self, x: PositTensor) -> PositTensor:
        """`x` rounded to the format (exact where it is wide enough)."""
        if x.format == self.format:
            return self.like(x.codes)
        return self.wrap(convert_codes(to_numpy(x.codes), x.format, self.format))


def convert_codes(codes: npt.NDArray[np.integer], fmt: Format, to: Format) -> npt.NDArray[np.integer]:
    """Signed codes of the same values in another format, each rounded once."""
    return encode(decode(codes, fmt, np.float64), to, signed_storage(to)) if fmt != to else codes


def outcome(op: Any, *tensors: Any, loss: bool = False) -> Outcome:
    """What the result of an operator on these operands is to be: its format and its policy.

    With a policy: the format of activations (of losses, where `loss`) in a forward pass, and of gradients in a
    backward pass.  Without: the one format that all operands have.

    Raises:
        FormatMismatch: a floating-point tensor is among the operands; or formats differ where no operand carries a
            policy; or operands carry different policies.
    """
    policy = None
    for tensor in tensors:
        if not isinstance(tensor, PositTensor):
            raise FormatMismatch(
                f"{op} got a {getattr(tensor, 'dtype', type(tensor).__name__)} operand among PositTensors"
                f"{calling_module()}; round it with posit_tensor(x, fmt) first"
            )
        policy = policy or tensor._policy
    if policy is None:
        fmt = tensors[0]._format
        if any(tensor._format != fmt for tensor in tensors):
            names = ", ".join(sorted({tensor._format.name for tensor in tensors}))
            raise FormatMismatch(
                f"{op} got operands of formats {names}{calling_module()}; convert them to one format first"
            )
        return Outcome(fmt, None)
    if any(tensor._policy not in (None, policy) for tensor in tensors):
        raise FormatMismatch(
            f"{op} got operands from modules with different recipes{calling_module()}; "
            "cast one with posit.torch.cast(x, like=other)"
        )
    if in_backward():
        return Outcome(policy.gradients, policy)
    return Outcome(policy.loss if loss else policy.activations, policy, loss)
