"""Mode `local`: forward gradients of the activations of each block, towards a loss of its own."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from posit.torch import PositTensor, posit_tensor
from postrain.errors import ModeError
from postrain.modes._base import OwnUpdate, entered, units
from postrain.modes._directions import Directions
from postrain.modes._rules import LINEAR, push, require_rules, slopes, values
from postrain.nn.local import LocalNetwork
from postrain.optim._parts import step_part


class Local(OwnUpdate):
    r"""Activity-perturbed forward gradients, block by block.

    In each block of a `postrain.nn.LocalNetwork` the output a of its first layer is perturbed along K directions u, one
    number for each sample and feature; the derivative of the sample's loss at the block's own head along them gives
    :math:`\hat g_a = \frac1K \sum_k (\nabla_a L \cdot u_k)\, u_k`, and from it the layer's weights have their gradient
    as in reverse mode.  The head learns from its loss directly.  No block waits for another, and nothing is stored.
    There are many activations, but fewer than weights, so the variance is less than of mode `forward`.

    Rounding points in posits: directions, once; tangents as in mode `forward`; the estimate for a, formed in float64,
    once; gradients of weights once.

    Raises:
        ModeError: the model is no LocalNetwork, a block does not begin with a linear or convolution layer, a module has
            no forward derivative, or micro-batches are asked for; and see `OwnUpdate`.

    Source:
        Ren, Kornblith, Liao, Hinton, Scaling forward gradient with local losses, arXiv 2210.03310.
    """

    name = "local"

    def check(self) -> None:
        """Refuse other models."""
        if not isinstance(self.model, LocalNetwork):
            raise ModeError(
                f"mode 'local' needs a postrain.nn.LocalNetwork, got {type(self.model).__name__}; give each block a "
                "head of its own"
            )
        if self.settings.micro_batch is not None:
            raise ModeError(
                "mode 'local' works on whole batches; leave out micro_batch, or make batch smaller"
            )
        self.blocks = [units(block, self.name) for block in self.model.blocks]
        self.heads = [units(head, self.name) for head in self.model.heads]
        for index, block in enumerate(self.blocks):
            if not isinstance(block[0], LINEAR):
                raise ModeError(
                    f"block {index} must begin with nn.Linear, nn.Conv1d or nn.Conv2d in mode 'local'"
                )
            if any(each.requires_grad for module in block[1:] for each in module.parameters()):
                raise ModeError(f"only the first layer of block {index} may have weights in mode 'local'")
        for modules in (*self.blocks, *self.heads):
            require_rules(modules, self.name)

    def run(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        """Block by block; the loss of the last head."""
        directions = Directions(self.settings.seed, number)
        assert isinstance(self.model, LocalNetwork)
        x, loss = self.model.flattened(entered(self.model, x)), float("nan")
        for index, (block, head) in enumerate(zip(self.blocks, self.heads, strict=True)):
            x, loss = self._block(index, block, head, x, y, directions, number)
        return loss

    def _block(
        self,
        index: int,
        block: Sequence[nn.Module],
        head: Sequence[nn.Module],
        x: Tensor,
        y: Tensor,
        directions: Directions,
        number: int,
    ) -> tuple[Tensor, float]:
        layer, *rest = block
        with torch.enable_grad():
            a = layer(x.detach())
        drawn = [directions.like(a.detach(), k, index) for k in range(self.settings.tangents)]
        with torch.no_grad():
            h, tangents = _through(rest, a.detach(), drawn)
            outputs, tangents = _through(head, h, tangents)
        loss, gradient = self.at_output(outputs, y, number)
        found = [slopes(gradient, each) for each in tangents]
        estimate = _estimate(a, drawn, found, self.settings.loss_scale)
        self._update(layer, a, estimate)
        with torch.enable_grad():
            again = h.detach()
            for module in head:
                again = module(again)
            scaled = self.loss(again, y) * self.settings.loss_scale
        self._update(nn.ModuleList(head), scaled, None)
        return h, loss

    def _update(self, module: nn.Module, result: Tensor, gradient: Tensor | None) -> None:
        parameters = [each for each in module.parameters() if each.requires_grad]
        if parameters:
            found = torch.autograd.grad(result, parameters, gradient)
            for parameter, each in zip(parameters, found, strict=True):
                parameter.grad = each
            step_part(self.optimizer, parameters)


def _through(
    modules: Sequence[nn.Module], x: Tensor, tangents: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    moved = list(tangents)
    for module in modules:
        x, moved = push(module, x, moved)
    return x, moved


def _estimate(a: Tensor, drawn: Sequence[Tensor], found: Sequence[Sequence[float]], scale: float) -> Tensor:
    """The mean over directions of slope times direction, sample by sample."""
    if isinstance(a, FakeTensor):
        return torch.empty(a.shape)
    total = np.zeros(tuple(a.shape))
    for direction, each in zip(drawn, found, strict=True):
        factor = np.array(each).reshape(-1, *(1,) * (a.ndim - 1)) * (scale / len(drawn))
        total += factor * values(direction)
    if not isinstance(a, PositTensor):
        return torch.from_numpy(total).to(a.dtype)
    fmt = a.format if a.policy is None else a.policy.gradients
    return PositTensor(posit_tensor(torch.from_numpy(total), fmt).codes, fmt, policy=a.policy)
