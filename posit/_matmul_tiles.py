"""Exact products of large matrices, tile by tile: the workspace is bounded whatever the sizes are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import certificate, product, settle
from posit._matmul_operands import Factor, Key, Task
from posit._threads import split
from posit.codec import decode

Codes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Gemm = Callable[[Floats, Floats, Floats], object]

WORKSPACE = 16 << 20  #: bytes of decoded tiles that a product may hold by default
_DEPTH = 512  #: terms that are summed in one float64 product; shorter sums have smaller bounds
_FEW = 32  #: rows or columns of a thin product, which moves more memory than it multiplies
_CACHED = 1 << 16  #: float64 numbers of the tiles of a thin product, so that they stay in the cache


@dataclass(frozen=True, slots=True)
class Tiling:
    """Sizes of the tiles of a product."""

    rows: int
    depth: int
    columns: int
    partial: bool  #: whether the sum is split, so that a second tile of results is needed

    @property
    def doubles(self) -> int:
        """Float64 numbers that the tiles hold."""
        results = self.rows * self.columns * (2 if self.partial else 1)
        return self.depth * (self.rows + self.columns) + results


def tiling(m: int, k: int, n: int, workspace: int | None = None) -> Tiling:
    """Tiles that fit the workspace, a row and a column at least: (rows + columns) * depth + results, in float64.

    >>> tiling(128, 784, 512), tiling(4096, 4096, 4096).doubles * 8 <= WORKSPACE
    (Tiling(rows=128, depth=784, columns=512, partial=False), True)
    """
    room = (workspace or WORKSPACE) // 8
    found = _thin(m, k, n, min(room, _CACHED)) if min(m, n) <= _FEW else None
    if found:
        return found
    for depth in (k, *(d for d in (_DEPTH, 256, 128, 64) if d < k)):
        partial = depth < k
        results = 2 if partial else 1
        if depth <= 2 * _DEPTH and depth * (m + n) + results * m * n <= room:
            return Tiling(m, depth, n, partial)
        side = int((-2 * depth + (4 * depth * depth + 4 * results * room) ** 0.5) / (2 * results))
        if (side >= depth // 2 and depth <= 2 * _DEPTH) or depth <= 64:
            rows = _even(m, max(1, min(m, side)))
            columns = _even(n, max(1, min(n, (room - depth * rows) // (depth + results * rows))))
            rows = _even(m, max(1, min(m, (room - depth * columns) // (depth + results * columns))))
            return Tiling(rows, depth, columns, partial)
    return Tiling(1, max(k, 1), 1, False)


def _thin(m: int, k: int, n: int, room: int) -> Tiling | None:
    """Tiles of few rows or columns: of the whole depth if 64 lines of it have room, else of all rows and columns."""
    few, many = min(m, n), max(m, n)
    lines = min(many, (room - k * few) // (k + few))
    if lines >= min(many, 64):
        part = _even(many, lines)
        return Tiling(m, k, part, False) if m < n else Tiling(part, k, n, False)
    depth = (room - 2 * m * n) // (m + n)
    return Tiling(m, _even(k, min(k, depth)), n, True) if depth >= _DEPTH else None


def _even(size: int, part: int) -> int:
    """The part that cuts `size` into as many pieces of nearly the same length."""
    return -(-size // -(-size // part))


@dataclass(slots=True)
class _Panel:
    """Decoded rows of a left factor or columns of a right one, with what the proof needs of each."""

    factor: Factor
    key: Key
    outer: int  #: stride from line to line
    inner: int  #: stride along the sum
    values: Floats
    norm: Floats
    lowest: Floats
    nar: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, factor: Factor, key: Key, outer: int, inner: int, lines: int, depth: int) -> "_Panel":
        """Room for so many lines of so many terms."""
        return cls(
            factor, key, outer, inner, _buffers.empty(lines * depth), _buffers.empty(lines), _buffers.empty(lines),
            _buffers.empty(lines, np.uint8),
        )  # fmt: skip

    def begin(self, lines: int) -> None:
        self.norm[:lines] = 0.0
        self.lowest[:lines] = np.inf
        self.nar[:lines] = 0

    def decoded(self, lines: int, depth: int) -> Floats:
        """What was decoded last, as (lines, depth)."""
        values = self.values[: lines * depth]
        return values.reshape(lines, depth) if self.inner == 1 else values.reshape(depth, lines).T

    def decode(self, item: int, first: int, lines: int, start: int, depth: int) -> Floats:
        """Lines first … of one matrix, terms start …, as (lines, depth); their statistics are added up."""
        kernel = product.decode(*self.key)
        codes, lowest = self.factor.codes, self.lowest.view(np.int64)
        at = int(self.factor.places[item]) + first * self.outer + start * self.inner

        def run_lines(begin: int, end: int) -> None:
            kernel(
                codes, at + begin * self.outer, self.outer, end - begin, self.values[begin * depth :], depth,
                self.norm[begin:], lowest[begin:], self.nar[begin:], True,
            )  # fmt: skip

        def run_terms(begin: int, end: int) -> None:
            norm, low, nar = np.zeros(lines), np.full(lines, np.inf), np.zeros(lines, np.uint8)
            kernel(
                codes, at + begin * self.inner, self.inner, end - begin, self.values[begin * lines :], lines,
                norm, low.view(np.int64), nar, False,
            )  # fmt: skip
            parts.append((norm, low, nar))

        parts: list[tuple[Floats, Floats, npt.NDArray[np.uint8]]] = []
        if self.inner == 1:
            split(lines, lines * depth * 2, run_lines)
        else:
            split(depth, lines * depth * 2, run_terms)
        for norm, low, nar in parts:
            self.norm[:lines] += norm
            np.minimum(self.lowest[:lines], low, out=self.lowest[:lines])
            self.nar[:lines] |= nar
        return self.decoded(lines, depth)

    def end(self, lines: int) -> None:
        norm = self.norm[:lines]
        np.sqrt(norm, out=norm)
        norm *= product.INFLATE


def multiply_tiles(task: Task, gemm: Gemm, workspace: int | None) -> Integers:
    """Make all products of a task; counts by tier."""
    tiles = tiling(task.m, task.k, task.n, workspace)
    left, right = task.left, task.right
    work = _Work(
        task,
        tiles,
        gemm,
        _Panel.of(left, task.formats.left, left.row, left.step, tiles.rows, tiles.depth),
        _Panel.of(right, task.formats.right, right.step, right.row, tiles.columns, tiles.depth),
        _buffers.empty(tiles.rows * tiles.columns),
        _buffers.empty(tiles.rows * tiles.columns if tiles.partial else 0),
        np.zeros(5, np.int64),
    )
    for item in range(task.items):
        found = [
            work.run(_Area(item, i, min(tiles.rows, task.m - i), j, min(tiles.columns, task.n - j)))
            for j in range(0, task.n, tiles.columns)
            for i in range(0, task.m, tiles.rows)
        ]
        if task.opened is not None:
            task.opened.append(np.sort(np.concatenate(found)))
    return work.total


@dataclass(frozen=True, slots=True)
class _Area:
    """Where a tile of results lies."""

    item: int  #: of the batch
    first_row: int
    rows: int
    first_column: int
    columns: int


@dataclass(slots=True)
class _Work:
    """A task, and the room in which its tiles are made one after the other."""

    task: Task
    tiles: Tiling
    gemm: Gemm
    a: _Panel
    b: _Panel
    sums: Floats
    partial: Floats
    total: Integers

    def run(self, area: _Area) -> Integers:
        """Make one tile; flat indices of what float64 left open."""
        self._sum(area)
        c = self.sums[: area.rows * area.columns]
        added, step = self._addend(area)
        undecided = self._certify(c, added, step, area)
        return self._repair(c, undecided, added, step, area) if undecided else np.empty(0, np.int64)

    def _sum(self, area: _Area) -> None:
        k, depth = self.task.k, self.tiles.depth
        same = (
            area.first_row > 0 and not self.tiles.partial
        )  # columns that the tile above has decoded already
        self.a.begin(area.rows)
        if not same:
            self.b.begin(area.columns)
        out, more = (room[: area.rows * area.columns] for room in (self.sums, self.partial))
        for start in range(0, k, depth):
            terms = min(depth, k - start)
            x = self.a.decode(area.item, area.first_row, area.rows, start, terms)
            y = (
                self.b.decoded(area.columns, terms)
                if same
                else self.b.decode(area.item, area.first_column, area.columns, start, terms)
            )
            self.gemm(x, y.T, (more if start else out).reshape(area.rows, area.columns))
            if start:
                out += more
        self.a.end(area.rows)
        if not same:
            self.b.end(area.columns)

    def _addend(self, area: _Area) -> tuple[Floats, int]:
        """Float64 addends of the tile and the step from row to row of them; NaN for NaR."""
        if self.task.addend is None:
            return self.sums[:0], 0
        addends = self.task.addend
        whole = addends[np.unravel_index(area.item, addends.shape[:-2])]
        part = whole[
            area.first_row : area.first_row + area.rows, area.first_column : area.first_column + area.columns
        ]
        if whole.strides[0] == 0:
            part = part[:1]
        values: Floats = decode(np.ascontiguousarray(part), self.task.out_format).astype(
            np.float64, copy=False
        )
        return values.reshape(-1), area.columns if len(part) > 1 else 0

    def _place(self, area: _Area) -> int:
        """Flat index of the tile's first element among the results."""
        return (area.item * self.task.m + area.first_row) * self.task.n + area.first_column

    def _certify(self, c: Floats, added: Floats, step: int, area: _Area) -> int:
        """Round and prove; how many elements are left open."""
        task, a, b, columns = self.task, self.a, self.b, area.columns
        kernel = certificate.certify(*task.formats.result, task.addend is not None)
        bound = task.error_bound(self.tiles.depth + -(-task.k // self.tiles.depth))
        flat, place = task.flat, self._place(area)
        parts: list[Integers] = []

        def run(start: int, stop: int) -> None:
            counts = np.zeros(3, np.int64)
            kernel(
                start, stop, columns, c, added, step, a.norm, b.norm[:columns], a.lowest, b.lowest[:columns], bound,
                a.nar, b.nar[:columns], flat, place, task.n, task.formats.mask, counts,
            )  # fmt: skip
            parts.append(counts)

        split(area.rows, c.size * 3, run)
        counts = np.sum(parts, axis=0)
        self.total[:2] += counts[:2]
        return int(counts[2])

    def _repair(self, c: Floats, count: int, added: Floats, step: int, area: _Area) -> Integers:
        task, a, b = self.task, self.a, self.b
        found = _buffers.empty(count, np.int64)
        settle.find_open(c, found)
        rows, columns = np.divmod(found, area.columns)
        order = np.argsort(columns, kind="stable")
        rows, columns = rows[order], columns[order]
        addends = added[rows * step + columns] if task.addend is not None else _buffers.zeros(count)
        places = self._place(area) + rows * task.n + columns
        rows += area.first_row
        columns += area.first_column
        wanted, flat = task.formats, task.flat
        kernel = settle.repair(wanted.left, wanted.right, wanted.result)
        at = int(a.factor.places[area.item]), int(b.factor.places[area.item])
        parts: list[Integers] = []

        def run(start: int, stop: int) -> None:
            counts = np.zeros(3, np.int64)
            kernel(
                a.factor.codes, at[0], a.outer, a.inner, b.factor.codes, at[1], b.outer, b.inner, task.k,
                start, stop, rows, columns, addends, task.slack, np.empty(wanted.length, np.int64), wanted.base,
                flat, places, wanted.mask, counts,
            )  # fmt: skip
            parts.append(counts)

        split(count, count * task.k * 2, run)
        self.total[2:] += np.sum(parts, axis=0)
        return places
