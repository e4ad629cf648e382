"""The reversible stack: gradients of stored activations to the bit, exact inversion, and what is refused."""

import gc
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

from posit import PositArray, QuireArray, posit16
from posit.reference import exact
from posit.torch import GradientSum, PositTensor, dropout_keys, posit_tensor
from postrain.convert import convert, to_float
from postrain.errors import InversionError, ModeError, NaRError, RecipeError, StreamOverflow
from postrain.models.reversible import GeometricBlock
from postrain.models.texts import Attention
from postrain.nn import FixedPoint, ReversibleStack
from postrain.nn.passage import at_step
from postrain.nn.stream import Kind, Unrepresentable

HALF = 4


def posit(x: object) -> PositTensor:
    assert isinstance(x, PositTensor)
    return x


def perceptron() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(HALF), nn.Linear(HALF, 6), nn.ReLU(), nn.Linear(6, HALF))


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(HALF, HALF, 3, padding=1), nn.ReLU(), nn.Conv2d(HALF, HALF, 1))


def attention() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(HALF), Attention(HALF, 2, 0.0))


def geometric() -> nn.Module:
    return GeometricBlock(HALF, generator=torch.Generator().manual_seed(3))


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(HALF, HALF), nn.Dropout(0.5))


FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "mlp": (perceptron, (5, 2 * HALF), -1),
    "cnn": (convolution, (5, 2 * HALF, 3, 3), 1),
    "attention": (attention, (5, 3, 2 * HALF), -1),
    "geometric": (geometric, (5, 2 * HALF, 8), 1),
    "dropout": (dropping, (5, 2 * HALF), -1),
}


def stack_of(family: str, depth: int = 3, **options: Any) -> ReversibleStack:
    block, _, dim = FAMILIES[family]
    torch.manual_seed(0)
    return convert(ReversibleStack([block() for _ in range(depth)], dim=dim, **options), "posit16")


def inputs(family: str) -> PositTensor:
    x = torch.randn(FAMILIES[family][1], generator=torch.Generator().manual_seed(1))
    return posit_tensor(x, posit16)


def everything(stack: ReversibleStack, family: str) -> list[torch.Tensor]:
    """Codes of the output, of the gradient of the input and of all parameters."""
    x = inputs(family).requires_grad_()
    with dropout_keys(0, 1, range(5)):
        y = stack(x)
        (y * y).sum().backward()
    found = [y, x.grad, *(each.grad for each in stack.parameters())]
    return [posit(each).codes for each in found]


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_stored_activations_to_the_bit(family: str) -> None:
    stored = everything(stack_of(family, store=True), family)
    stack = stack_of(family)
    for one, other in zip(stored, everything(stack, family), strict=True):
        assert torch.equal(one, other)
    assert stack.inverted == 3
    assert all(bool(codes.any()) for codes in stored)
    if family != "geometric":  # whose products do not add to exact sums
        for size in (1, 2):
            for one, other in zip(
                stored, everything(stack_of(family, micro_batch=size), family), strict=True
            ):
                assert torch.equal(one, other)


def test_a_coarser_stream_has_other_bits() -> None:
    """The test above can fail."""
    fine, coarse = (everything(stack_of("mlp", fraction_bits=bits), "mlp") for bits in (20, 6))
    assert not torch.equal(fine[0], coarse[0])


def test_128_blocks_are_run_back_to_the_bit_where_floating_point_drifts() -> None:
    stack = stack_of("mlp", depth=128)
    passage = stack.begin(inputs("mlp"), record=True)
    passage.enter(inputs("mlp"))
    entered = [half.clone() for half in passage.halves]
    passage.forward()
    zeros = tuple(torch.zeros(half.shape, dtype=torch.int16) for half in passage.halves)
    passage.backward((zeros[0], zeros[1]), lambda *_: None)
    assert all(torch.equal(one, other) for one, other in zip(entered, passage.halves, strict=True))
    assert stack.inverted == 128
    to_float(stack)
    for dtype, least in ((torch.float32, 1e-7), (torch.bfloat16, 1e-3)):
        assert drift(stack, dtype) > least


def drift(stack: ReversibleStack, dtype: torch.dtype) -> float:
    """The largest error of the input, after a way forth and back with a stream in floating point."""
    halves = [part.contiguous().to(dtype) for part in inputs("mlp").to_float().chunk(2, -1)]
    entered = [half.clone() for half in halves]
    ways = [(index, 1) for index in range(128)]
    with torch.no_grad():
        for index, sign in (*ways, *((index, -1) for index, _ in reversed(ways))):
            halves[index % 2] += sign * stack.blocks[index](halves[1 - index % 2].float()).to(dtype)
    return max(float((one - other).abs().max()) for one, other in zip(halves, entered, strict=True))


def test_reading_and_adding_round_once() -> None:
    form, kind = FixedPoint(6), Kind(posit16, None)
    values = torch.randn(500, generator=torch.Generator().manual_seed(0)) * 40
    values[:4] = torch.tensor([0.5 / 64, 1.5 / 64, -2.5 / 64, 0.49 / 64])  # ties go to even
    y = posit_tensor(values, posit16)
    stream = form.zeros((500,))
    form.add(stream, y)
    wanted = [round(Fraction(v) * 64) for v in y.tolist()]
    assert stream.tolist() == wanted
    assert stream[:4].tolist() == [0, 2, -2, 0]
    read = posit(form.read(stream, kind)).codes
    assert [code & 0xFFFF for code in read.tolist()] == [
        exact.nearest(Fraction(k, 64), posit16) for k in wanted
    ]
    form.add(stream, y, -1)
    assert not stream.any()


def test_the_whole_range_of_the_stream_is_used_and_no_more() -> None:
    form = FixedPoint(16)
    stream = torch.tensor([2**31 - 2, -(2**31) + 1], dtype=torch.int32)
    one = posit_tensor(torch.tensor([2.0**-16, -(2.0**-16)]), posit16)
    form.add(stream, one)
    assert stream.tolist() == [2**31 - 1, -(2**31)]
    with pytest.raises(Unrepresentable):
        form.add(stream, one)


def test_overflow_names_block_and_step() -> None:
    stack = convert(ReversibleStack([nn.Identity(), nn.Identity()], fraction_bits=24), "posit16")
    x = posit_tensor(torch.full((1, 2), 100.0), posit16)
    with (
        pytest.raises(
            StreamOverflow, match=r"Q7\.24 cannot hold 200 after block 0 \(blocks\.0\) at step 7"
        ) as raised,
        at_step(7),
    ):
        stack(x)
    assert (raised.value.step, raised.value.value) == (7, 200.0)
    assert stack.calibrate(x).name == "Q12.19"  # 300, and three bits above
    assert posit(stack(x)).tolist() == [[200.0, 300.0]]
    other = ReversibleStack([nn.Identity(), nn.Identity()])
    other.load_state_dict(stack.state_dict())
    assert other.stream == stack.stream
    nar = PositTensor(torch.full((1, 2), -(2**15), dtype=torch.int16), posit16)
    with pytest.raises(NaRError, match="the input of the stack"):
        stack(nar)


class Moody(nn.Module):
    """Returns something else each time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(HALF, HALF), 0

    def forward(self, x: torch.Tensor) -> Any:
        self.calls += 1
        return self.layer(x) * float(self.calls)


def test_a_block_that_returns_other_bits_is_noticed() -> None:
    stack = convert(ReversibleStack([perceptron(), Moody()]), "posit16")
    loss = posit(stack(inputs("mlp"))).sum()
    with pytest.raises(InversionError, match=r"block 1 \(blocks\.1\) did not return the same bits"):
        loss.backward()


def test_what_is_refused() -> None:
    x = inputs("mlp")
    with pytest.raises(RecipeError, match=r'Dropout "blocks\.0\.1" draws other numbers'):
        stack_of("dropout")(x)
    with pytest.raises(RecipeError, match=r'BatchNorm1d "blocks\.0" uses statistics of the batch'):
        convert(ReversibleStack([nn.BatchNorm1d(HALF)]), "posit16")(x)
    with pytest.raises(ModeError, match=r"block 0 .* returned PositTensor of shape \(5, 3\)"):
        convert(ReversibleStack([nn.Linear(HALF, 3)]), "posit16")(x)
    with pytest.raises(ModeError, match=r"halves dimension -1, got shape \(5, 7\)"):
        stack_of("mlp")(x[:, :7])
    with pytest.raises(ModeError, match="at least one block"):
        ReversibleStack([])
    loss = posit(stack_of("mlp")(x)).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(ModeError, match="was run back already"):
        loss.backward()


def test_sums_are_those_of_quires() -> None:
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int, scale: float = 1.0) -> PositTensor:
        spread = torch.exp2(torch.randint(-20, 20, shape, generator=generator).float())
        return posit_tensor(torch.randn(shape, generator=generator) * spread * scale, posit16)

    parameter = posit_tensor(torch.zeros(70, 6), posit16)
    total, quires = GradientSum(parameter, posit16), QuireArray((70, 6), posit16)
    for scale in (1.0, 1e-6, 1e6):
        a, b, terms = drawn(70, 9, scale=scale), drawn(9, 6), drawn(3, 70, 6)
        part, rows = drawn(30, 9), drawn(2, 6)
        total.add_product(a, b)
        total.add_product(part, b, rows=slice(35, 65))
        total.add(terms)
        total.add_sum_of_products(terms, terms)
        total.add_at(torch.tensor([69, 3]).numpy(), rows)
        quires.matmul_add(array_of(a), array_of(b))
        quires[35:65].matmul_add(array_of(part), array_of(b))
        for each in array_of(terms):
            quires.add(each)
            quires.mul_add(each, each)
        quires[69].add(array_of(rows)[0])
        quires[3].add(array_of(rows)[1])
    assert (total.gradient().codes.numpy() == quires.to_posit().codes.astype("int16")).all()
    assert total.nbytes < quires.nbytes / 2
    nar = PositTensor(torch.full((1, 9), -(2**15), dtype=torch.int16), posit16)
    total.add_product(nar, b, rows=slice(20, 21))
    total.add(terms)
    assert (total.gradient().codes[20] == -(2**15)).all()
    assert not (total.gradient().codes[21] == -(2**15)).any()


def array_of(x: PositTensor) -> PositArray:
    return PositArray(x.codes.numpy().view("uint16"), x.format)


def test_a_convolution_keeps_no_frame_and_so_no_tensor_alive() -> None:
    layer = convert(nn.Conv2d(HALF, HALF, 3), "posit16")
    x = inputs("cnn")[:, :HALF].contiguous()
    gone = weakref.ref(x)
    gc.disable()
    try:
        layer(x)
        del x
        assert gone() is None
    finally:
        gc.enable()


def test_there_is_no_second_derivative() -> None:
    stack, x = stack_of("mlp"), inputs("mlp").requires_grad_()
    with pytest.raises(ModeError, match="no second derivative"):
        torch.autograd.grad(posit(stack(x)).sum(), x, create_graph=True)
