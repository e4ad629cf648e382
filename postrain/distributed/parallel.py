"""`DataParallel`: a converted model on several ranks, in the manner of torch's DistributedDataParallel."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from posit.torch import PositTensor
from postrain.distributed.buckets import BUCKET_BYTES, Buckets
from postrain.distributed.group import current
from postrain.distributed.handshake import require_equal
from postrain.distributed.sync import GradientSync
from postrain.distributed.team import Team
from postrain.errors import OptionsError

SAMPLES = "samples"


class DataParallel(nn.Module):
    """Train a converted model on all ranks of a process group, with the same bits for every number of ranks.

    Use it as DistributedDataParallel: call it on this rank's samples, call ``backward()`` on the loss, step the
    optimizer.  At the end of the backward pass the exact sums of all ranks come together, and each gradient is divided
    once and rounded once; layers whose gradients are complete travel while the layers before them are still at work.
    Losses must be sums over samples (``reduction="sum"``): a mean over a share is rounded, and depends on the share.

    Args:
        module: A converted model; rank 0's weights and buffers are copied to all ranks.
        divisor: What gradients are divided by: ``"samples"`` for the rows of the first argument, counted over all
            passes and ranks of the step; or a whole number; or None for plain sums.
        bucket_bytes: Of a buffer of the exchange; there are two, and they are all that it allocates.
        team: By default the process group that torch was initialised with.

    Raises:
        RecipeError: the model is not exact (not in posits, batch statistics, scaling by the largest magnitude), or the
            ranks differ in code, formats or shapes.
        OptionsError: a divisor that is none of the above.

    Errors in training are the same on every rank: `NaRError` with rank and parameter, `WorkerError` for a rank that
    fails or is lost.  A rank without samples calls `synchronize` instead of a backward pass.

    >>> import tempfile, torch.distributed
    >>> from postrain import convert
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     torch.distributed.init_process_group("gloo", init_method=f"file://{file.name}", rank=0, world_size=1)
    ...     model = DataParallel(convert(nn.Linear(2, 1, bias=False), "posit16"))
    ...     with model.no_sync():
    ...         model(torch.tensor([[1.0, 2.0]])).sum().backward()
    ...     model(torch.tensor([[3.0, 5.0]])).sum().backward()
    ...     torch.distributed.destroy_process_group()
    >>> model.module.weight.grad.tolist()
    [[2.0, 3.5]]
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        divisor: int | str | None = SAMPLES,
        bucket_bytes: int = BUCKET_BYTES,
        team: Team | None = None,
    ) -> None:
        super().__init__()
        if not (divisor is None or divisor == SAMPLES or (isinstance(divisor, int) and divisor > 0)):
            raise OptionsError(f'divisor must be "samples", a positive whole number or None, got {divisor!r}')
        self.module = module
        self.divisor = divisor
        self._team = current() if team is None else team
        self._sync = self._team.together(lambda: GradientSync(module, Buckets(self._team, bucket_bytes)))
        require_equal(self._team, kinds(module))
        copy_from_first(self._team, module)
        self._samples = 0
        self._together = True
        self._step = 0

    @property
    def comm_bytes(self) -> int:
        """Bytes of the buffers of the exchange, for the memory account."""
        return self._sync.buckets.nbytes

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The module's output; in training, its backward pass adds to the exact sums."""
        if not (self.training and torch.is_grad_enabled()):
            return self.module(*inputs, **named)
        if self._sync.sums is None:
            self._open()
        self._samples += next((len(x) for x in inputs if isinstance(x, torch.Tensor) and x.ndim), 0)
        with self._sync.adding():
            outputs = self.module(*inputs, **named)
        self._sync.arm(self._together)
        if self._together:
            _at_backward(outputs, self._in_backward)
        return outputs

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Passes in this context only add to this rank's sums; the next one outside brings all together."""
        before, self._together = self._together, False
        try:
            yield
        finally:
            self._together = before

    def synchronize(self) -> None:
        """Bring the sums together now: for a rank that has no samples in this step.

        Raises:
            NaRError: a NaR on any rank, with rank, step and parameter.
            WorkerError: a rank failed or was lost.
        """
        if self._sync.sums is None:
            self._open()
        samples, self._samples = self._samples, 0
        try:
            (total,) = self._sync.close([samples])
        except BaseException:
            self._sync.sums = None
            raise
        divisor = total if self.divisor == SAMPLES else self.divisor
        self._sync.round(max(1, int(divisor or 1)))

    def _open(self) -> None:
        self._step += 1
        self._sync.open(self._step)

    def _in_backward(self) -> None:
        """Called when a backward pass through our outputs begins; what follows its end is the exchange."""
        if self._sync.sums is not None and self._together:
            torch.autograd.Variable._execution_engine.queue_callback(self._finish)

    def _finish(self) -> None:
        if self._sync.sums is not None:
            self.synchronize()


def _at_backward(outputs: Any, call: Any) -> None:
    """Call when the gradient of any output arrives."""
    if isinstance(outputs, torch.Tensor):
        if outputs.requires_grad:
            outputs.register_hook(lambda _: call())
    elif isinstance(outputs, dict):
        _at_backward(list(outputs.values()), call)
    elif isinstance(outputs, (tuple, list)):
        for each in outputs:
            _at_backward(each, call)


def kinds(module: nn.Module) -> dict[str, Any]:
    """Names, formats and shapes of what the module holds, and its policies."""
    kinds = {}
    for name, each in module.state_dict(keep_vars=True).items():
        fmt = str(each.format) if isinstance(each, PositTensor) else str(each.dtype)
        kinds[name] = f"{fmt} {tuple(each.shape)} {getattr(each, 'policy', None)}"
    return {"module": kinds}


def copy_from_first(team: Team, module: nn.Module) -> None:
    """Give all ranks the weights and buffers of rank 0; they are of the same kinds."""
    with torch.no_grad():
        for each in module.state_dict(keep_vars=True).values():
            plain = each.codes if isinstance(each, PositTensor) else each
            raw = plain.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            data = team.share(raw if team.first else None)
            if data and not team.first:
                plain.copy_(torch.frombuffer(bytearray(data), dtype=plain.dtype).reshape(plain.shape))
