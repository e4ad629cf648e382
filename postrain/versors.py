"""Versors as posit parameters: what `postrain.convert` makes of a `ga.VersorParameter`.

As in floats, what an optimizer sees is a bivector b that reads as zero, and the versor is R exp(F b), F the frame of
the parameter's metric.  The optimizers of `postrain.optim` end their update by R ← R exp(F b), b ← 0.

Rounding points: each coefficient of the new R once, from the real value of the renormalized R exp(F b)
(`postrain._retraction`); each gradient of R once, by what R entered, and each gradient of b once, over all terms
(products of a frame's, a gradient's and a versor's coefficient).  So gradients of b depend on how a batch is split:
`postrain.accumulate` refuses them.  F is formed in float64 and rounded to at most 16 bits: it only says which steps are
equally long.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ga._frames import frame_of
from ga.layout import Layout
from ga.multivector import Multivector
from ga.plan import plan_for
from ga.versor import versor_error
from ga.versor_parameter import VersorParameter, renormalized
from posit._planes import Terms
from posit.formats import Format
from posit.torch import Policy, PositTensor, posit_tensor
from posit.torch.derivative import OnceDifferentiable
from posit.torch.tensor import convert_codes, to_numpy
from postrain._retraction import Versors, retracted
from postrain.errors import RecipeError
from postrain.geometric import sum_planes
from postrain.optim._increment import Increment

_FRAME_BITS = 16  #: of a number of the frame at most
_ROUNDINGS = 16.0  #: of a coefficient, by which a saved versor may be off


class PositVersor(Increment):
    """A rotor, motor, Lorentz or conformal rotor, or unit versor in posits; ``multivector`` is the versor.

    `postrain.convert` makes it of a `ga.VersorParameter`, whose properties ``blades``, ``metric``, ``base`` and
    ``multivector`` it has.  As a tensor it is the increment b, shape ``(bivectors, *batch)``, 0 whenever no update is
    under way; ``state_dict`` holds the planes of R as posits, bit for bit.  Optimizers of `postrain.optim` move it
    along the group; their ``master_format`` keeps R in that format too, where small steps are not lost.

    >>> import postrain, posit
    >>> from ga import VGA3, exp
    >>> class Turn(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.by = VersorParameter(exp(VGA3.bivector([0.0, 0.0, 0.0])))
    ...     def forward(self, x):
    ...         return self.by.multivector >> Multivector(x, Layout.of_grades(VGA3, 1))
    >>> turn = postrain.convert(Turn(), "posit16")
    >>> optimizer = postrain.optim.SGD(turn.named_parameters(), lr=0.2)
    >>> e1, e2 = torch.eye(3)[:2]
    >>> for _ in range(40):  # find the rotor that takes e1 to e2
    ...     optimizer.zero_grad()
    ...     missing = turn(e1).planes - posit.torch.cast(posit_tensor(e2, "posit16"), policy=turn.by.policy)
    ...     torch.autograd.backward((missing * missing).sum())
    ...     optimizer.step()
    >>> turn(e1).planes.to_float().round(decimals=2)
    tensor([0., 1., 0.])
    >>> turn.by.base
    Multivector(0.707275 e - 0.707031 e12 + 0.0 e13 + 0.0 e23, Cl(3,0,0)[0,2], rotor)
    """

    blades: Layout  #: layout of B
    metric: str  #: ``"action"``, ``"versor"`` or ``"bivector"``
    _versor: Multivector
    _frame: PositTensor | None
    _frame_of: int

    @classmethod
    def of(cls, parameter: VersorParameter, fmt: Format, policy: Policy | None) -> Self:
        """The versor of a float parameter, rounded once."""
        base = parameter.multivector.detach()
        rounded = posit_tensor(base.planes, fmt)
        versor = Multivector(PositTensor(rounded.codes, fmt, policy=policy), base.layout, base.constraint)
        return cls._around(versor, parameter.blades, parameter.metric, parameter.requires_grad)

    @classmethod
    def _around(cls, versor: Multivector, blades: Layout, metric: str, requires_grad: bool) -> Self:
        planes: Any = versor.planes
        codes = torch.zeros((len(blades), *versor.shape), dtype=planes.codes.dtype)
        self: Self = cls(codes, planes.format, requires_grad=requires_grad, policy=planes.policy)
        self._is_param = True
        self.blades, self.metric, self._versor, self._frame_of = blades, metric, versor, -1
        return self

    @property
    def base(self) -> Multivector:
        """R, the versor as of the last step, without history."""
        return self._versor

    @property
    def multivector(self) -> Multivector:
        """The versor R exp(F b), typed, shape ``(*batch)``: what to compute with.

        Raises:
            RecipeError: its derivative is asked for while an increment is not 0.
        """
        planes = _Value.apply(self, self)  # type: ignore[no-untyped-call]
        return Multivector(planes, self._versor.layout, self._versor.constraint)

    @property
    def frame(self) -> PositTensor | None:
        """F, shape ``(bivectors, bivectors, *batch)``; None is the unit matrix."""
        codes = self.held.codes
        if self._frame_of != codes._version:
            real = frame_of(self.metric, self._in_floats(), self.blades)
            fmt = self.format
            narrow = Format(min(fmt.nbits, _FRAME_BITS), fmt.es, fmt.max_regime)
            self._frame = None if real is None else posit_tensor(real, narrow)
            self._frame_of = codes._version
        return self._frame

    @torch.no_grad()
    def retract_(self, increment: PositTensor | None = None, master: PositTensor | None = None) -> Self:
        """Move an increment into R and make it zero: R ← R exp(F b), renormalized and rounded once.

        Args:
            increment: Other increments than its own, of this shape.
            master: Planes of R in another format, which are moved; R becomes what they are, rounded once more.

        Raises:
            ConstraintError: an increment is too long to be meant: its coefficients' magnitudes add up to more than 64.
        """
        increment = self if increment is None else increment
        if bool(increment.codes.any()):
            held = self.held if master is None else master
            held.codes.copy_(self._moved(increment, held))
            if master is not None:
                rounded = convert_codes(to_numpy(master.codes), master.format, self.format)
                self.held.codes.copy_(torch.from_numpy(rounded))
        increment.codes.zero_()
        self.codes.detach().zero_()
        return self

    def planes_in(self, fmt: Format) -> PositTensor:
        """A copy of the planes of R in another format, each rounded once."""
        codes = convert_codes(to_numpy(self.held.codes), self.format, fmt)
        return PositTensor(torch.from_numpy(codes.copy()), fmt)

    def reformat_(self, fmt: Format, policy: Policy | None) -> Self:
        """Hold R in another format, each coefficient rounded once more, with another policy."""
        planes = self.planes_in(fmt)
        held = PositTensor(planes.codes, fmt, policy=policy)
        self._versor = Multivector(held, self._versor.layout, self._versor.constraint)
        if fmt != self.format:
            self._codes = torch.zeros(tuple(self.shape), dtype=planes.codes.dtype)
            self._format, self.grad = fmt, None
        self._policy, self._frame_of = policy, -1
        return self

    def to_parameter(self) -> VersorParameter:
        """The versor as a float32 parameter, renormalized in float64."""
        planes = renormalized(self._in_floats())
        near = Multivector(planes.planes.float(), planes.layout, planes.constraint)
        return VersorParameter(near, self.metric, self.blades, self.requires_grad)

    @property
    def held(self) -> PositTensor:
        """The planes of R."""
        planes: Any = self._versor.planes
        return planes  # type: ignore[no-any-return]

    def watch(self, module: nn.Module) -> None:
        """Make a module save and load the planes of its posit versors."""
        if _save not in module._state_dict_hooks.values():
            module.register_state_dict_post_hook(_save)
            module.register_load_state_dict_pre_hook(_load)

    def _in_floats(self) -> Multivector:
        planes = self.held.to_float(torch.float64)
        return Multivector(planes, self._versor.layout, self._versor.constraint)

    def _moved(self, increment: PositTensor, held: PositTensor) -> torch.Tensor:
        """Codes of the planes of `held`, a copy of R, after an increment."""
        frame = self.frame
        size = max(1, int(np.prod(self._versor.shape)))
        batch_first = [
            np.ascontiguousarray(np.moveaxis(each.values().reshape(*each.shape[:rank], size), -1, 0))
            for each, rank in ((held, 1), (increment, 1), *(((frame, 2),) if frame is not None else ()))
        ]
        planes, increments, *rest = batch_first
        versors = Versors(
            self._versor.layout,
            self.blades,
            planes,
            increments,
            rest[0] if rest else None,
            self.metric == "action",
        )
        codes = np.moveaxis(retracted(versors, held.format), 0, -1)
        return torch.from_numpy(np.ascontiguousarray(codes).reshape(tuple(held.shape)))

    def __deepcopy__(self, memo: dict[int, Any]) -> PositVersor:
        if id(self) not in memo:
            planes = self.held
            held = PositTensor(planes.codes.clone(), planes.format, policy=planes.policy)
            versor = Multivector(held, self._versor.layout, self._versor.constraint)
            copied = self._around(versor, self.blades, self.metric, self.requires_grad)
            copied.codes.detach().copy_(self.codes)
            memo[id(self)] = copied
        found: PositVersor = memo[id(self)]
        return found

    def __repr__(self, *, tensor_contents: object = None) -> str:  # type: ignore[override]  # torch leaves it untyped
        return f"PositVersor({self._versor!r}, {self.format}, requires_grad={self.requires_grad})"


class _Value(OnceDifferentiable):
    """R exp(F b); its gradient at b = 0."""

    @staticmethod
    def forward(ctx: Any, increment: Any, parameter: PositVersor) -> Any:
        ctx.parameter = parameter
        ctx.moved = bool(increment.codes.any())
        held = parameter.held
        codes = parameter._moved(increment, held) if ctx.moved else held.codes.clone()
        planes = PositTensor(codes, held.format, policy=held.policy)
        ctx.save_for_backward(planes)
        ctx.frame = parameter.frame
        return planes

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        if ctx.moved:
            raise RecipeError(
                f"the gradient of a versor in posits is that at increment 0; call retract_() on {ctx.parameter!r} first"
            )
        (planes,), parameter = ctx.saved_tensors, ctx.parameter
        terms = _gradient_terms(parameter._versor.layout, parameter.blades, ctx.frame is not None)
        operands = [grad, planes] if ctx.frame is None else [ctx.frame.flatten(0, 1), grad, planes]
        return sum_planes("versor", operands, terms, tuple(planes.shape[1:])), None


@lru_cache(maxsize=64)
def _gradient_terms(layout: Layout, blades: Layout, framed: bool) -> Terms:
    """Coordinate c of the gradient: the sum of F_ac g_k (R e_a)_k, or of g_k (R e_c)_k."""
    by_blade: list[list[tuple[int, int, int]]] = [[] for _ in blades.blades]
    plan = plan_for("geometric", layout, blades)  # whose result lies in the layout
    for blade, group in zip(plan.out.blades, plan.by_output, strict=True):
        for term in group:
            by_blade[term.j].append((term.sign, layout.blades.index(blade), term.i))
    if not framed:
        return Terms([(sign, (k, i)) for sign, k, i in terms] for terms in by_blade)
    n = len(blades)
    return Terms(
        [(sign, (a * n + c, k, i)) for a, terms in enumerate(by_blade) for sign, k, i in terms]
        for c in range(n)
    )


def _versors(module: nn.Module) -> list[tuple[str, PositVersor]]:
    own: dict[str, Any] = dict(module._parameters)
    return [(name, p) for name, p in own.items() if isinstance(p, PositVersor)]


def _save(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name, p in _versors(module):
        if prefix + name in state:
            state[prefix + name] = p.held


def _load(
    module: nn.Module,
    state: dict[str, Any],
    prefix: str,
    metadata: Any,
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    for name, p in _versors(module):
        key = prefix + name
        if key not in state:
            continue
        reason = _unfit(state[key], p)
        if reason is None:
            p.held.codes.copy_(state[key].codes)
        else:
            errors.append(f"posit versor {key!r}: {reason}")
        state[key] = p.like(torch.zeros_like(p.codes))


def _unfit(saved: Any, p: PositVersor) -> str | None:
    """Why saved planes are no value of a parameter, if they are none."""
    wanted = p.held
    if not isinstance(saved, PositTensor) or saved.format != wanted.format:
        return f"it takes planes in {wanted.format}; load before converting, or planes saved in that format"
    if saved.shape != wanted.shape:
        return f"it takes planes of shape {tuple(wanted.shape)}, got {tuple(saved.shape)}"
    real = Multivector(saved.to_float(torch.float64), p.base.layout)
    size = real.planes.square().sum(0).clamp(min=1)
    allowed = _ROUNDINGS * 2.0**-wanted.format.fraction_bits
    error = versor_error(real) / size
    if bool(error.isfinite().all()) and bool((error <= allowed).all()):
        return None
    return (
        f"R ~R differs from 1 by {float(error.max()):.2g} of its size, which is no versor in {wanted.format}"
    )
