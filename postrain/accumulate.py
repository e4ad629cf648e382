"""Exact gradients over any number of backward passes: rounded once at the end, so no split of a batch changes a bit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from posit.formats import Format
from posit.torch import GradientSum, PositTensor, posit_tensor
from posit.torch.accumulation import into
from postrain.errors import AccumulationError, RecipeError
from postrain.memory.purposes import QUIRES, purpose


@dataclass
class Sums:
    """The sums of one `accumulate` context."""

    divisor: int | None  #: what the sums are divided by when they are rounded; None: by nothing
    sums: list[GradientSum] = field(repr=False)
    names: dict[int, str] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all sums."""
        return sum(each.nbytes for each in self.sums)

    @property
    def backward_passes(self) -> int:
        """The most gradients that any parameter has got: passes, times the places where it is used."""
        return max((each.terms for each in self.sums), default=0)


@contextmanager
def accumulate(model: nn.Module, divisor: int | None = None) -> Iterator[Sums]:
    """Sum gradients exactly over all backward passes in this context, and round them once at its end.

    Inside, every parameter's gradient is summed exactly, element by element.  At the normal end each sum,
    divided by `divisor`, is rounded once into ``parameter.grad``, in the recipe's format of gradients; after an
    exception nothing is written.

    Losses must be sums (``reduction="sum"``): a mean over a part of the batch is rounded, and depends on the split.
    The division by the size of the whole batch happens here, after the exact sum.

    Args:
        model: A converted model.
        divisor: A whole number, such as the size of the whole batch; may also be set inside, as ``sums.divisor``.

    Raises:
        RecipeError: the model has no posits; a parameter already has a gradient; a layer in training normalizes by the
            statistics of its batch, or tensors are scaled by their largest magnitudes, which depend on the split; or
            formats of one model cannot be summed in one quire.
        AccumulationError: an operator that does not add to the sums gave a parameter an already rounded gradient.

    >>> import torch
    >>> from postrain import convert
    >>> model = convert(nn.Linear(2, 1, bias=False), "posit16")
    >>> with accumulate(model, divisor=2) as sums:
    ...     for x in (torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 5.0]])):
    ...         model(x).sum().backward()
    >>> model.weight.grad.tolist(), sums.nbytes
    ([[2.0, 3.5]], 32)
    """
    sums = open_sums(model, divisor)
    with into(sums.sums):
        yield sums
    round_sums(sums)


def open_sums(model: nn.Module, divisor: int | None = None) -> Sums:
    """Sums for every parameter of the model, 0 so far; what may not be summed is refused as by `accumulate`."""
    parameters = _parameters(model)
    _check(model, parameters)
    fmt = widest(list(parameters.values()))
    with purpose(QUIRES):
        made = [GradientSum(parameter, fmt or parameter.format) for parameter in parameters.values()]
    return Sums(divisor, made, {id(parameter): name for name, parameter in parameters.items()})


def round_sums(sums: Sums) -> None:
    """Round each sum, divided, into its parameter's gradient.

    Raises:
        AccumulationError: a parameter has got a gradient besides.
    """
    rounded = [sums.names[id(each.parameter)] for each in sums.sums if each.parameter.grad is not None]
    if rounded:
        for each in sums.sums:
            each.parameter.grad = None
        raise AccumulationError(
            f"the gradient of {', '.join(rounded)} was rounded on its way: an operator that uses it does not add to "
            "exact sums; use it in the layers of torch.nn only, or leave out postrain.accumulate"
        )
    divisor = 1 if sums.divisor is None else sums.divisor
    if divisor != int(divisor) or divisor < 1:
        raise RecipeError(f"the divisor of gradient sums must be a whole number of at least 1, got {divisor}")
    for each in sums.sums:
        if each.terms:
            each.parameter.grad = each.gradient(int(divisor))


def watched(model: nn.Module, ready: Callable[[torch.Tensor], object]) -> list[Any]:
    """Have a function called with each parameter as soon as its gradient is complete in a backward pass.

    Returns:
        The parameters' nodes in the graph; the function is called as long as someone holds them.
    """

    def node_of(parameter: torch.Tensor) -> Any:
        node = torch.autograd.graph.get_gradient_edge(parameter).node
        node.register_hook(lambda *_: ready(parameter))
        return node

    return [node_of(each) for each in model.parameters() if each.requires_grad]


def _parameters(model: nn.Module) -> dict[str, PositTensor]:
    """Those that gradients are for, by name."""
    found: dict[str, PositTensor] = {}
    for name, parameter in model.named_parameters():
        if isinstance(parameter, PositTensor) and parameter.requires_grad:
            found[name] = parameter
        elif not isinstance(parameter, PositTensor):
            raise RecipeError(f"{name} is no PositTensor; postrain.accumulate is for converted models")
        if parameter.policy is not None and parameter.policy.scaling is not None:
            raise RecipeError(
                f"{name} is scaled: powers of two follow from the largest magnitude of each part of a batch, so "
                'gradients depend on the split; use a recipe with scale="none", or leave out postrain.accumulate'
            )
    return found


def _check(model: nn.Module, parameters: dict[str, PositTensor]) -> None:
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            raise RecipeError(
                f"{name} has a gradient already; call optimizer.zero_grad() before postrain.accumulate"
            )
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise RecipeError(
                f'{type(module).__name__} "{name}" normalizes by the statistics of each part of a batch, so gradients '
                "depend on the split; put it into eval(), or use LayerNorm or GroupNorm"
            )


def loss_sum(model: nn.Module) -> GradientSum:
    """An exact sum for losses, in the quires in which gradients of the model are summed."""
    like = next(iter(model.parameters()))
    assert isinstance(like, PositTensor)
    formats = [like.format] if like.policy is None else [like.format, like.policy.loss]
    fmt = max(formats, key=lambda each: each.nbits)
    return GradientSum(posit_tensor(torch.zeros(1), fmt), fmt)


def add_loss(losses: GradientSum, loss: float) -> None:
    """Add the loss of a pass, which is a posit, to their sum."""
    losses.add(posit_tensor(torch.tensor([loss], dtype=torch.float64), losses.format))


def mean_loss(losses: GradientSum, divisor: int) -> float:
    """The sum of all losses that were added (on all ranks, where those came together) over a whole number."""
    total = losses.quires.to_fraction()[0] if losses.total is None else losses.total.fraction(0)
    return float("nan") if total is None else float(total) / divisor


def widest(parameters: Sequence[PositTensor]) -> Format | None:
    """A format in which every factor of every gradient is exact."""
    formats = {parameter.format for parameter in parameters}
    for parameter in parameters:
        if parameter.policy is not None:
            formats |= {parameter.policy.activations, parameter.policy.gradients, parameter.policy.loss}
    if len({(fmt.es, fmt.max_regime) for fmt in formats}) > 1:
        names = ", ".join(sorted(fmt.name for fmt in formats))
        raise RecipeError(
            f"gradients of {names} cannot be summed in one kind of quire; use formats of one family"
        )
    return max(formats, key=lambda fmt: fmt.nbits, default=None)
