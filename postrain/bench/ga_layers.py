"""Layers of geometric algebra, forward and backward, beside the same functions as CGENN and GATr compute them.

The peers hold dense multivectors, blades last, and contract with dense tables: CGENN (Ruhe et al., arXiv 2305.11141)
its path weights spread over (blades, blades, blades), GATr (Brehmer et al., arXiv 2305.18415) a basis of nine
equivariant maps, and tables of the geometric product and the join.  They are written here from the papers, with our
weights, and proved to return what ours return.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ga import PGA3, VGA3, Algebra, Layout, Multivector
from ga.nn import FullyConnectedGeometricProduct, GeometricBilinear, ProjectiveLinear
from ga.nn.projective import null_maps
from ga.plan import plan_for
from ga.product import product
from postrain.bench.contest import Contest, Peer
from postrain.bench.ga_peers import cayley
from postrain.errors import MeasurementError

_CGENN, _GATR = 5.0, 2.0  #: at least so many times the peer's speed
_CHANNELS, _BATCH = 32, 128  #: of CGENN's layer
_TOKENS, _MULTIVECTORS = 256, 16  #: of GATr's
_CLOSE = 2e-4  #: relative to the largest output: float32 sums in another order

Run = Callable[[], tuple[Tensor, list[Tensor]]]  #: outputs blades last, and what gradients were taken of


def contests(seed: int) -> Iterator[Contest]:
    """A layer of CGENN's kind in two algebras, and one of GATr's.

    Raises:
        MeasurementError: ours and the peer's do not return the same.
    """
    for name, algebra in (("VGA3", VGA3), ("PGA3", PGA3)):
        yield _connected(name, algebra, torch.Generator().manual_seed(seed))
    yield _bilinear(torch.Generator().manual_seed(seed))


def _connected(name: str, algebra: Algebra, generator: torch.Generator) -> Contest:
    layout = Layout.full(algebra)
    layer = FullyConnectedGeometricProduct(layout, _CHANNELS, _CHANNELS, generator=generator)
    x = torch.randn(_BATCH, _CHANNELS, len(layout), generator=generator, requires_grad=True)
    planes = x.detach().movedim(-1, 0).contiguous().requires_grad_()
    table = cayley(algebra)  # (i, j, k): e_i e_k in the direction of e_j
    grades = [blade.bit_count() for blade in layout.blades]
    places = {path: place for place, path in enumerate(layer.plan.paths)}
    n = len(layout)
    which = torch.tensor(
        [
            [[places.get((grades[i], grades[k], grades[j]), 0) for k in range(n)] for j in range(n)]
            for i in range(n)
        ]
    )
    spread = torch.stack([layer.linear.weights[str(k)] for k in layout.grades])  # (grades, out, in)
    by_blade = torch.tensor([layout.grades.index(k) for k in grades])
    maps, weight = spread.detach().clone().requires_grad_(), layer.weight.detach().clone().requires_grad_()

    def peer() -> tuple[Tensor, list[Tensor]]:
        right = torch.einsum("bmi,inm->bni", x, maps[by_blade])
        dense = weight[which].permute(3, 4, 0, 1, 2) * table  # (out, in, i, j, k)
        pairs = torch.einsum("bni,bnk->bnik", x, right)  # the cheapest order, which opt_einsum finds
        return torch.einsum("bnik,mnijk->bmj", pairs, dense), [x, maps, weight]

    def ours() -> tuple[Tensor, list[Tensor]]:
        out = layer(Multivector(planes, layout))
        return out.coefficients, [planes, *layer.parameters()]

    return _contest(
        f"{name} connected product {_CHANNELS} → {_CHANNELS}, batch {_BATCH}",
        ours,
        peer,
        "CGENN's way",
        _CGENN,
    )


def _bilinear(generator: torch.Generator) -> Contest:
    layout, channels = Layout.full(PGA3), _MULTIVECTORS
    first = ProjectiveLinear(layout, channels, channels, generator=generator)
    second = GeometricBilinear(layout, channels, channels, generator=generator)
    x = torch.randn(_TOKENS, channels, len(layout), generator=generator, requires_grad=True)
    planes = x.detach().movedim(-1, 0).contiguous().requires_grad_()
    table, joined, basis = cayley(PGA3), _join_table(layout), _basis(layout)
    layers = [first, second.left, second.right, second.join_left, second.join_right, second.out]
    weights = [_coefficients(each).requires_grad_() for each in layers]
    biases = [None if each.grades.bias is None else each.grades.bias.detach().clone() for each in layers]

    def linear(place: int, inputs: Tensor) -> Tensor:
        outputs = torch.einsum("yxa,aij,bxj->byi", weights[place], basis, inputs)
        bias = biases[place]
        if bias is None:
            return outputs
        return torch.cat([outputs[..., :1] + bias[:, None], outputs[..., 1:]], -1)

    def peer() -> tuple[Tensor, list[Tensor]]:
        h = linear(0, x)
        products = torch.einsum("bni,ijk,bnk->bnj", linear(1, h), table, linear(2, h))
        joins = torch.einsum("bni,ijk,bnk->bnj", linear(3, h), joined, linear(4, h))
        return linear(5, torch.cat([products, joins], 1)), [x, *weights]

    def ours() -> tuple[Tensor, list[Tensor]]:
        out = second(first(Multivector(planes, layout)))
        return out.coefficients, [planes, *first.parameters(), *second.parameters()]

    return _contest(
        f"PGA3 linear + bilinear {channels} → {channels}, {_TOKENS} tokens", ours, peer, "GATr's way", _GATR
    )


def _contest(name: str, ours: Run, peer: Run, by: str, target: float) -> Contest:
    found, wanted = ours()[0].detach(), peer()[0].detach()
    if not torch.allclose(found, wanted, rtol=0.0, atol=_CLOSE * float(wanted.abs().max())):
        raise MeasurementError(f"{name}: ours is not what {by} gives, so nothing was timed")
    timed = Peer(by, lambda threads: _both_ways(peer), "speed", target)
    return Contest(name, lambda threads: _both_ways(ours), (timed,), 1.0, "ms")


def _both_ways(run: Run) -> None:
    outputs, inputs = run()
    torch.autograd.grad(outputs.square().sum(), inputs, allow_unused=True)


def _join_table(layout: Layout) -> Tensor:
    """The join of basis blades, (i, j, k): e_i & e_k in the direction of e_j."""
    plan = plan_for("regressive", layout, layout)
    n = len(layout)
    unit = torch.eye(n)
    left, right = unit[:, :, None].expand(n, n, n), unit[:, None, :].expand(n, n, n)
    found = torch.zeros(n, n, n)
    where = [layout.blades.index(blade) for blade in plan.out.blades]
    found[where] = product(left.contiguous(), right.contiguous(), plan)  # (j, i, k)
    return found.movedim(0, 1).contiguous()


def _basis(layout: Layout) -> Tensor:
    """GATr's equivariant linear maps of multivectors: a projection to each grade, and e0 times it; (maps, out, in)."""
    n, maps = len(layout), []
    for where in layout.slices.values():
        one = torch.zeros(n, n)
        one[where, where] = torch.eye(where.stop - where.start)
        maps.append(one)
    for below, above, count in null_maps(layout):
        one = torch.zeros(n, n)
        start, stop = layout.slices[above].start, layout.slices[below].stop
        for place in range(count):
            one[start + place, stop - count + place] = 1.0
        maps.append(one)
    return torch.stack(maps)


def _coefficients(layer: ProjectiveLinear) -> Tensor:
    """Our matrices as coefficients of `_basis`, (out, in, maps)."""
    matrices = [*layer.grades.weights.values(), *layer.null_weights.values()]
    return torch.stack([each.detach() for each in matrices], -1).clone()
