"""One direction of one recurrent layer: its steps, and backpropagation through them.

Each step is one contraction ``[x h 1 1] [W_ih W_hh b_ih b_hh]^T``, so that all of a pre-activation meets in one exact
sum; the gradients of all four parameters are one contraction over the time steps and the batch.  The rounding points
are those `posit.torch.ops.recurrent` states.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from posit import _buffers
from posit._elementary import evaluate
from posit._polynomials import Leaf, leaf, sum_of_products
from posit.codec import Codes, signed_storage
from posit.errors import FormatMismatch, ShapeError
from posit.formats import Format
from posit.torch.accumulation import sums_for
from posit.torch.derivative import OnceDifferentiable
from posit.torch.ops.cells import KINDS, Tape
from posit.torch.ops.contractions import product
from posit.torch.registry import calling_module
from posit.torch.tensor import Outcome, PositTensor, convert_codes, outcome, to_numpy


class Layer(OnceDifferentiable):
    """(kind, reverse, x, h0, c0 or None, W_ih, W_hh, b_ih or None, b_hh or None) to (output, h, c or None)."""

    @staticmethod
    def forward(ctx: Any, kind: str, reverse: bool, x: Any, h0: Any, c0: Any, *weights: Any) -> Any:
        """All steps, from first to last; x is (time, batch, inputs)."""
        cell = KINDS[kind]
        present = [weight for weight in weights if weight is not None]
        result = outcome(kind, x, h0, *present, *([] if c0 is None else [c0]))
        _check(kind, x, h0, weights, cell)
        steps, batch, inputs = x.shape
        tape = Tape(result, steps, batch, cell.blocks, h0.shape[-1])
        tape.hidden[0] = to_numpy(result.cast(h0).codes)
        if c0 is not None:
            tape.with_cells()
            tape.cells[0] = to_numpy(result.cast(c0).codes)
        rows, fmt = _rows(kind, x, result, len(present) - 2, tape.width, reverse)
        table, layout = _table(kind, weights, inputs, tape.width)
        place = slice(inputs, inputs + tape.width)
        for t in range(steps):
            rows[t, :, place] = convert_codes(tape.hidden[t], result.format, fmt)
            sums = product(
                kind, PositTensor(torch.from_numpy(rows[t]), fmt, policy=result.policy), _turned(table)
            )
            _activate(cell, tape, t, to_numpy(sums.codes))
            cell.step(tape, t)
        ctx.set_materialize_grads(False)
        ctx.kind, ctx.reverse, ctx.tape, ctx.table, ctx.layout = kind, reverse, tape, table, layout
        ctx.rows, ctx.inputs = PositTensor(torch.from_numpy(rows), fmt, policy=result.policy), inputs
        ctx.sums = [None if weight is None else sums_for(weight) for weight in weights]
        ctx.shapes = [None if weight is None else tuple(weight.shape) for weight in weights]
        output = tape.hidden[1:][::-1] if reverse else tape.hidden[1:]
        last = None if c0 is None else result.wrap(tape.cells[-1].copy())
        return result.wrap(output.copy()), result.wrap(tape.hidden[-1].copy()), last

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """All steps, from last to first."""
        wanted = ctx.needs_input_grad
        given = next((grad for grad in grads if grad is not None), None)
        if given is None:
            return (None,) * len(wanted)
        result = outcome(ctx.kind, given, ctx.table)
        gates, to_hidden, to_cell = _through_time(ctx, result, grads)
        steps, batch, width = gates.shape
        flat = result.wrap(gates.reshape(steps * batch, width))
        to_x = None
        if wanted[2]:
            into = product(ctx.kind, flat, _columns(ctx.table, 0, ctx.inputs))
            to_x = result.like(into.codes.view(steps, batch, ctx.inputs))
            to_x = result.like(to_x.codes.flip(0)) if ctx.reverse else to_x
        to_weights = _to_weights(ctx, flat, wanted[5:])
        return None, None, to_x, to_hidden, to_cell if wanted[4] else None, *to_weights


def _through_time(ctx: Any, result: Outcome, grads: Sequence[Any]) -> tuple[Codes, PositTensor, Any]:
    """Gradients of all pre-activations, and of the states before the first step."""
    tape, cell, fmt = ctx.tape, KINDS[ctx.kind], result.format
    recurrent = _columns(ctx.table, ctx.inputs, tape.width)
    steps, batch = tape.gates.shape[:2]
    storage = signed_storage(fmt)
    gates = _buffers.empty(tape.gates.shape, storage)
    output, last, last_cell = (None if grad is None else to_numpy(result.cast(grad).codes) for grad in grads)
    if output is not None and ctx.reverse:
        output = output[::-1]

    straight: list[list[Leaf]] = [] if last is None else [[leaf(last, fmt)]]
    to_cell: list[list[Leaf]] = [] if last_cell is None else [[leaf(last_cell, fmt)]]
    for t in range(steps, -1, -1):
        if t and output is not None and not straight:
            addend = output[t - 1]
        else:
            from_output = [[leaf(output[t - 1], fmt)]] if t and output is not None else []
            terms = [*from_output, *straight] or [[leaf(np.zeros((batch, tape.width), storage), fmt)]]
            addend = sum_of_products(fmt, *terms)
        if t < steps:
            hidden = product(ctx.kind, result.wrap(gates[t]), recurrent, result.wrap(addend))
        else:
            hidden = result.wrap(addend)
        if t:
            own, straight, to_cell = cell.back(tape, t - 1, fmt, leaf(to_numpy(hidden.codes), fmt), to_cell)
            gates[t - 1] = np.concatenate(own, axis=1)
    before = result.wrap(sum_of_products(fmt, *to_cell)) if to_cell else None
    return gates, hidden, before


def _to_weights(ctx: Any, flat: PositTensor, wanted: Sequence[bool]) -> list[PositTensor | None]:
    """Gradients of W_ih, W_hh, b_ih and b_hh: one product over time and batch, or exact into their sums."""
    rows = ctx.rows.like(ctx.rows.codes.reshape(flat.shape[0], -1))
    back = flat.like(flat.codes.t())
    rounded = [want and total is None for want, total in zip(wanted, ctx.sums, strict=True)]
    whole = product(ctx.kind, back, rows) if any(rounded) else None
    found: list[PositTensor | None] = []
    for shape, want, total, (taken, columns) in zip(ctx.shapes, wanted, ctx.sums, ctx.layout, strict=True):
        if not want or shape is None:
            found.append(None)
        elif total is None:
            assert whole is not None
            part = whole.codes[torch.from_numpy(taken)][:, columns]
            found.append(whole.like(part.reshape(shape)))
        else:
            picked = back.like(back.codes[torch.from_numpy(taken)])
            total.add_product(picked, rows.like(rows.codes[:, columns]))
            found.append(None)
    return found


def _rows(
    kind: str, x: PositTensor, result: Outcome, biases: int, width: int, reverse: bool
) -> tuple[Codes, Format]:
    """[x h 1 1] for all steps in one format, h yet to be filled in."""
    fmt = common_format(kind, [x.format, result.format])
    steps, batch, inputs = x.shape
    rows = _buffers.empty((steps, batch, inputs + width + biases), signed_storage(fmt))
    given = convert_codes(to_numpy(x.codes), x.format, fmt)
    rows[:, :, :inputs] = given[::-1] if reverse else given
    rows[:, :, inputs + width :] = 1 << (fmt.nbits - 2)
    return rows, fmt


def _table(
    kind: str, weights: Sequence[Any], inputs: int, width: int
) -> tuple[PositTensor, list[tuple[Any, slice]]]:
    """[W_ih W_hh b_ih b_hh] in one format, and which rows and columns of it each parameter takes.

    GRU's candidate has two lines of rows, one of W_ih and b_ih and one of W_hh and b_hh, with zeros beside them.
    """
    fmt = common_format(kind, [weight.format for weight in weights if weight is not None])
    blocks = KINDS[kind].blocks
    first = np.arange(weights[0].shape[0])
    split = kind == "gru"
    second = np.concatenate([first[: 2 * width], first[2 * width :] + width]) if split else first
    ends = np.cumsum([inputs, width, *(1 for weight in weights[2:] if weight is not None)]).tolist()
    table = np.zeros((blocks * width, ends[-1]), signed_storage(fmt))
    layout: list[tuple[Any, slice]] = []
    start = 0
    for number, weight in enumerate(weights):
        if weight is None:
            layout.append((first, slice(0, 0)))
            continue
        rows, columns = (second if number % 2 else first), slice(start, ends[len(layout)])
        codes = convert_codes(to_numpy(weight.codes), weight.format, fmt)
        table[rows, columns] = codes.reshape(len(first), -1)
        layout.append((rows, columns))
        start = columns.stop
    return PositTensor(torch.from_numpy(table), fmt, policy=weights[0].policy), layout


def _activate(cell: Any, tape: Tape, t: int, sums: Codes) -> None:
    """Write the gates of one step: sigmoid or tanh of the pre-activations, or themselves."""
    width = tape.width
    for block, name in enumerate(cell.activations):
        part = slice(block * width, (block + 1) * width)
        own = sums[:, part]
        tape.gates[t][:, part] = evaluate(name, own, tape.result.format) if name else own


def common_format(kind: str, formats: Sequence[Format]) -> Format:
    """The widest of formats of which each holds the values of the narrower ones.

    Raises:
        FormatMismatch: they differ in more than their width.
    """
    widest = max(formats, key=lambda fmt: fmt.nbits)
    if any((fmt.es, fmt.max_regime) != (widest.es, widest.max_regime) for fmt in formats):
        names = ", ".join(sorted({fmt.name for fmt in formats}))
        raise FormatMismatch(
            f"{kind} adds products of operands in {names} exactly only where these differ in width alone"
            f"{calling_module()}; give them formats of one family"
        )
    return widest


def _turned(table: PositTensor) -> PositTensor:
    return table.like(table.codes.t())


def _columns(table: PositTensor, start: int, count: int) -> PositTensor:
    return table.like(table.codes[:, start : start + count])


def _check(kind: str, x: PositTensor, h0: PositTensor, weights: Sequence[Any], cell: Any) -> None:
    width, lines = h0.shape[-1], {"gru": 3}.get(kind, cell.blocks)
    wanted = [(lines * width, x.shape[-1]), (lines * width, width), (lines * width,), (lines * width,)]
    for weight, shape in zip(weights, wanted, strict=True):
        if weight is not None and tuple(weight.shape) != shape:
            raise ShapeError(
                f"{kind} of {x.shape[-1]} inputs and {width} hidden numbers needs a parameter of shape {shape}, "
                f"got {tuple(weight.shape)}{calling_module()}"
            )
    if (weights[2] is None) != (weights[3] is None):
        raise ShapeError(f"{kind} needs both biases or none{calling_module()}")
    if x.ndim != 3 or x.shape[0] == 0 or tuple(h0.shape) != (x.shape[1], width):
        raise ShapeError(
            f"{kind} needs at least one step (time, batch, inputs) and states (batch, hidden), got "
            f"{tuple(x.shape)} and {tuple(h0.shape)}{calling_module()}"
        )
