"""Bars hear Ctrl-C even where Python loses it."""

import contextlib
import signal

import pytest

from postrain.progress import Bars


def test_an_interrupt_that_was_swallowed_comes_again_with_the_next_advance() -> None:
    """As in a callback of the compiler, whose exceptions Python prints and ignores."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    with Bars() as bars:
        bars.start("training", 2)
        bars.advance("training")
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            bars.advance("training")
    assert signal.signal(signal.SIGINT, inherited) is signal.default_int_handler
