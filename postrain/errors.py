"""Every exception that `postrain` raises on purpose.

Each says what came, what was wanted and what to do, and derives from the built-in a caller would catch.
The command line prints the message of a `PostrainError` as it is and exits with code 2.
"""


class PostrainError(Exception):
    """Base of all errors that `postrain` raises on purpose."""


class DataError(PostrainError, ValueError):
    """A data set or a weights file is missing, damaged, or holds what cannot be trained on."""


class OutputError(PostrainError, OSError):
    """A file or folder cannot be written."""


class OptionsError(PostrainError, ValueError):
    """An option has a value outside its range."""


class RecipeError(PostrainError, ValueError):
    """A recipe asks for something the model or the optimizer cannot do."""


class AccumulationError(PostrainError, RuntimeError):
    """A gradient was rounded before it could be added to an exact sum."""


class WorkerError(PostrainError, RuntimeError):
    """A process of a distributed run failed, hangs, or differs from the others."""


class MeasurementError(PostrainError, RuntimeError):
    """The process that measures memory failed, or was asked for something it cannot build."""


class ReportError(PostrainError, ValueError):
    """Results are incomplete or contradict each other, so no report is made of them."""


class ModeError(PostrainError, ValueError):
    """A mode of training needs something that the model, the optimizer or the options do not have."""


class InversionError(PostrainError, RuntimeError):
    """A block run again in the backward pass did not return the same bits."""


class StreamOverflow(PostrainError, OverflowError):
    """A residual stream in fixed point left its range.

    Args:
        block: The block whose output was added, by number and name.
        value: What the stream would have to hold.
        form: The stream's format, as ``Q11.20``.
        step: The training step, counted from 1; 0 outside of training.

    >>> print(StreamOverflow("block 3 (mlp)", 2050.0, "Q11.20", 7))
    the stream of format Q11.20 cannot hold 2050 after block 3 (mlp) at step 7;
    choose fewer fraction bits, call calibrate(x), or lower the learning rate
    """

    def __init__(self, block: str, value: float, form: str, step: int) -> None:
        when = f" at step {step}" if step else ""
        super().__init__(
            f"the stream of format {form} cannot hold {value:.6g} after {block}{when};\n"
            "choose fewer fraction bits, call calibrate(x), or lower the learning rate"
        )
        self.block, self.value, self.form, self.step = block, value, form, step

    def __reduce__(self) -> tuple[type["StreamOverflow"], tuple[str, float, str, int]]:
        """Rebuild from the arguments, so that the error survives the way back from a worker process."""
        return type(self), (self.block, self.value, self.form, self.step)


class NaRError(PostrainError, ArithmeticError):
    """Training met a NaR (not a real), the one exceptional value of posit arithmetic.

    Args:
        where: The tensor that holds it, by the parameter's or layer's name.
        step: The training step, counted from 1.

    >>> error = NaRError("the gradient of fc1.weight", 37)
    >>> print(error)
    NaR in the gradient of fc1.weight at step 37, so training stopped;
    lower the learning rate or choose a wider format
    >>> error.where, error.step
    ('the gradient of fc1.weight', 37)
    """

    def __init__(self, where: str, step: int) -> None:
        super().__init__(
            f"NaR in {where} at step {step}, so training stopped; "
            "lower the learning rate or choose a wider format"
        )
        self.where = where
        self.step = step

    def __reduce__(self) -> tuple[type["NaRError"], tuple[str, int]]:
        """Rebuild from the arguments, so that the error survives the way back from a worker process."""
        return type(self), (self.where, self.step)
