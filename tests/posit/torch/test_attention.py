"""Scaled-dot-product and multi-head attention: rounding points against rationals and mpmath, masks, modules."""

import copy
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from posit import Format, posit8, posit16, posit32
from posit.codec import encode_rational
from posit.errors import FormatMismatch, NoRuleError, ShapeError
from posit.torch import Policy, PositTensor, gradient_sums, posit_tensor
from posit.torch.ops.softmax_exact import softmax_code
from tests.posit.torch.samples import posit, rounded

NAR = -(1 << 15)
attention: Callable[..., torch.Tensor] = functional.scaled_dot_product_attention
Table = list[list[Fraction]]


def leaf(x: PositTensor) -> PositTensor:
    return posit(x.like(x.codes.clone()).requires_grad_())


def table(x: torch.Tensor) -> Table:
    return [[Fraction(value) for value in row] for row in posit(x).values().tolist()]


def transposed(rows: Table) -> Table:
    return [list(column) for column in zip(*rows, strict=True)]


def nearest(rows: Table, fmt: Format) -> tuple[list[list[int]], Table]:
    """Signed codes and values of rationals, each rounded once."""
    codes = [[encode_rational(value, fmt) for value in row] for row in rows]
    signed = [[code - (1 << fmt.nbits) if code >= fmt.nar else code for code in row] for row in codes]
    dtype = {8: torch.int8, 16: torch.int16, 32: torch.int32}[8 * fmt.storage.itemsize]
    return signed, table(PositTensor(torch.tensor(signed, dtype=dtype), fmt))


def product(a: Table, b: Table, scale: float = 1.0) -> Table:
    columns = transposed(b)
    return [
        [
            Fraction(scale) * sum((x * y for x, y in zip(row, col, strict=True)), Fraction(0))
            for col in columns
        ]
        for row in a
    ]


def by_hand(
    q: PositTensor, k: PositTensor, v: PositTensor, g: PositTensor, kept: Any, added: Any, scale: float
) -> list[list[list[int]]]:
    """Codes of context and of the gradients of q, k and v, by the rounding points of the documentation."""
    fmt = q.format
    scores = product(table(q), transposed(table(k)), scale)
    scores = [
        [s + Fraction(float(a)) for s, a in zip(*pair, strict=True)]
        for pair in zip(scores, added, strict=True)
    ]
    stored = nearest(scores, fmt)[1]
    weights: Table = []
    for row, counts in zip(stored, kept, strict=True):
        columns = np.flatnonzero(counts).tolist()
        chosen = np.array([float(row[j]) for j in columns])
        made = [[0] * len(row)]
        for place, j in enumerate(columns):
            made[0][j] = softmax_code(chosen, place, fmt)
        dtype = torch.int16 if fmt.nbits > 8 else torch.int8
        weights += table(PositTensor(torch.tensor(made, dtype=torch.int32).to(dtype), fmt))
    context = nearest(product(weights, table(v)), fmt)[0]
    to_value = nearest(product(transposed(weights), table(g)), fmt)[0]
    to_weights = nearest(product(table(g), transposed(table(v))), fmt)[1]
    to_scores = []
    for p, d in zip(weights, to_weights, strict=True):
        dot = sum((x * y for x, y in zip(p, d, strict=True)), Fraction(0))
        to_scores.append([x * (y - dot) for x, y in zip(p, d, strict=True)])
    stored = nearest(to_scores, fmt)[1]
    to_query = nearest(product(stored, table(k), scale), fmt)[0]
    to_key = nearest(product(transposed(stored), table(q), scale), fmt)[0]
    return [context, to_query, to_key, to_value]


SOME = torch.tensor([[1, 1, 0, 1, 0, 1], [0, 0, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]]).bool()
BIAS = torch.tensor([[0.1, -0.3, float("-inf"), 5.0, 0.0, 1e-9]] * 4)


@pytest.mark.parametrize(
    "fmt", [posit8, posit16, pytest.param(Format(12, 1), marks=pytest.mark.exhaustive)], ids=str
)
@pytest.mark.parametrize("width", [3, 4])  # 1 / sqrt(4) is a power of two: ties are common
@pytest.mark.parametrize("case", ["plain", "causal", "bool", "float", "scale"])
def test_every_rounding_point_is_exact(fmt: Format, width: int, case: str) -> None:
    q, k, v = (
        leaf(rounded(4, width, fmt=fmt)),
        leaf(rounded(6, width, fmt=fmt, seed=1)),
        leaf(rounded(6, 5, fmt=fmt, seed=2)),
    )
    g = rounded(4, 5, fmt=fmt, seed=3)
    kept, added, scale = np.ones((4, 6), bool), np.zeros((4, 6)), 1 / math.sqrt(width)
    kw: dict[str, Any] = {}
    if case == "causal":
        kw, kept = {"is_causal": True}, np.tri(4, 6, dtype=bool)
    elif case == "bool":
        kw, kept = {"attn_mask": SOME}, SOME.numpy()
    elif case == "float":
        kw, kept = {"attn_mask": BIAS}, np.isfinite(BIAS.numpy())
        added = np.where(kept, BIAS.numpy().astype(np.float64), 0.0)
    elif case == "scale":
        kw, scale = {"scale": 0.3}, 0.3
    y = attention(q, k, v, **kw)
    y.backward(g)
    wanted = by_hand(q, k, v, g, kept, added, scale)
    assert posit(y.detach()).codes.tolist() == wanted[0]
    for leaf_, codes in zip((q, k, v), wanted[1:], strict=True):
        assert posit(leaf_.grad).codes.tolist() == codes


def test_exact_zeros_and_cancellation_are_settled() -> None:
    q = posit_tensor(torch.tensor([[1.0, -1.0, 2.0**-20], [2.0**20, 1.0, 2.0**20]]), posit16)
    k = posit_tensor(torch.tensor([[3.0, 3.0, 0.0], [2.0**20, 2.0**-20, -(2.0**20)]]), posit16)
    v, g = rounded(2, 2, seed=1), rounded(2, 2, seed=2)
    leaves = [leaf(x) for x in (q, k, v)]
    y = attention(*leaves, scale=0.7)
    y.backward(g)
    wanted = by_hand(leaves[0], leaves[1], leaves[2], g, np.ones((2, 2), bool), np.zeros((2, 2)), 0.7)
    assert [posit(x).codes.tolist() for x in (y.detach(), *(x.grad for x in leaves))] == wanted


@pytest.mark.parametrize("fmt", [posit16, posit32], ids=str)
@pytest.mark.parametrize("shape", [(5, 4), (3, 5, 4), (2, 3, 5, 4)], ids=str)
def test_it_agrees_with_float64(fmt: Format, shape: tuple[int, ...]) -> None:
    q, k, v, g = (rounded(*shape, fmt=fmt, seed=seed) for seed in range(4))
    for kw in (
        {},
        {"is_causal": True},
        {"attn_mask": torch.rand(5, 5) > 0.3},
        {"attn_mask": torch.randn(5, 5)},
    ):
        posits = [leaf(x) for x in (q, k, v)]
        reals = [x.to_float(torch.float64).requires_grad_() for x in (q, k, v)]
        y = attention(*posits, **kw)
        y.backward(g)
        mask = kw.get("attn_mask")
        real_kw = (
            {"attn_mask": mask.double() if mask.is_floating_point() else mask}
            if isinstance(mask, torch.Tensor)
            else kw
        )
        z = attention(*reals, **real_kw)
        z.backward(g.to_float(torch.float64))
        tolerance = 1e-7 if fmt == posit32 else 6e-3
        pairs = [(y.detach(), z), *((a.grad, b.grad) for a, b in zip(posits, reals, strict=True))]
        for found, wanted in pairs:
            assert wanted is not None
            assert (posit(found).to_float(torch.float64) - wanted).abs().max() < tolerance


@pytest.mark.parametrize("future", ["other numbers", "NaR"])
def test_a_future_token_changes_no_earlier_bit(future: str) -> None:
    q, k, v, g = (rounded(2, 6, 4, seed=seed) for seed in range(4))
    changed = [x.like(x.codes.clone()) for x in (q, k, v, g)]
    for x in changed:
        x.codes[:, 4:] = NAR if future == "NaR" else x.codes[:, 4:] // 3 + 77
    found = []
    for given in ((q, k, v, g), changed):
        leaves = [leaf(x) for x in given[:3]]
        y = attention(*leaves, is_causal=True)
        y.backward(given[3])
        context = posit(y.detach()).codes[:, :4]
        found.append([context, posit(leaves[0].grad).codes[:, :4]])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
    # gradients of early keys depend on late queries; without those they do not depend on late tokens at all
    grads = []
    for early_given in ([q, k, v], changed[:3]):
        leaves = [leaf(x) for x in early_given]
        early = g.like(g.codes.clone())
        early.codes[:, 4:] = 0
        attention(*leaves, is_causal=True)[:, :4].backward(posit(early[:, :4]))
        grads.append([posit(x.grad).codes[:, :4] for x in leaves])
    assert all(torch.equal(one, two) for one, two in zip(*grads, strict=True)) or future == "NaR"
    assert torch.equal(grads[0][0], grads[1][0])


def test_masked_positions_get_exact_zeros_and_a_masked_row_is_zero() -> None:
    q, k, v = leaf(rounded(4, 3)), leaf(rounded(6, 3, seed=1)), leaf(rounded(6, 2, seed=2))
    mask = SOME.clone()
    mask[:, 2] = False
    y = attention(q, k, v, attn_mask=mask)
    y.backward(rounded(4, 2, seed=3))
    assert posit(y.detach()).codes[3].tolist() == [0, 0]
    assert posit(q.grad).codes[3].tolist() == [0, 0, 0]
    assert posit(k.grad).codes[2].tolist() == [0, 0, 0]
    assert posit(v.grad).codes[2].tolist() == [0, 0]
    assert posit(v.grad).codes[5].any()


def test_nar_reaches_what_it_feeds_and_nothing_else() -> None:
    q, k, v = rounded(3, 2), rounded(3, 2, seed=1), rounded(3, 2, seed=2)
    v.codes[1, 0] = NAR
    mask = torch.tensor([[1, 0, 1], [1, 1, 1], [1, 0, 0]]).bool()
    got = np.isnan(posit(attention(q, k, v, attn_mask=mask)).values())
    assert got.tolist() == [[False, False], [True, False], [False, False]]
    v.codes[1, 0], k.codes[1, 1] = 5, NAR
    got = np.isnan(posit(attention(q, k, v, attn_mask=mask)).values())
    assert got.tolist() == [[False, False], [True, True], [False, False]]


def test_heads_in_any_memory_order_have_the_same_bits() -> None:
    x = rounded(2, 5, 3, 4)  # batch, tokens, heads, width
    views = [
        posit(part.transpose(1, 2)) for part in (x, rounded(2, 5, 3, 4, seed=1), rounded(2, 5, 3, 4, seed=2))
    ]
    g = rounded(2, 3, 5, 4, seed=3)
    found = []
    for contiguous in (False, True):
        leaves = [
            posit(PositTensor(v.codes.contiguous() if contiguous else v.codes, posit16).requires_grad_())
            for v in views
        ]
        y = attention(*leaves, is_causal=True)
        y.backward(g)
        found.append([posit(y.detach()).codes, *(posit(part.grad).codes for part in leaves)])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_leading_dimensions_broadcast_and_groups_share_keys() -> None:
    q, k, v = rounded(2, 4, 3, 5), rounded(2, 2, 6, 5, seed=1), rounded(2, 2, 6, 5, seed=2)
    grouped = attention(q, leaf(k), leaf(v), enable_gqa=True)
    repeated = [x.like(x.codes.repeat_interleave(2, dim=1)) for x in (k, v)]
    assert torch.equal(posit(grouped.detach()).codes, posit(attention(q, *repeated)).codes)
    one = attention(q, posit(k[:1, :1]), posit(v[:1, :1]))
    wide = attention(q, *(x.like(x.codes[:1, :1].expand(2, 4, 6, 5)) for x in (k, v)))
    assert torch.equal(posit(one).codes, posit(wide).codes)
    with pytest.raises(ShapeError, match="divide 4"):
        attention(q, rounded(2, 3, 6, 5), rounded(2, 3, 6, 5), enable_gqa=True)


def test_formats_follow_the_policy() -> None:
    policy = Policy(posit8, posit16, posit16)
    q, k, v = (
        posit(PositTensor(rounded(2, 3, 4, seed=s).codes, posit16, policy=policy).requires_grad_())
        for s in range(3)
    )
    y = attention(q, k, v, is_causal=True)
    assert posit(y).format == posit8
    g = PositTensor(rounded(2, 3, 4, seed=4).codes, posit16, policy=policy)
    y.backward(g)
    assert [posit(x.grad).format for x in (q, k, v)] == [posit16] * 3
    real = [x.detach().to_float(torch.float64).requires_grad_() for x in (q, k, v)]  # type: ignore[attr-defined]  # PositTensors
    attention(*real, is_causal=True).backward(g.to_float(torch.float64))
    for found, wanted in zip((q, k, v), real, strict=True):
        assert wanted.grad is not None
        assert (posit(found.grad).to_float(torch.float64) - wanted.grad).abs().max() < 0.1
    fast = Policy(posit16, posit16, posit16, simulate=True)
    simulated = attention(*(PositTensor(x.codes, posit16, policy=fast) for x in (q, k, v)))
    plain = attention(*(PositTensor(x.codes, posit16) for x in (q, k, v)))
    assert (posit(simulated).to_float() - posit(plain).to_float()).abs().max() < 2e-3


def test_dropout_of_probabilities() -> None:
    q, k, v = rounded(1, 40, 4), rounded(1, 40, 4, seed=1), posit_tensor(torch.eye(40)[None], posit16)
    weights = posit(attention(q, k, v))
    torch.manual_seed(0)
    dropped = posit(attention(q, k, v, dropout_p=0.5))
    share = float((dropped.codes == 0).double().mean())
    assert 0.4 < share < 0.6
    seen = dropped.codes != 0
    ratio = dropped.to_float(torch.float64)[seen] / weights.to_float(torch.float64)[seen]
    assert (ratio - 2).abs().max() < 0.01


def test_bad_input_is_refused_by_name() -> None:
    q, k, v = rounded(3, 4), rounded(5, 4), rounded(5, 2)
    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: attention(q, rounded(5, 3), v), ShapeError, r"needs query \(..., l, d\)"),
        (lambda: attention(q, k, rounded(4, 2)), ShapeError, r"needs query \(..., l, d\)"),
        (lambda: attention(rounded(2, 3, 4), rounded(3, 5, 4), v), ShapeError, "do not broadcast"),
        (
            lambda: attention(q, k, v, attn_mask=torch.ones(3, 4).bool()),
            ShapeError,
            r"broadcasts to \(3, 5\)",
        ),
        (lambda: attention(q, k, v, attn_mask=SOME, is_causal=True), ShapeError, "not both"),
        (lambda: attention(q, k, v, attn_mask=torch.full((3, 5), float("nan"))), ShapeError, "NaN or"),
        (lambda: attention(q, k, v, attn_mask=rounded(3, 5)), NoRuleError, "mask of posits"),
        (lambda: attention(q, k, v, attn_mask=torch.ones(3, 5).int()), NoRuleError, "got torch.int32"),
        (lambda: attention(q, k, torch.ones(5, 2)), FormatMismatch, "torch.float32 operand"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def converted(module: nn.Module, fmt: Format) -> tuple[nn.Module, nn.Module]:
    """A module in posits and its twin in float64, with the same weights."""
    posits, real = copy.deepcopy(module), copy.deepcopy(module).double()
    for name, parameter in list(module.named_parameters()):
        *path, last = name.split(".")
        owner = posits.get_submodule(".".join(path))
        made = posit_tensor(parameter.detach(), fmt)
        setattr(owner, last, nn.Parameter(made))
        real.get_parameter(name).data.copy_(made.to_float(torch.float64))
    return posits, real


def compare(
    module: nn.Module, fmt: Format, inputs: list[PositTensor], same: list[int], tolerance: float, **kw: Any
) -> None:
    """Outputs, gradients of parameters and of inputs against float64; inputs are taken by number, so that some coincide."""
    posits, real = converted(module, fmt)
    ours = [leaf(x) for x in inputs]
    theirs = [x.to_float(torch.float64).requires_grad_() for x in inputs]
    found, wanted = posits(*(ours[i] for i in same), **kw), real(*(theirs[i] for i in same), **kw)
    pairs = []
    if isinstance(found, tuple):
        if found[1] is not None:
            pairs.append((found[1].detach(), wanted[1]))
        found, wanted = found[0], wanted[0]
    g = rounded(*found.shape, fmt=fmt, seed=9)
    found.backward(g)
    wanted.backward(g.to_float(torch.float64))
    pairs += [(found.detach(), wanted), *((x.grad, y.grad) for x, y in zip(ours, theirs, strict=True))]
    pairs += [(x.grad, y.grad) for x, y in zip(posits.parameters(), real.parameters(), strict=True)]
    for one, other in pairs:
        assert (posit(one).to_float(torch.float64) - other).abs().max() < tolerance


PADDING = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1]]).bool()


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention_agrees_with_float64(need_weights: bool) -> None:
    torch.manual_seed(0)
    x, y, z = (
        rounded(2, 5, 8, fmt=posit32),
        rounded(2, 4, 8, fmt=posit32, seed=1),
        rounded(2, 4, 8, fmt=posit32, seed=2),
    )
    plain = nn.MultiheadAttention(8, 2, batch_first=True)
    nn.init.normal_(plain.in_proj_bias)
    causal = torch.ones(5, 5).triu(1).bool()
    same = {"need_weights": need_weights}
    compare(plain, posit32, [x], [0, 0, 0], 1e-6, **same)
    compare(plain, posit32, [x], [0, 0, 0], 1e-6, attn_mask=causal, is_causal=True, **same)
    compare(plain, posit32, [x, y], [0, 1, 1], 1e-6, key_padding_mask=PADDING, **same)
    heads = torch.rand(4, 5, 4) > 0.8
    heads[:, :, 1] = False  # where all is masked PyTorch gives NaN with weights, and 0 without
    compare(plain, posit32, [x, y, z], [0, 1, 2], 1e-6, attn_mask=heads, average_attn_weights=False, **same)
    full = nn.MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True, bias=False)
    kw = {"key_padding_mask": PADDING.T.contiguous().T[:, :4], "attn_mask": torch.zeros(5, 4).bool()}
    compare(
        full, posit32, [posit(x.transpose(0, 1)), posit(y.transpose(0, 1))], [0, 1, 1], 1e-6, **same, **kw
    )
    apart = nn.MultiheadAttention(8, 2, kdim=6, vdim=3)
    inputs = [rounded(5, 8, fmt=posit32), rounded(4, 6, fmt=posit32), rounded(4, 3, fmt=posit32)]
    compare(apart, posit32, inputs, [0, 1, 2], 1e-6, **same)


def test_weights_and_no_weights_have_the_same_bits() -> None:
    module, _ = converted(nn.MultiheadAttention(8, 2, batch_first=True), posit16)
    x = rounded(2, 5, 8)
    one, weights = module(x, x, x, key_padding_mask=torch.zeros(2, 5).bool())
    other, none = module(x, x, x, need_weights=False)
    assert none is None
    assert weights.shape == (2, 5, 5)
    assert torch.equal(posit(one.detach()).codes, posit(other.detach()).codes)


def test_gradients_of_a_packed_projection_are_added_exactly() -> None:
    module, _ = converted(nn.MultiheadAttention(8, 2, batch_first=True), posit16)
    x, y, g = rounded(4, 5, 8), rounded(4, 3, 8, seed=1), rounded(4, 5, 8, seed=2)
    parameters = [posit(parameter) for parameter in module.parameters()]
    for keys in (None, y):
        found = []
        for parts in ([slice(0, 4)], [slice(0, 1), slice(1, 4)]):
            with gradient_sums(parameters) as sums:
                for part in parts:
                    own = x if keys is None else keys
                    query, key = posit(x[part]), posit(own[part])
                    result = module(query, query if keys is None else key, query if keys is None else key)[0]
                    result.backward(posit(g[part]))
            assert all(parameter.grad is None for parameter in parameters)
            found.append([each.quires.to_posit().codes.tolist() for each in sums])
        assert found[0] == found[1]
        assert all(np.any(codes) for codes in found[0])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_layers_work_unmodified(training: bool, norm_first: bool) -> None:
    torch.manual_seed(0)
    kw: dict[str, Any] = {"dropout": 0.0, "batch_first": True, "norm_first": norm_first}
    encoder = nn.TransformerEncoderLayer(8, 2, 16, **kw).train(training)
    x, y = rounded(2, 4, 8, fmt=posit32), rounded(2, 5, 8, fmt=posit32, seed=1)
    compare(encoder, posit32, [x], [0], 1e-5, src_key_padding_mask=PADDING)
    decoder = nn.TransformerDecoderLayer(8, 2, 16, **kw).train(training)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    compare(decoder, posit32, [y, x], [0, 1], 1e-5, tgt_mask=mask, tgt_is_causal=True)
    stack = nn.TransformerEncoder(encoder, 2, enable_nested_tensor=False).train(training)
    compare(stack, posit32, [x], [0], 1e-4)


def test_without_gradients_the_fast_path_is_not_taken() -> None:
    module, _ = converted(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval(), posit16)
    x = rounded(2, 4, 8)
    with torch.no_grad():
        assert torch.equal(posit(module(x)).codes, posit(module(x)).codes)
    assert torch.equal(posit(module(x).detach()).codes, posit(module(x.detach())).codes)
