"""From one format or policy to another, with a derivative: what stands between modules of different recipes."""

from typing import Any

from posit.formats import Format
from posit.torch._settle import settled
from posit.torch.derivative import OnceDifferentiable
from posit.torch.policy import Policy
from posit.torch.tensor import Outcome, PositTensor


def cast(
    x: PositTensor,
    fmt: Format | None = None,
    *,
    policy: Policy | None = None,
    like: PositTensor | None = None,
) -> PositTensor:
    """`x` rounded to another format, each element once; its gradient is rounded back the same way.

    Args:
        x: Posits of any shape.
        fmt: The format; by default the policy's for activations.
        policy: The policy of the result; where it scales, the result is rounded to its grid too.
        like: A tensor whose policy to take instead.

    Returns:
        Posits in `fmt` with the policy.  In the backward pass the gradient takes on x's policy, and its format for
        gradients; without a policy, x's own format.

    >>> import torch
    >>> from posit import posit8, posit16
    >>> from posit.torch import posit_tensor
    >>> cast(posit_tensor(torch.tensor([0.1]), posit16), posit8)
    PositTensor([0.1015625], posit8)
    """
    wanted = like.policy if like is not None else policy
    if fmt is None:
        fmt = wanted.activations if wanted is not None else (like or x).format
    if fmt == x.format and wanted == x.policy:
        return x
    result: PositTensor = settled(cast, x, lambda: _Cast.apply(x, fmt, wanted))  # type: ignore[no-untyped-call]
    return result


class _Cast(OnceDifferentiable):
    @staticmethod
    def forward(ctx: Any, x: Any, fmt: Format, policy: Policy | None) -> Any:
        ctx.back = Outcome(x.policy.gradients if x.policy else x.format, x.policy)
        return Outcome(fmt, policy).cast(x).clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return ctx.back.cast(grad).clone(), None, None
