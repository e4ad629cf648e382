"""Indexing and scattering: exact sums with one rounding, the same bits for every order, and gradients."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from posit import Format, posit8, posit16, posit32
from posit._segments import add_rows, segment_sums
from posit.codec import decode, encode, signed_storage
from posit.errors import FormatMismatch, NoRuleError, ShapeError
from posit.torch import Policy, PositTensor, posit_tensor, segment_sum
from tests.posit.torch.samples import nearest_code, posit

FORMATS = [posit8, posit16, posit32, Format(16, 5, 6), Format(32, 4)]
MIXED = Policy(activations=posit8, gradients=posit16, loss=posit16)


def random(shape: tuple[int, ...], fmt: Format, seed: int = 0, spread: int = 0) -> PositTensor:
    """Normal numbers times powers of two up to 2**±spread."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * np.exp2(rng.integers(-spread, spread + 1, shape))
    return posit_tensor(torch.from_numpy(values), fmt)


def grouped(
    terms: PositTensor, index: list[int], count: int, base: PositTensor | None, fmt: Format, over: list[int]
) -> list[list[int]]:
    """What the sums must be, by rationals; NaR where a term is."""
    values = terms.values()
    start = np.zeros((count, values.shape[1])) if base is None else base.values()
    found = []
    for g in range(count):
        own = [start[g], *(values[t] for t, where in enumerate(index) if where == g)]
        columns = list(zip(*own, strict=True))
        found.append(
            [
                -fmt.nar
                if np.isnan(column).any()
                else nearest_code(sum(map(Fraction, column), Fraction(0)) / over[g], fmt)
                for column in columns
            ]
        )
    return found


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_segment_sums_are_exact_whatever_cancels(fmt: Format) -> None:
    spread = 6 if fmt == posit8 else 60
    terms, base = random((90, 3), fmt, 1, spread), random((11, 3), fmt, 2, spread)
    terms.codes[1] = -terms.codes[0]  # what is far above cancels
    terms.codes[7, 1] = -fmt.nar
    rng = np.random.default_rng(3)
    index, over = rng.integers(0, 10, 90), rng.integers(1, 9, 11)
    index[1] = index[0]
    for start in (None, base):
        for divisors in (None, over):
            got = segment_sums(
                terms.codes.numpy(),
                fmt,
                index,
                11,
                base=None if start is None else start.codes.numpy(),
                divisors=divisors,
            )
            by = [1] * 11 if divisors is None else divisors.tolist()
            assert got.tolist() == grouped(terms, index.tolist(), 11, start, fmt, by)


def test_ties_and_the_ends_of_the_range_round_as_the_reference_says() -> None:
    one, tiny, huge = (posit_tensor(torch.tensor([v]), posit16).codes for v in (1.0, 2.0**-56, 2.0**56))
    half_step = posit_tensor(torch.tensor([2.0**-12]), posit16).codes
    terms = posit_tensor(torch.zeros(9, 1), posit16)
    terms.codes[:] = torch.stack([one, half_step, one, half_step, tiny, huge, huge, -huge, tiny])
    index = [0, 0, 1, 1, 1, 2, 2, 3, 3]
    got = segment_sum(terms, torch.tensor(index), 5)
    assert got.codes.tolist() == grouped(terms, index, 5, None, posit16, [1] * 5)
    assert got.codes[0, 0] != got.codes[1, 0]  # a tie, and a tie with a last straw


@pytest.mark.parametrize("fmt", [posit8, posit16], ids=str)
def test_any_order_of_edges_gives_the_same_bits(fmt: Format) -> None:
    x, base = random((200, 5), fmt, 1, 8), random((17, 5), fmt, 2)
    index = torch.from_numpy(np.random.default_rng(0).integers(0, 17, 200))
    order = torch.from_numpy(np.random.default_rng(1).permutation(200))
    y = posit(x[order])
    folds: list[Callable[[Any, Any], Any]] = [
        lambda x, index: segment_sum(x, index, 17),
        lambda x, index: base.index_add(0, index, x),
        lambda x, index: base.scatter_add(0, index[:, None].expand(-1, 5), x),
        lambda x, index: base.scatter_add(0, index[:, None].repeat(1, 5), x),
        lambda x, index: base.clone().index_put_((index,), x, accumulate=True),
        lambda x, index: base.scatter_reduce(0, index[:, None].expand(-1, 5), x, "sum"),
    ]
    for fold in folds:
        assert torch.equal(posit(fold(x, index)).codes, posit(fold(y, index[order])).codes)
    one_by_one = base.clone()
    for row, where in zip(x, index.tolist(), strict=True):
        one_by_one[where] = posit(one_by_one[where]) + row
    assert not torch.equal(posit(one_by_one).codes, posit(base.index_add(0, index, x)).codes)


def test_all_ways_to_accumulate_agree() -> None:
    base, x = random((6, 4), posit16, 1), random((9, 4), posit16, 2)
    index = torch.tensor([0, 5, 5, 1, 0, 2, 2, 2, -1])
    wanted = grouped(x, [t % 6 for t in index.tolist()], 6, base, posit16, [1] * 6)
    positive = index % 6
    assert posit(base.index_add(0, positive, x)).codes.tolist() == wanted
    assert posit(base.index_put((index,), x, accumulate=True)).codes.tolist() == wanted
    assert posit(base.t().index_add(1, positive, posit(x.t()))).codes.t().tolist() == wanted
    columns = positive[None].repeat(4, 1)
    assert posit(base.t().scatter_add(1, columns, posit(x.t()))).codes.t().tolist() == wanted
    both = (index[:, None].repeat(1, 4), torch.arange(4).repeat(9, 1))
    assert posit(base.index_put(both, x, accumulate=True)).codes.tolist() == wanted
    places = (positive[:, None] * 4 + torch.arange(4)).reshape(-1)
    assert posit(base.put(places, x.reshape(-1), accumulate=True)).codes.tolist() == wanted
    in_place = base.clone()
    in_place.index_add_(0, positive, x)
    assert posit(in_place).codes.tolist() == wanted
    back = in_place.index_add(0, positive, x, alpha=-1)
    again = grouped(x.like(-x.codes), positive.tolist(), 6, posit(in_place), posit16, [1] * 6)
    assert posit(back).codes.tolist() == again


def test_sums_without_self_and_counts_with_weights() -> None:
    base, x = random((4, 1), posit16, 1), random((5, 1), posit16, 2)
    index = torch.tensor([0, 2, 2, 0, 0])
    sums = base.scatter_reduce(0, index[:, None], x, "sum", include_self=False)
    start = base.like(base.codes * torch.tensor([[0], [1], [0], [1]], dtype=torch.int16))
    wanted = grouped(x, index.tolist(), 4, start, posit16, [1] * 4)
    assert posit(sums).codes.tolist() == wanted
    counted = posit(torch.bincount(index, posit(x[:, 0]), minlength=5))
    assert counted.codes.tolist() == [row[0] for row in grouped(x, index.tolist(), 5, None, posit16, [1] * 5)]


def test_sums_of_segments_by_length_and_their_means() -> None:
    x = random((7, 2), posit16).requires_grad_()
    index, lengths = [0, 0, 0, 2, 2, 2, 2], torch.tensor([3, 0, 4])
    total = torch.segment_reduce(x, "sum", lengths=lengths)
    mean = torch.segment_reduce(x, "mean", offsets=torch.tensor([0, 3, 3, 7]))
    assert posit(total).codes.tolist() == grouped(posit(x), index, 3, None, posit16, [1] * 3)
    wanted = grouped(posit(x), index, 3, None, posit16, [3, 1, 4])
    wanted[1] = [-posit16.nar] * 2  # the mean of nothing
    assert posit(mean).codes.tolist() == wanted
    grad = random((3, 2), posit16, 4)
    mean.backward(grad)
    shares = [[Fraction(v) / (3, 1, 4)[g] for v in grad.tolist()[g]] for g in index]
    assert posit(x.grad).codes.tolist() == [[nearest_code(v, posit16) for v in row] for row in shares]


READS: list[Callable[[Any], Any]] = [
    lambda x: x[torch.tensor([0, 2, 2, -1])],
    lambda x: x[:, torch.tensor([1, 1, 3])],
    lambda x: x[torch.tensor([0, 2]), torch.tensor([1, 1])],
    lambda x: x[torch.tensor([True, False, True, True])],
    lambda x: x.gather(1, torch.tensor([[0, 0], [1, 5], [2, 2], [3, 4]])),
    lambda x: x.index_select(1, torch.tensor([5, 0, 5])),
    lambda x: x.take(torch.tensor([3, 3, 20])),
    lambda x: x.take_along_dim(torch.tensor([[0], [1], [1], [5]]), 1),
    lambda x: x.masked_select(torch.arange(24).view(4, 6) % 3 == 0),
    lambda x: x.unfold(1, 3, 2),
    lambda x: x.repeat_interleave(torch.tensor([1, 3, 0, 2]), 0),
    lambda x: x.scatter_add(0, torch.tensor([[0, 1], [0, 0]]), x[:2, :2]),
    lambda x: x.index_add(0, torch.tensor([1, 1]), x[:2]),
    lambda x: x.index_copy(0, torch.tensor([3, 1]), x[:2]),
    lambda x: x.index_fill(1, torch.tensor([3, 1]), 0.5),
    lambda x: x.scatter(0, torch.tensor([[0, 1, 2, 3, 3, 0]]), x[1:2]),
    lambda x: x.masked_scatter(torch.arange(24).view(4, 6) % 5 == 0, x[1:3]),
    lambda x: torch.nn.functional.pad(x[None], (2, 1), "reflect"),
    lambda x: torch.nn.functional.pad(x[None], (2, 3), "replicate"),
    lambda x: torch.nn.functional.pad(x[None], (2, 1, 1, 0), "circular"),
    lambda x: torch.nn.functional.unfold(x[None, None], (2, 3), padding=1, stride=2),
    lambda x: torch.nn.functional.fold(x.reshape(1, 4, 6), (3, 4), 2),
]


@pytest.mark.parametrize("number", range(len(READS)))
def test_reading_and_its_gradient_agree_with_float64(number: int) -> None:
    x = random((4, 6), posit32).requires_grad_()
    real = posit(x).to_float(torch.float64).requires_grad_()
    read = READS[number]
    got, wanted = read(x), read(real)
    assert got.shape == wanted.shape
    grad = random(tuple(wanted.shape), posit32, 5)
    got.backward(grad)
    wanted.backward(grad.to_float(torch.float64))
    assert real.grad is not None
    assert torch.allclose(posit(got.detach()).to_float(torch.float64), wanted, rtol=1e-7, atol=1e-9)
    assert torch.allclose(posit(x.grad).to_float(torch.float64), real.grad, rtol=1e-7, atol=1e-8)


def test_the_gradient_of_a_row_read_often_is_rounded_once() -> None:
    x = random((3, 2), posit16).requires_grad_()
    index = torch.tensor([1] * 50 + [2])
    grad = random((51, 2), posit16, 7, 9)
    x[index].backward(grad)
    assert posit(x.grad).codes.tolist() == grouped(grad, index.tolist(), 3, None, posit16, [1] * 3)
    y = random((9,), posit16).requires_grad_()
    windows = random((4, 3), posit16, 8, 9)
    y.unfold(0, 3, 2).backward(windows)
    places = torch.arange(9).unfold(0, 3, 2).reshape(-1).tolist()
    wanted = grouped(windows.like(windows.codes.reshape(-1, 1)), places, 9, None, posit16, [1] * 9)
    assert posit(y.grad).codes.tolist() == [row[0] for row in wanted]


def test_formats_mix_under_a_policy_and_each_sum_rounds_once() -> None:
    base = PositTensor(random((5, 3), posit16, 1).codes, posit16, policy=MIXED)
    x = PositTensor(random((20, 3), posit8, 2).codes, posit8, requires_grad=True, policy=MIXED)
    index = torch.from_numpy(np.random.default_rng(0).integers(0, 5, 20))
    y = posit(base.index_add(0, index, x))
    assert (y.format, y.policy) == (posit8, MIXED)
    assert y.codes.tolist() == grouped(x, index.tolist(), 5, base, posit8, [1] * 5)
    grad = PositTensor(random((5, 3), posit16, 4).codes, posit16, policy=MIXED)
    torch.autograd.backward(y, grad)
    assert posit(x.grad).format == posit16
    assert torch.equal(posit(x.grad).codes, grad.codes[index])
    held = base.clone()
    held.index_add_(0, index, x.detach())
    assert posit(held).format == posit16
    assert posit(held).codes.tolist() == grouped(x, index.tolist(), 5, base, posit16, [1] * 5)
    held[0] = posit(x.detach()[1])
    assert posit(held[0]).codes.tolist() == [nearest_code(Fraction(v), posit16) for v in x.tolist()[1]]


def test_writes_keep_codes_and_refuse_floats() -> None:
    x = random((4, 3), posit16)
    x[torch.tensor([True, False, False, True])] = 0.1
    x[1] = posit(x[2])
    x[2, 1:] = 3
    x.index_put_((torch.tensor([2]), torch.tensor([0])), posit_tensor(torch.tensor([7.0]), posit16))
    tenth = posit_tensor(torch.tensor(0.1), posit16).item()
    assert x[0].tolist() == [tenth] * 3
    assert x[2].tolist() == [7.0, 3.0, 3.0]
    with pytest.raises(FormatMismatch, match=r"got a torch.float32 source for posits"):
        x[0] = torch.ones(3)
    with pytest.raises(FormatMismatch, match=r"got a torch.float32 source for posits"):
        x[torch.tensor([0])] = torch.ones(1, 3)
    with pytest.raises(FormatMismatch, match=r"got formats posit16 and posit8"):
        x[0] = random((3,), posit8)
    with pytest.raises(FormatMismatch, match=r"got a torch.float32 operand among PositTensors"):
        x.index_add(0, torch.tensor([0]), torch.zeros(1, 3))


def test_a_number_written_into_posit32_is_not_rounded_to_float32_before() -> None:
    x = random((2,), posit32)
    x[0] = 0.1
    assert x[0].item() == posit_tensor(torch.tensor(0.1, dtype=torch.float64), posit32).item()


def test_writing_through_a_slice_has_a_gradient() -> None:
    x, y = random((4, 3), posit32).requires_grad_(), random((3,), posit32, 1).requires_grad_()
    z = x.clone()
    z[1] = y
    z[2:, 0] = 0.5
    grad = random((4, 3), posit32, 2)
    z.backward(grad)
    wanted = grad.codes.clone()
    wanted[1] = 0
    wanted[2:, 0] = 0
    assert torch.equal(posit(x.grad).codes, wanted)
    assert torch.equal(posit(y.grad).codes, grad.codes[1])


def test_what_is_not_exact_or_out_of_range_is_refused() -> None:
    x, rows = random((4, 3), posit16), random((2, 3), posit16)
    with pytest.raises(NoRuleError, match=r"exact for reduce='sum' only, got 'amax'"):
        x.scatter_reduce(0, torch.zeros(2, 3, dtype=torch.int64), rows, "amax")
    with pytest.raises(NoRuleError, match="exact for alpha = 1 and -1 only, got 0.5"):
        x.index_add(0, torch.tensor([0, 1]), rows, alpha=0.5)
    with pytest.raises(ShapeError, match="got index 4; indices must be 0 to 3"):
        x.index_add(0, torch.tensor([0, 4]), rows)
    with pytest.raises(ShapeError, match="got index 9; indices must be 0 to 3"):
        x.scatter_add(0, torch.full((2, 3), 9), rows)
    with pytest.raises(ShapeError, match="there must be one index for each row"):
        x.index_add(0, torch.tensor([0, 1, 2]), rows)
    with pytest.raises(ShapeError, match="segment_sum needs one index for each row"):
        segment_sum(rows, torch.tensor([0]), 3)
    with pytest.raises(NoRuleError, match="exact for 'sum' and 'mean' only, got 'max'"):
        torch.segment_reduce(rows, "max", lengths=torch.tensor([2]))
    with pytest.raises(ShapeError, match="segments of 3 rows in all, but data of 2"):
        torch.segment_reduce(rows, "sum", lengths=torch.tensor([3]))


def test_nothing_to_add_leaves_what_was() -> None:
    x = random((4, 3), posit16)
    none = torch.zeros(0, dtype=torch.int64)
    assert torch.equal(posit(x.index_add(0, none, random((0, 3), posit16))).codes, x.codes)
    assert torch.equal(posit(x.scatter_add(0, none.view(0, 3), random((0, 3), posit16))).codes, x.codes)
    assert segment_sum(random((0, 3), posit16), none, 2).tolist() == [[0.0] * 3] * 2
    assert segment_sum(random((3, 0), posit16), torch.tensor([0, 1, 1]), 2).shape == (2, 0)


def test_rows_add_to_quires_as_they_are() -> None:
    from posit import QuireArray

    x = random((30, 4), posit16, 1, 20)
    index = np.random.default_rng(0).integers(0, 3, 30)
    quires = QuireArray((3, 2, 2), posit16)
    add_rows(quires, index[:11], decode(x.codes[:11].numpy(), posit16).astype(np.float64))
    add_rows(quires, index[11:], decode(x.codes[11:].numpy(), posit16).astype(np.float64))
    wanted = grouped(x, index.tolist(), 3, None, posit16, [1] * 3)
    got = quires.to_posit().codes.view(np.int16).reshape(3, 4)
    assert got.tolist() == wanted
    nar = encode(np.array([[np.nan] + [0.0] * 3]), posit16, signed_storage(posit16))
    add_rows(quires, np.array([1]), decode(nar, posit16).astype(np.float64))
    assert quires.is_nar.sum() == 1
