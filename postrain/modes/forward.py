"""Mode `forward`: the loss's derivative along random directions of all weights, found in the forward pass."""

import math

import torch
from torch import Tensor

from postrain.errors import ModeError
from postrain.modes._base import OwnUpdate, entered, units
from postrain.modes._directions import Directions
from postrain.modes._rules import push, require_rules, slopes
from postrain.nn.passage import parts
from postrain.optim._parts import step_part


class Forward(OwnUpdate):
    r"""Forward gradients: :math:`\hat g = \frac1K \sum_k (\nabla L \cdot v_k)\, v_k` with standard normal directions v.

    The K tangents go through the network beside the values, layer by layer, so nothing outlives its layer.  The
    directions of a layer's weights are drawn where they are needed, and again for the update.  There are forward
    derivatives of linear and convolution layers, elementwise functions and averages, for posits and for float32; other
    modules are refused.  The derivative of the loss itself is taken by autograd with respect to the network's output.

    The estimate is unbiased, and its variance grows with the number of weights over K: expect far more steps than of
    `reverse`.

    Rounding points in posits: directions, once, to the format of the weights; what a layer makes of a tangent once, of
    its weights' direction once, their sum once; each parameter's estimate once, from the exact sum over k.

    Raises:
        ModeError: the model is no nn.Sequential of modules with rules; and see `OwnUpdate`.

    Source:
        Baydin, Pearlmutter, Syme, Wood, Torr, Gradients without backpropagation, arXiv 2202.08587.
    """

    name = "forward"

    def check(self) -> None:
        """Refuse modules without a rule, and weights that are used twice."""
        self.units = units(self.model, self.name)
        require_rules(self.units, self.name)
        if len({id(each) for each in self.units}) < len(self.units):
            raise ModeError("mode 'forward' needs every module of the nn.Sequential to be used once")

    def run(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        """One forward pass with all tangents; then the update."""
        own = self.settings
        directions = Directions(own.seed, number)
        places = {id(each): place for place, each in enumerate(self.model.parameters())}
        found: list[list[float]] = [[] for _ in range(own.tangents)]
        total = 0.0
        x = entered(self.model, x)
        for rows in parts(len(y), own.micro_batch):
            outputs, tangents = self._push(x[rows], directions, places)
            loss, gradient = self.at_output(outputs, y[rows], number)
            total += loss
            for k, tangent in enumerate(tangents):
                found[k] += slopes(gradient, tangent)
        divisor = y.numel() if own.micro_batch is not None else 1
        derivatives = [math.fsum(each) / divisor * own.loss_scale for each in found]
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.grad = directions.combined(parameter, derivatives, places[id(parameter)])
                step_part(self.optimizer, [parameter])
        return total / divisor

    def _push(self, x: Tensor, directions: Directions, places: dict[int, int]) -> tuple[Tensor, list[Tensor]]:
        count = self.settings.tangents
        tangents: list[Tensor | None] = [None] * count
        with torch.no_grad():
            for module in self.units:
                own = {n: p for n, p in module.named_parameters() if p.requires_grad}
                if not own and tangents[0] is None:
                    x = module(x)
                    continue
                moves = [
                    {name: directions.like(each, k, places[id(each)]) for name, each in own.items()}
                    for k in range(count)
                ]
                x, pushed = push(module, x, tangents, moves)
                tangents = [*pushed]
        return x, [each for each in tangents if each is not None]
