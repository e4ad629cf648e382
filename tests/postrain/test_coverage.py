"""Coverage names what posits would meet, forward and backward, and agrees with what happens when they do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from posit.errors import NoRuleError
from posit.torch import has_rule, is_refused, posit_tensor, register_rule
from postrain._coverage import QUIRE_TERMS, Coverage, coverage
from postrain.cli import main
from postrain.convert import convert
from postrain.errors import OptionsError
from postrain.models import CharLSTM, LeNet5, mlp


class Strange(nn.Module):
    """An operator that posits do not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.special.bessel_j0(x) + torch.digamma(x)
        return result


def found(report: Coverage) -> set[tuple[str, str, str]]:
    return {(row.module, row.phase, row.operator) for row in report.rows}


def test_fused_functions_hide_what_lies_within() -> None:
    report = coverage(mlp((4,), 3, hidden=(5,)), torch.ones(7, 4), loss=lambda out: out.sum())
    assert ("1", "forward", "linear") in found(report)
    assert ("1", "backward", "linear") in found(report)
    assert ("2", "backward", "aten.threshold_backward.default") in found(report)
    assert not any("mm" in row.operator for row in report.rows)
    assert report.ok
    assert "every operator has a rule" in str(report)


def test_missing_operators_are_named_with_their_module_and_posits_agree() -> None:
    model = nn.Sequential(nn.Linear(2, 2), Strange())
    report = coverage(model, torch.ones(1, 2))
    assert not report.ok
    assert {row.operator for row in report.rows if not row.answered} >= {
        "aten.special_bessel_j0.default",
        "aten.digamma.default",
    }
    assert "aten.digamma.default (Strange '1', forward)" in report.missing
    assert "MISSING" in str(report)
    with pytest.raises(NoRuleError, match="special_bessel_j0"):
        convert(model, "posit16")(torch.ones(1, 2))


def test_a_rule_that_comes_later_covers_it() -> None:
    """The test of the test: what is missing is looked up, not listed."""
    model = nn.Sequential(Strange())
    x = torch.ones(1, requires_grad=False)
    before = coverage(model, x).missing
    from posit.torch.registry import _RULES

    register_rule(torch.ops.aten.digamma.default)(lambda op, x: x)
    try:
        after = coverage(model, x).missing
    finally:
        del _RULES[torch.ops.aten.digamma.default]
    assert set(before) - set(after) == {"aten.digamma.default (Strange '0', forward)"}


def test_refused_functions_and_plain_floats_are_missing() -> None:
    transposed = coverage(nn.Sequential(nn.ConvTranspose2d(1, 1, 2)), torch.ones(1, 1, 3, 3))
    assert any("conv_transpose2d" in each for each in transposed.missing)
    dropped = coverage(
        nn.Sequential(nn.AlphaDropout()), torch.ones(1, 3)
    )  # falls apart into operators with rules
    assert any("alpha_dropout" in each for each in dropped.missing)
    assert not has_rule(nn.functional.alpha_dropout)
    assert is_refused(nn.functional.alpha_dropout)
    assert has_rule(nn.functional.linear)
    assert not is_refused(nn.functional.linear)

    class Mixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.ones(2)

    mixed = coverage(nn.Sequential(Mixed()), torch.ones(1, 2))
    assert mixed.missing == ("aten.add.Tensor (Mixed '0', forward): a plain float tensor among posits",)


def test_lengths_of_sums() -> None:
    report = coverage(LeNet5(), torch.ones(2, 1, 28, 28))
    terms = {(row.module, row.phase): row.terms for row in report.rows if row.fused}
    assert terms["3", "forward"] == 6 * 25 + 1
    assert terms["9", "forward"] == 120 + 1
    assert terms["9", "backward"] == max(2, 84)
    assert terms["0", "backward"] >= 2 * 28 * 28
    assert report.fits
    assert "LeNet" not in report.without_operators


def test_a_sum_that_may_overflow_the_quire_is_reported() -> None:
    few = coverage(nn.Linear(3, 2), torch.ones(4, 3), passes=2)
    assert few.gradient_terms == 2 * 4
    many = coverage(nn.Linear(3, 2), torch.ones(4, 3), passes=QUIRE_TERMS // 4 + 1)
    assert many.gradient_terms == 4 * (QUIRE_TERMS // 4 + 1) > QUIRE_TERMS
    assert not many.fits
    assert not many.ok
    assert "MORE than a quire holds" in str(many)


def test_tied_weights_are_summed_over_all_their_uses() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert coverage(model, torch.ones(50, 3)).gradient_terms == 100


def test_the_model_and_its_mode_are_left_alone() -> None:
    model = convert(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "posit16").eval()
    weight = model[0].weight
    report = coverage(model, posit_tensor(torch.ones(1, 2), "posit16"))
    assert report.ok
    assert model[0].weight is weight
    assert weight.grad is None
    assert not model.training
    model(torch.ones(1, 2))


def test_recurrent_modules_and_losses_are_seen_whole() -> None:
    def loss(out: Any) -> torch.Tensor:
        return functional.cross_entropy(out.reshape(-1, 5), torch.zeros(6, dtype=torch.int64))

    report = coverage(CharLSTM(5, 4), torch.zeros(2, 3, dtype=torch.int64), loss=loss)
    assert ("lstm", "forward", "lstm") in found(report)
    assert report.modules["lstm"] == "LSTM"


def test_meta_devices_are_refused() -> None:
    with pytest.raises(OptionsError, match="weight lies on the meta device"):
        coverage(nn.Linear(1, 1, device="meta"), torch.ones(1, 1))


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    config = Path(__file__).parents[2] / "examples" / "configs" / "digits-mlp.toml"
    assert main(["coverage", str(config)]) == 0
    said = capsys.readouterr().out
    assert "every operator has a rule" in said
    assert "fused" in said
