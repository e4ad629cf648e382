"""Dropout: Philox's known answers, one rounding, and masks that belong to samples."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from posit import posit8, posit16, posit32
from posit._kernels import philox
from posit.errors import NoRuleError, ShapeError
from posit.formats import Format
from posit.torch import Policy, PositTensor, posit_tensor
from posit.torch.ops.dropout import dropout_keys
from tests.posit.torch.samples import codes_of, nearest_code, random, value

# Random123 1.14, tests/kat_vectors: philox4x32, 10 rounds: counter, key, answer
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_published_answers(
    counter: tuple[int, ...], key: tuple[int, ...], answer: tuple[int, ...]
) -> None:
    import numpy as np

    words = philox.philox(*(np.uint64(word) for word in (*counter, *key)))
    assert tuple(int(word) for word in words) == answer


def dropped(x: Any, p: float = 0.5) -> Any:
    result: Any = functional.dropout(x, p)
    return result.codes


def divided(x: Any, p: float, to: Format, kept: list[bool]) -> list[int]:
    """Signed codes of x / (1 - p), rounded once, where it is kept, else 0."""
    wanted = []
    for code, keep in zip(codes_of(x), kept, strict=True):
        real = value(code, x.format) if keep else Fraction(0)
        wanted.append(-to.nar if real is None else nearest_code(real / (1 - Fraction(p)), to))
    return wanted


@pytest.mark.parametrize("fmt", [posit8, posit16, posit32, Format(12, 1)], ids=str)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_kept_elements_are_divided_exactly_and_the_gradient_has_the_same_mask(fmt: Format, p: float) -> None:
    x = random((8, 31), fmt).requires_grad_()
    with dropout_keys(1, 2, range(8)):
        y: Any = functional.dropout(x, p)
    kept = (y.codes != 0).reshape(-1).tolist()
    assert codes_of(y) == divided(x.detach(), p, fmt, kept)
    assert abs(sum(kept) / len(kept) - (1 - p)) < 0.12
    g = random((8, 31), fmt, 1)
    y.backward(g)
    assert codes_of(x.grad) == divided(g, p, fmt, kept)


def test_the_split_into_micro_batches_changes_no_bit() -> None:
    x = random((12, 3, 5), posit16)

    def run(rows: slice) -> list[Any]:
        with dropout_keys(7, 3, range(100, 112)[rows]):
            return [dropped(x[rows], 0.4) for _ in range(3)]

    whole = run(slice(0, 12))
    for parts in ([slice(0, 5), slice(5, 12)], [slice(i, i + 1) for i in range(12)]):
        joined = [torch.cat(each) for each in zip(*(run(part) for part in parts), strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(whole, joined, strict=True))
    assert not torch.equal(whole[0], whole[1])  # each call has its own mask


def test_seed_step_sample_and_call_each_change_the_mask() -> None:
    x: Any = posit_tensor(torch.ones(1, 200), posit16)

    def mask(seed: int = 1, step: int = 1, sample: int = 1, call: int = 0) -> Any:
        with dropout_keys(seed, step, [sample], first_call=call):
            return dropped(x, 0.5)

    assert torch.equal(mask(), mask())
    others = [mask(seed=2), mask(step=2), mask(sample=2), mask(call=1), mask(sample=2**40 + 1), mask(seed=-1)]
    assert all(60 < int((mask() != other).sum()) < 140 for other in others)


def test_rows_of_heads_belong_to_their_samples() -> None:
    x: Any = posit_tensor(torch.ones(6, 4, 4), posit16)
    with dropout_keys(0, 0, [5, 6]):
        both = dropped(x, 0.5)
    with dropout_keys(0, 0, [6]):
        second = dropped(x[3:], 0.5)
    assert torch.equal(both[3:], second)
    with dropout_keys(0, 0, range(4)), pytest.raises(ShapeError, match="got 6 rows.* names 4 samples"):
        functional.dropout(x, 0.5)


def test_outside_a_context_torchs_generator_decides() -> None:
    x = random((4, 50), posit16)
    torch.manual_seed(3)
    first, second = dropped(x), dropped(x)
    torch.manual_seed(3)
    assert torch.equal(dropped(x), first)
    assert not torch.equal(first, second)


def test_evaluation_ends_and_modules() -> None:
    x = random((4, 50), posit16)
    layer = nn.Dropout(0.3)
    assert layer.eval()(x) is x
    assert functional.dropout(x, 0.0) is x
    assert not dropped(x, 1.0).any()
    assert torch.dropout(x, 0.5, False) is x
    layer = nn.Dropout(0.3, inplace=True)
    y = x.clone()
    assert layer(y) is y
    assert 0 < int((y.codes == 0).sum()) < 200
    assert functional.dropout(x[:0], 0.5).shape == (0, 50)
    nar: Any = PositTensor(torch.full((1, 64), -(1 << 15), dtype=torch.int16), posit16)
    assert functional.dropout(nar, 0.9).isnan().all()
    assert functional.dropout(nar, 1.0).isnan().all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        functional.dropout(x, 1.5)


def test_a_policy_gives_the_formats() -> None:
    policy = Policy(posit8, Format(12, 1), posit16)
    x: Any = PositTensor(random((6, 20), posit16).codes, posit16, policy=policy).requires_grad_()
    with dropout_keys(1, 1, range(6)):
        y: Any = functional.dropout(x, 0.25)
    kept = (y.codes != 0).reshape(-1).tolist()
    assert codes_of(y) == divided(x.detach(), 0.25, posit8, kept)
    y.sum().backward()
    assert isinstance(x.grad, PositTensor)
    assert x.grad.format == Format(12, 1)


def test_other_dropouts_are_refused_by_name() -> None:
    x = random((2, 3, 4, 4), posit16)
    for layer in (nn.AlphaDropout(0.5), nn.Dropout2d(0.5), nn.FeatureAlphaDropout(0.5)):
        with pytest.raises(NoRuleError, match="have no rule for PositTensor"):
            layer(x)
