"""Mode `fused`: a parameter is updated inside the backward pass, as soon as its gradient is there, which is freed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from posit.torch.ops.dropout import dropout_keys
from postrain.accumulate import watched
from postrain.errors import ModeError
from postrain.modes._base import OwnUpdate
from postrain.modes._layered import Layered, in_posits, layers_of
from postrain.nn.passage import parts
from postrain.optim._parts import step_part


class Fused(OwnUpdate):
    """Reverse mode in which no two layers' gradients exist together.

    The weights after a step have the bits of `reverse`: a parameter's update depends on its own gradient only, and
    comes after the last use of its old value.

    With micro-batches, and on several workers, the loss must be a sum.  Gradients are then exact sums, each divided by
    the number of targets and rounded once, with the bits of `accumulate`; they take 8 to 16 bytes an element of a
    posit16 model (where `accumulate` takes 72) from the first micro-batch on, and a layer's are brought together,
    rounded, applied and freed in the last one.

    Raises:
        ModeError: micro-batches of a model that is not in posits, whose gradients would have to wait for each other;
            and see `OwnUpdate`.

    Source:
        Lv et al., Full parameter fine-tuning for large language models with limited resources (LOMO), arXiv
        2306.09782.
    """

    name = "fused"
    on_workers = True

    def check(self) -> None:
        """Refuse micro-batches of float32."""
        self._summed = self.settings.micro_batch is not None or self.workers is not None
        if self._summed and not in_posits(self.model):
            raise ModeError(
                "mode 'fused' frees a gradient before the next micro-batch could add to it, but where gradients are "
                "exact sums: convert the model to posits, leave out micro_batch, or use mode 'accumulate' or "
                "'reversible'"
            )
        self._layers = layers_of(self.model)
        self._step: Layered | None = None
        self._order: list[int] | None = None  # of layers, as gradients are complete: all ranks must take one
        self._met: list[int] = []
        if self._summed:
            place = {id(each): index for index, layer in enumerate(self._layers) for each in layer}
            self._nodes = watched(self.model, lambda each: self._ready(each, place[id(each)]))

    def run(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        """Forward; backward with an update at every leaf."""
        return self._in_sums(number, samples, x, y) if self._summed else self._at_once(number, samples, x, y)

    def _at_once(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        def update(parameter: Tensor) -> None:
            step_part(self.optimizer, [parameter])

        hooks = [
            each.register_post_accumulate_grad_hook(update)
            for each in self.model.parameters()
            if each.requires_grad
        ]
        try:
            return self._pass(number, samples, x, y)
        finally:
            for hook in hooks:
                hook.remove()

    def _in_sums(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        stages: Sequence[Sequence[Tensor]] = [
            self._layers[index] for index in self._order or range(len(self._layers))
        ]
        try:
            with self.layered(number, y.numel(), stages) as step:
                for rows in parts(len(samples), self.settings.micro_batch):
                    with step.adding():
                        self._step = step if rows.stop >= len(samples) else None
                        step.add_loss(self._pass(number, samples[rows], x[rows], y[rows]))
        finally:
            self._step = None
        self._learn_order()
        return step.loss

    def _pass(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        with dropout_keys(self.settings.seed, number, samples.tolist()):
            loss = self.loss(self.model(x), y)
            self.require_number(loss, number, lambda: self.model(x))
            scale = self.settings.loss_scale
            (loss if scale == 1.0 else loss * scale).backward()
        return float(loss.item())

    def _ready(self, parameter: Tensor, layer: int) -> None:
        """Called in every backward pass; the last one of a step completes gradients."""
        if self._step is None:
            return
        if layer not in self._met:
            self._met.append(layer)
        with torch.no_grad():
            self._step.ready([parameter])

    def _learn_order(self) -> None:
        """After the first step: take the layers in the order in which the last rank, which has samples, met them."""
        if self._order is None:
            met = self._met if self.workers is None else self.workers.team.gather(self._met)[-1]
            self._order = [*met, *(each for each in range(len(self._layers)) if each not in met)]
