"""Stand-ins for what posits do otherwise than torch's own functions, for a walk on tensors that have no bytes.

Attention of posits stores its probabilities; torch's stores a number for each query, and makes them again.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from posit import Format
from posit._bands import LIMBS, workspace
from posit._matmul import matmul_workspace
from posit.torch.ops.scaled import TILE
from posit.torch.ops.softmax import rows_workspace
from postrain.memory._account import Case
from postrain.memory.formulas import posit_workspace
from postrain.memory.layer_formulas import convolution_sums_workspace
from postrain.memory.purposes import GRADIENTS, QUIRES, purpose
from postrain.modes.reversible import Rounded
from postrain.nn.passage import Passage
from postrain.recipe import Recipe

_DOUBLE = 8

Passing = Callable[[int], None]  #: told of bytes that come and go


class Values(TorchDispatchMode):
    """What training reads from tensors without values: a loss of 1, and that nothing is NaR."""

    def __torch_dispatch__(
        self,
        op: Any,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if op is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return 1.0 if args[0].dtype.is_floating_point else args[0].dtype != torch.bool and 0
        return op(*args, **(kwargs or {}))


class PlannedFunctions:
    """Functions that posits answer whole and torch's fake tensors would walk through in another way.

    Used as a context.  They are replaced where modules look them up, since a mode of torch would not see a forward pass
    that is made again inside of a backward pass.

    Args:
        fmt: Format of activations and gradients.
        passing: Told of the workspace of each call.
    """

    def __init__(self, fmt: Format, passing: Passing) -> None:
        self._fmt, self._passing = fmt, passing
        self._rooms: dict[int, Tensor] = {}  # of sums of stem and head
        self.in_sums = False  #: whether gradients of weights go to exact sums

    def workspace(self, op: Any, args: tuple[Any, ...], result: Any) -> int:
        """`posit_workspace` of an operator; gradients of a convolution's weights may go to sums."""
        if self.in_sums and op is torch.ops.aten.mm.default and args[0].stride(0) < args[0].stride(1):
            (m, k), n = args[0].shape, args[1].shape[1]  # a linear layer's weight gradient, grad.T @ inputs
            return workspace(m, k, n)
        if self.in_sums and op is torch.ops.aten.convolution_backward.default:
            rest = (*args[:3], None, *args[4:10], (args[10][0], False, False))
            sums = convolution_sums_workspace(args, self._fmt)
            return max(posit_workspace(op, rest, result, self._fmt), sums)
        return posit_workspace(op, args, result, self._fmt)

    def __enter__(self) -> Self:
        self._before = (
            functional.scaled_dot_product_attention,
            Passage._back,
            Rounded.gradients,
            Rounded.update,
        )
        functional.scaled_dot_product_attention = self._attention  # type: ignore[assignment]
        planned, rooms = self, self._rooms
        _, run_back, run_gradients, run_update = self._before

        def back(self: Passage, index: int, parameters: Any, gradients: Any) -> Any:
            rows = list(self.parts())
            planned.in_sums = len(rows) > 1
            held = planned._sums(parameters) if planned.in_sums else None
            found = run_back(self, index, parameters, gradients)
            del held
            planned.in_sums = False
            return found

        def gradients(outer: Rounded, part: nn.Module, *given: Any) -> Any:
            new = [p for p in part.parameters() if p.requires_grad and id(p) not in rooms]
            planned.in_sums = outer.mode.settings.micro_batch is not None
            if planned.in_sums:
                rooms.update((id(each), planned._sums([each])) for each in new)
            found = run_gradients(outer, part, *given)
            for each in part.parameters() if planned.in_sums else ():
                each.grad = None  # it went to the sums
            planned.in_sums = False
            return found

        def update(outer: Rounded, parameters: Sequence[nn.Parameter]) -> None:
            for each in parameters:
                if rooms.pop(id(each), None) is not None:
                    with purpose(GRADIENTS):
                        each.grad = torch.empty(each.shape)
            run_update(outer, parameters)

        Passage._back = back  # type: ignore[method-assign]
        Rounded.gradients, Rounded.update = gradients, update  # type: ignore[method-assign,assignment]
        return self

    def __exit__(self, *error: object) -> None:
        attention, back, gradients, update = self._before
        functional.scaled_dot_product_attention = attention
        Passage._back = back  # type: ignore[method-assign]
        Rounded.gradients, Rounded.update = gradients, update  # type: ignore[method-assign]

    def _sums(self, parameters: Any) -> Tensor:
        """Of exact sums over micro-batches."""
        with purpose(QUIRES):
            return torch.empty(LIMBS * sum(each.numel() for each in parameters), dtype=torch.float64)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        **options: Any,
    ) -> Tensor:
        weights: Tensor = _Weights.apply(query, key, self)  # type: ignore[no-untyped-call]
        if dropout_p:
            weights = functional.dropout(weights, dropout_p)
        context: Tensor = _Context.apply(weights, value, self)  # type: ignore[no-untyped-call]
        return context

    def scaled(self, a: Tensor, b: Tensor) -> None:
        """Workspace of ``scale * a @ b`` with a scale other than 1."""
        (m, k), n, first = a.shape[-2:], b.shape[-1], max(a.shape[0], 1)
        one = a.numel() // (m * k) // first * (m * k + k * n + m * n)
        some = min(first, max(1, TILE // max(one, 1)))
        width, matrices = self._fmt.storage.itemsize, a.numel() // (m * k) // first
        products = some * matrices
        held = products * m * n + (width * (products + first * matrices) * m * n if some < first else 0)
        self._passing(8 * some * one + held + 16 * products * (m + n))

    def plain(self, a: Tensor, b: Tensor) -> None:
        """Workspace of ``a @ b``."""
        self._passing(matmul_workspace(a.shape[-2], a.shape[-1], b.shape[-1]))

    def softmax(self, weights: Tensor, operands: int) -> None:
        """Workspace of softmax or of its derivative, beside the scores of this size."""
        width = int(weights.shape[-1])
        scores = weights.numel() * self._fmt.storage.itemsize
        self._passing(scores + rows_workspace(weights.numel() // max(width, 1), width, operands))


class _Weights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, planned: Any) -> Any:
        planned.scaled(query, key.transpose(-2, -1))
        weights = query.new_empty((*query.shape[:-1], key.shape[-2]))
        planned.softmax(weights, 1)
        ctx.save_for_backward(query, key, weights)
        ctx.planned = planned
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        query, key, weights = ctx.saved_tensors
        ctx.planned.softmax(weights, 2)
        scores = torch.empty_like(weights)
        ctx.planned.scaled(scores, key)
        to_query = torch.empty(query.shape)
        ctx.planned.scaled(scores.transpose(-2, -1), query)
        return to_query, torch.empty(key.shape), None


class _Context(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Any, value: Any, planned: Any) -> Any:
        planned.plain(weights, value)
        ctx.save_for_backward(weights, value)
        ctx.planned = planned
        return weights.new_empty((*weights.shape[:-1], value.shape[-1]))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        weights, value = ctx.saved_tensors
        ctx.planned.plain(grad, value.transpose(-2, -1))
        to_weights = torch.empty(weights.shape)
        ctx.planned.plain(weights.transpose(-2, -1), grad)
        return to_weights, torch.empty(value.shape), None


class PlannedOptimizer(torch.optim.SGD):
    """One of `postrain.optim` on fake tensors: makes state of as many bytes, and updates nothing."""

    def __init__(self, parameters: Iterable[nn.Parameter], case: Case) -> None:
        super().__init__(parameters, lr=0.0)
        fmt = Format.parse(case.state_format) if case.state_format else Recipe(case.recipe).format
        self.format = Recipe(case.recipe).format
        self._kind, self._momentum = case.optimizer, case.momentum
        self._dtype = {1: torch.int8, 2: torch.int16, 4: torch.int32}[fmt.storage.itemsize]

    def step(self, closure: Any = None) -> Any:
        """Make the state of what has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not self.state[parameter]:
                    for name, shape in self._shapes(tuple(parameter.shape)).items():
                        self.state[parameter][name] = torch.empty(shape, dtype=self._dtype)
        return None

    def _shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        if self._kind == "adam":
            return {"exp_avg": shape, "exp_avg_sq": shape}
        if self._kind == "adafactor":
            if len(shape) < 2:
                return {"exp_avg_sq": shape}
            return {"row": shape[:-1], "column": (*shape[:-2], shape[-1])}
        return {"momentum": shape} if self._momentum else {}
