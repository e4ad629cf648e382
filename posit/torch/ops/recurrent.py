"""Recurrent layers: LSTM, GRU and plain RNN, through PyTorch's unmodified modules, layer by layer and step by step.

Rounding points, forward.  Pre-activations: the exact sum ``x W_ih + b_ih + h W_hh + b_hh``, one rounding.  Gates:
correctly rounded.  LSTM: ``c' = f c + i g`` one rounding, ``tanh c'`` one, ``h' = o tanh c'`` one.  GRU: the two
halves of the candidate, ``x W_in + b_in`` and ``h W_hn + b_hn``, one rounding each, their combination
``a + r b`` one, ``h' = (1 - z) n + z h`` one.

Backward, over the stored posits.  Gradients of pre-activations: one rounding of the whole product (for GRU's reset
gate and the hidden half of its candidate, from the rounded gradient of the candidate).  The cell's gradient: the exact
sum of its two contributions, one rounding.  The hidden state's: the exact sum over all gates and the output's
gradient, one rounding (GRU: the part that goes past the gates joins the output's gradient in a rounding before).
Parameters: the exact sum over all time steps and the batch, one rounding, or none where it is kept as a `GradientSum`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from posit.errors import FormatMismatch, NoRuleError
from posit.torch.ops.recurrence import Layer
from posit.torch.policy import in_backward, phase
from posit.torch.registry import calling_module, register_function
from posit.torch.tensor import PositTensor


@register_function(torch.lstm)
def lstm(*args: Any) -> tuple[Any, Any, Any]:
    """``torch.lstm`` as `torch.nn.LSTM` calls it: output, last hidden states, last cell states."""
    output, hidden, cell = _layers("lstm", *args)
    return output, hidden, cell


@register_function(torch.gru)
def gru(*args: Any) -> tuple[Any, Any]:
    """``torch.gru`` as `torch.nn.GRU` calls it: output, last hidden states."""
    return _layers("gru", *args)[:2]


@register_function(torch.rnn_tanh)
def rnn_tanh(*args: Any) -> tuple[Any, Any]:
    """``torch.rnn_tanh`` as `torch.nn.RNN` calls it: output, last hidden states."""
    return _layers("rnn_tanh", *args)[:2]


@register_function(torch.rnn_relu)
def rnn_relu(*args: Any) -> tuple[Any, Any]:
    """``torch.rnn_relu`` as `torch.nn.RNN` calls it: output, last hidden states."""
    return _layers("rnn_relu", *args)[:2]


@register_function(torch.lstm_cell)
def lstm_cell(
    x: PositTensor, states: Sequence[Any], w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> tuple[Any, Any]:
    """One step, as `torch.nn.LSTMCell` calls it: hidden and cell state."""
    _, hidden, cell = _one_direction("lstm", x.unsqueeze(0), states, (w_ih, w_hh, b_ih, b_hh), False)
    return hidden, cell


@register_function(torch.gru_cell)
def gru_cell(x: PositTensor, state: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """One step, as `torch.nn.GRUCell` calls it."""
    return _one_direction("gru", x.unsqueeze(0), [state], (w_ih, w_hh, b_ih, b_hh), False)[1]


@register_function(torch.rnn_tanh_cell)
def rnn_tanh_cell(
    x: PositTensor, state: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Any:
    """One step, as `torch.nn.RNNCell` calls it."""
    return _one_direction("rnn_tanh", x.unsqueeze(0), [state], (w_ih, w_hh, b_ih, b_hh), False)[1]


@register_function(torch.rnn_relu_cell)
def rnn_relu_cell(
    x: PositTensor, state: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> Any:
    """One step, as `torch.nn.RNNCell` with ``nonlinearity="relu"`` calls it."""
    return _one_direction("rnn_relu", x.unsqueeze(0), [state], (w_ih, w_hh, b_ih, b_hh), False)[1]


def _layers(
    kind: str,
    x: Any,
    states: Any,
    weights: Any,
    biases: Any,
    layers: Any,
    dropout: Any,
    training: Any,
    bidirectional: Any,
    batch_first: Any = None,
) -> tuple[Any, Any, Any]:
    """Output, last hidden states and last cell states (None where there are none) of stacked layers."""
    if isinstance(biases, (list, tuple)):  # data, batch sizes, states, weights, …
        raise NoRuleError(
            f"{kind} of posits takes no PackedSequence{calling_module()}; "
            "pad the batch (pad_sequence) and mask the loss"
        )
    directions = 2 if bidirectional else 1
    each = 4 if biases else 2
    if len(weights) != each * layers * directions:
        raise NoRuleError(f"{kind} of posits has no proj_size{calling_module()}; put an nn.Linear behind it")
    states = states if isinstance(states, (list, tuple)) else [states]
    found: list[tuple[Any, ...]] = []
    x = x.transpose(0, 1) if batch_first else x
    for layer in range(layers):
        for number in range(layer * directions, (layer + 1) * directions):
            own = [*weights[each * number : each * (number + 1)], None, None][:4]
            start = [state[number] for state in states]
            found.append(_one_direction(kind, x, start, own, reverse=number % directions == 1))
        outputs = [parts[0] for parts in found[-directions:]]
        x = outputs[0] if directions == 1 else torch.cat(outputs, 2)
        if dropout and training and layer < layers - 1:
            x = functional.dropout(x, dropout, True)
    hidden = torch.stack([parts[1] for parts in found])
    cell = torch.stack([parts[2] for parts in found]) if kind == "lstm" else None
    return x.transpose(0, 1) if batch_first else x, hidden, cell


def _one_direction(kind: str, x: Any, states: Sequence[Any], weights: Sequence[Any], reverse: bool) -> Any:
    """Output (time, batch, hidden), last hidden state and last cell state or None."""
    for given in (x, *weights):
        if given is not None and not isinstance(given, PositTensor):
            raise FormatMismatch(
                f"{kind} got a {given.dtype} operand among PositTensors{calling_module()}; "
                "round it with posit_tensor(x, fmt) first"
            )
    start = [_initial(kind, state, x) for state in states]
    with phase(backward=in_backward()):
        return Layer.apply(kind, reverse, x, start[0], start[1] if len(start) > 1 else None, *weights)  # type: ignore[no-untyped-call]


def _initial(kind: str, state: Any, x: PositTensor) -> PositTensor:
    """An initial state; the zeros of torch.float32 that PyTorch's modules make are those of posits."""
    if isinstance(state, PositTensor):
        return state
    if bool(state.any()):
        raise FormatMismatch(
            f"{kind} got an initial state of {state.dtype}{calling_module()}; "
            "round it with posit_tensor(x, fmt) first"
        )
    return x.like(x.codes.new_zeros(state.shape))
