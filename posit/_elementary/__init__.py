"""Correctly rounded elementary functions on arrays of codes; `posit.functions` is their public face."""

from posit._elementary.evaluate import evaluate, evaluate2, evaluate3, evaluate_integer

__all__ = ["evaluate", "evaluate2", "evaluate3", "evaluate_integer"]
