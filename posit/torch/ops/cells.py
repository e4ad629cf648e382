"""The cells of recurrent layers: one step forward and back, from pre-activations to states.

The rounding points are those `posit.torch.ops.recurrent` states.
"""

from typing import Any

import numpy as np

from posit import _buffers
from posit._elementary import evaluate
from posit._polynomials import Leaf, leaf, sum_of_products
from posit.codec import Codes, signed_storage
from posit.formats import Format
from posit.torch.tensor import Outcome


class Tape:
    """What the steps of a layer leave for the backward pass; time runs in the layer's own direction.

    Args:
        result: Format and policy of activations.
        steps, batch, blocks, width: Lengths: time, batch, blocks of `width` pre-activations.
    """

    def __init__(self, result: Outcome, steps: int, batch: int, blocks: int, width: int) -> None:
        self.result, self.width = result, width
        self.gates = self._room(steps, batch, blocks * width)
        self.hidden = self._room(steps + 1, batch, width)
        self.cells = self.tanhs = self._room(0, batch, width)

    def with_cells(self) -> None:
        """Room for LSTM's cell states and their tanh."""
        steps, batch, width = self.hidden.shape
        self.cells, self.tanhs = self._room(steps, batch, width), self._room(steps - 1, batch, width)

    def _room(self, *shape: int) -> Codes:
        return _buffers.empty(shape, signed_storage(self.result.format))

    def leaf(self, codes: Codes) -> Leaf:
        """Activations as factors."""
        return leaf(codes, self.result.format)

    def gate(self, t: int, block: int) -> Leaf:
        """A gate of one step as factors."""
        return self.leaf(self.gates[t][:, block * self.width : (block + 1) * self.width])


class Lstm:
    """Gates i, f, g, o; ``c' = f c + i g``, ``h' = o tanh(c')``."""

    blocks = 4
    activations = ("sigmoid", "sigmoid", "tanh", "sigmoid")

    @staticmethod
    def step(tape: Tape, t: int) -> None:
        """From the gates of step t and the states before it to the states after it."""
        fmt = tape.result.format
        i, f, g, o = (tape.gate(t, block) for block in range(4))
        tape.cells[t + 1] = sum_of_products(fmt, [f, tape.leaf(tape.cells[t])], [i, g])
        tape.tanhs[t] = evaluate("tanh", tape.cells[t + 1], fmt)
        tape.hidden[t + 1] = sum_of_products(fmt, [o, tape.leaf(tape.tanhs[t])])

    @staticmethod
    def back(
        tape: Tape, t: int, fmt: Format, hidden: Leaf, cell: list[list[Leaf]]
    ) -> tuple[list[Codes], list[list[Leaf]], list[list[Leaf]]]:
        """Gradients of the pre-activations; the terms that pass to the hidden and to the cell state before."""
        i, f, g, o = (tape.gate(t, block) for block in range(4))
        tanh = tape.leaf(tape.tanhs[t])
        into = sum_of_products(fmt, [hidden, o, tanh.complement, tanh.successor], *cell)
        own = leaf(into, fmt)
        gates = [
            sum_of_products(fmt, [own, g, i, i.complement]),
            sum_of_products(fmt, [own, tape.leaf(tape.cells[t]), f, f.complement]),
            sum_of_products(fmt, [own, i, g.complement, g.successor]),
            sum_of_products(fmt, [hidden, tanh, o, o.complement]),
        ]
        return gates, [], [[own, f]]


class Gru:
    """Gates r, z; candidate ``n = tanh(a + r b)`` of its halves a and b; ``h' = (1 - z) n + z h``.

    The candidate takes a's place on the tape.
    """

    blocks = 4
    activations = ("sigmoid", "sigmoid", "", "")

    @staticmethod
    def step(tape: Tape, t: int) -> None:
        """From the pre-activations of step t and the state before it to the state after it."""
        fmt, width = tape.result.format, tape.width
        r, z, a, b = (tape.gate(t, block) for block in range(4))
        one = Leaf(np.ones_like(a.values), fmt)
        n = evaluate("tanh", sum_of_products(fmt, [one, a], [r, b]), fmt)
        tape.gates[t][:, 2 * width : 3 * width] = n
        tape.hidden[t + 1] = sum_of_products(
            fmt, [z.complement, tape.leaf(n)], [z, tape.leaf(tape.hidden[t])]
        )

    @staticmethod
    def back(
        tape: Tape, t: int, fmt: Format, hidden: Leaf, cell: list[list[Leaf]]
    ) -> tuple[list[Codes], list[list[Leaf]], list[list[Leaf]]]:
        """As `Lstm.back`, with no cell state."""
        r, z, n, b = (tape.gate(t, block) for block in range(4))
        candidate = sum_of_products(fmt, [hidden, z.complement, n.complement, n.successor])
        own = leaf(candidate, fmt)
        before = tape.leaf(tape.hidden[t])
        gates = [
            sum_of_products(fmt, [own, b, r, r.complement]),
            sum_of_products(fmt, [hidden, before, z, z.complement], [hidden.negative, n, z, z.complement]),
            candidate,
            sum_of_products(fmt, [own, r]),
        ]
        return gates, [[hidden, z]], []


class Tanh:
    """``h' = tanh(a)``."""

    blocks = 1
    activations = ("tanh",)

    @staticmethod
    def step(tape: Tape, t: int) -> None:
        """The gate is the state."""
        tape.hidden[t + 1] = tape.gates[t]

    @staticmethod
    def back(
        tape: Tape, t: int, fmt: Format, hidden: Leaf, cell: list[list[Leaf]]
    ) -> tuple[list[Codes], list[list[Leaf]], list[list[Leaf]]]:
        """As `Lstm.back`, with no cell state."""
        h = tape.gate(t, 0)
        return [sum_of_products(fmt, [hidden, h.complement, h.successor])], [], []


class Relu:
    """``h' = max(a, 0)``; NaR stays NaR."""

    blocks = 1
    activations = ("",)

    @staticmethod
    def step(tape: Tape, t: int) -> None:
        """Negative pre-activations become 0."""
        codes = tape.gates[t]
        codes[(codes < 0) & (codes != -tape.result.format.nar)] = 0
        tape.hidden[t + 1] = codes

    @staticmethod
    def back(
        tape: Tape, t: int, fmt: Format, hidden: Leaf, cell: list[list[Leaf]]
    ) -> tuple[list[Codes], list[list[Leaf]], list[list[Leaf]]]:
        """The gradient where h is not 0."""
        passes = Leaf((tape.gates[t] != 0).astype(np.float64), fmt)
        return [sum_of_products(fmt, [hidden, passes])], [], []


KINDS: dict[str, Any] = {"lstm": Lstm, "gru": Gru, "rnn_tanh": Tanh, "rnn_relu": Relu}
