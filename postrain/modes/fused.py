"""Mode `fused`: a parameter is updated inside the backward pass, as soon as its gradient is there, which is freed."""

from torch import Tensor

from posit.torch.ops.dropout import dropout_keys
from postrain.errors import ModeError
from postrain.modes._base import OwnUpdate
from postrain.optim._parts import step_part


class Fused(OwnUpdate):
    """Reverse mode in which no two layers' gradients exist together.

    The weights after a step have the bits of `reverse`: a parameter's update depends on its own gradient only, and
    comes after the last use of its old value.

    Raises:
        ModeError: micro-batches, whose gradients would have to wait for each other; and see `OwnUpdate`.

    Source:
        Lv et al., Full parameter fine-tuning for large language models with limited resources (LOMO), arXiv
        2306.09782.
    """

    name = "fused"

    def check(self) -> None:
        """Refuse micro-batches."""
        if self.settings.micro_batch is not None:
            raise ModeError(
                "mode 'fused' frees a gradient before the next micro-batch could add to it; leave out micro_batch, "
                "or use mode 'accumulate' or 'reversible'"
            )

    def run(self, number: int, samples: Tensor, x: Tensor, y: Tensor) -> float:
        """Forward; backward with an update at every leaf."""

        def update(parameter: Tensor) -> None:
            step_part(self.optimizer, [parameter])

        hooks = [
            each.register_post_accumulate_grad_hook(update)
            for each in self.model.parameters()
            if each.requires_grad
        ]
        try:
            with dropout_keys(self.settings.seed, number, samples.tolist()):
                loss = self.loss(self.model(x), y)
                self.require_number(loss, number, lambda: self.model(x))
                scale = self.settings.loss_scale
                (loss if scale == 1.0 else loss * scale).backward()
        finally:
            for hook in hooks:
                hook.remove()
        return float(loss.item())
