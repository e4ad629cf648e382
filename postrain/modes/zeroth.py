"""Mode `zeroth`: two forward passes a direction, with weights moved along it and against it (MeZO)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from posit.torch import PositTensor
from posit.torch.ops.dropout import dropout_keys
from postrain.errors import NaRError
from postrain.modes._base import OwnUpdate
from postrain.modes._directions import Directions
from postrain.nn.passage import parts
from postrain.optim._parts import step_part


class Zeroth(OwnUpdate):
    r"""Simultaneous perturbation: slopes from losses alone.

    Along a random direction z the slope of the loss is
    :math:`(L(w + \epsilon z) - L(w - \epsilon z)) / 2\epsilon`, and slope times z the estimate of the gradient.

    Needs forward passes only, of any model.  A module's weights are moved just before it runs and put back, to the bit,
    just after, so that beside inference only one module's weights exist twice; posits could not be put back by
    subtracting, for they round.  z is drawn anew for every parameter, never stored.  With several directions the mean
    of the estimates is taken, one rounding.

    The estimate's variance grows with the number of weights: expect far more steps than of `reverse`.

    Source:
        Malladi et al., Fine-tuning language models with just forward passes (MeZO), arXiv 2305.17333; Spall, IEEE
        Transactions on Automatic Control 37 (1992).
    """

    name = "zeroth"

    def run(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        """Two losses for each direction; the mean of all of them."""
        own, directions = self.settings, Directions(self.settings.seed, number)
        slopes, total = [], 0.0
        for k in range(own.tangents):
            losses = []
            for sign in (1.0, -1.0):
                with _moved(self.model, directions, k, sign * own.epsilon):
                    losses.append(self._loss(number, samples, x, y))
            slopes.append((losses[0] - losses[1]) / (2.0 * own.epsilon) * own.loss_scale)
            total += sum(losses)
        for place, parameter in enumerate(self.model.parameters()):
            if parameter.requires_grad:
                parameter.grad = directions.combined(parameter, slopes, place)
                step_part(self.optimizer, [parameter])
        return total / (2 * own.tangents)

    def _loss(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        """Per target, where micro-batches sum."""
        size, total = self.settings.micro_batch, 0.0
        with torch.no_grad():
            for rows in parts(len(y), size):
                with dropout_keys(self.settings.seed, number, samples[rows].tolist()):
                    loss = self.loss(self.model(x[rows]), y[rows])
                total += float(loss.item())
        if not math.isfinite(total):
            raise NaRError("the loss with moved weights", number)
        return total if size is None else total / y.numel()


@contextmanager
def _moved(model: nn.Module, directions: Directions, number: int, by: float) -> Iterator[None]:
    """In this context every module runs with weights moved along a direction."""
    mover = _Mover(directions, number, by, {id(each): i for i, each in enumerate(model.parameters())})
    handles = []
    for module, parameters in _owners(model):
        handles.append(module.register_forward_pre_hook(lambda _, __, p=parameters: mover.move(p)))
        handles.append(
            module.register_forward_hook(lambda _, __, ___, p=parameters: mover.put_back(p), always_call=True)
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _owners(model: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Parameter]]]:
    """Modules, and the parameters that they use themselves."""
    inside: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):  # uses those of a layer inside, which it does not call
            inside |= set(module.modules()) - {module}
            yield module, list(module.parameters())
        elif module not in inside and (own := list(module.parameters(recurse=False))):
            yield module, own


class _Mover:
    """Weights that are moved now, and what they were."""

    def __init__(self, directions: Directions, number: int, by: float, places: dict[int, int]) -> None:
        self.directions, self.number, self.by, self.places = directions, number, by, places
        self.held: dict[int, tuple[int, Tensor]] = {}  # how often it is in use, and its value

    def move(self, parameters: list[nn.Parameter]) -> None:
        for each in parameters:
            uses, value = self.held.get(id(each), (0, None))
            if value is None:
                place, stored = self.places[id(each)], _stored(each)
                value = stored.clone()
                stored.copy_(self.directions.moved(each, self.number, place, self.by))
            self.held[id(each)] = uses + 1, value

    def put_back(self, parameters: list[nn.Parameter]) -> None:
        for each in parameters:
            uses, value = self.held.pop(id(each))
            if uses > 1:
                self.held[id(each)] = uses - 1, value
            else:
                _stored(each).copy_(value)


def _stored(parameter: Tensor) -> Tensor:
    return parameter.codes if isinstance(parameter, PositTensor) else parameter.data
