"""Exact products of large matrices, tile by tile: the workspace is bounded whatever the sizes are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from posit import _buffers
from posit._kernels import product, settle
from posit._matmul_operands import Factor, Formats, Key
from posit._threads import split
from posit.codec import decode
from posit.formats import Format

Codes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Gemm = Callable[[Floats, Floats, Floats], object]

WORKSPACE = 16 << 20  #: bytes of decoded tiles that a product may hold by default
_DEPTH = 512  #: terms that are summed in one float64 product; shorter sums have smaller bounds
_UNIT = 2.0**-53
_INFLATE = 1.0 + 2.0**-18


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

    def begin(self, lines: int) -> None:
        self.norm[:lines] = 0.0
        self.lowest[:lines] = np.inf
        self.nar[:lines] = 0

    def decode(self, place: int, first: int, lines: int, start: int, depth: int) -> Floats:
        """Lines first … of one matrix, terms start …, as (lines, depth); their statistics are added up."""
        n, es, rs, width = self.key
        kernel = product.decode(n, es, rs, width)
        at = place + first * self.outer + start * self.inner
        lowest = self.lowest.view(np.int64)
        if self.inner == 1:

            def run(begin: int, end: int) -> None:
                kernel(
                    self.factor.codes, at + begin * self.outer, self.outer, end - begin, self.values[begin * depth :],
                    depth, 0, depth, self.norm[begin:], lowest[begin:], self.nar[begin:], True,
                )  # fmt: skip

            split(lines, lines * depth * 2, run)
            return self.values[: lines * depth].reshape(lines, depth)

        def run_columns(begin: int, end: int) -> None:
            kernel(
                self.factor.codes, at, self.inner, depth, self.values, lines, begin, end, self.norm, lowest,
                self.nar, False,
            )  # fmt: skip

        split(lines, lines * depth * 2, run_columns)
        return self.values[: lines * depth].reshape(depth, lines).T

    def end(self, lines: int) -> None:
        norm = self.norm[:lines]
        np.sqrt(norm, out=norm)
        norm *= _INFLATE


def _panel(factor: Factor, key: Key, outer: int, inner: int, lines: int, depth: int) -> _Panel:
    return _Panel(
        factor, key, outer, inner, _buffers.empty(lines * depth), _buffers.empty(lines), _buffers.empty(lines),
        _buffers.empty(lines, np.uint8),
    )  # fmt: skip


def multiply_tiles(
    left: Factor,
    right: Factor,
    addend: Codes | None,
    out_format: Format,
    sizes: tuple[int, int, int, int],
    wanted: Formats,
    codes: Codes,
    opened: list[Integers] | None,
    gemm: Gemm,
    slack: float,
    workspace: int | None,
) -> Integers:
    """Write the products of a batch, sizes (items, m, k, n), to `codes`; counts of `posit._matmul.Tiers`."""
    items, m, k, n = sizes
    tiles = tiling(m, k, n, workspace)
    a = _panel(left, wanted.left, left.row, left.step, tiles.rows, tiles.depth)
    b = _panel(right, wanted.right, right.step, right.row, tiles.columns, tiles.depth)
    sums = _buffers.empty(tiles.rows * tiles.columns)
    partial = _buffers.empty(sums.size if tiles.partial else 0)
    total = np.zeros(5, np.int64)
    added = None if addend is None else addend.reshape(items, m, n)
    out = codes.reshape(-1).view(f"i{codes.itemsize}")
    for item in range(items):
        tile = _Tile(
            a, b, sums, partial, (int(left.places[item]), int(right.places[item])),
            None if added is None else added[item], out_format, wanted, out[item * m * n : (item + 1) * m * n],
            (m, k, n), tiles, gemm, slack, total,
        )  # fmt: skip
        found = [
            tile.run(first_row, first_column)
            for first_column in range(0, n, tiles.columns)
            for first_row in range(0, m, tiles.rows)
        ]
        if opened is not None:
            opened.append(np.sort(np.concatenate(found)) + item * m * n)
    return total


@dataclass(slots=True)
class _Tile:
    """One product of the batch, and the room in which its tiles are made one after the other."""

    a: _Panel
    b: _Panel
    sums: Floats
    partial: Floats
    places: tuple[int, int]
    addend: Codes | None
    out_format: Format
    wanted: Formats
    out: npt.NDArray[np.signedinteger]
    sizes: tuple[int, int, int]
    tiles: Tiling
    gemm: Gemm
    slack: float
    total: Integers

    def run(self, first_row: int, first_column: int) -> Integers:
        """Make one tile; flat indices of what float64 left open."""
        m, _, n = self.sizes
        rows, columns = min(self.tiles.rows, m - first_row), min(self.tiles.columns, n - first_column)
        self._sum(first_row, rows, first_column, columns)
        c = self.sums[: rows * columns]
        added, step = self._addend(first_row, rows, first_column, columns)
        undecided = self._certify(c, added, step, first_row, rows, first_column, columns)
        if not undecided:
            return np.empty(0, np.int64)
        return self._repair(c, undecided, added, step, first_row, first_column, columns)

    def _sum(self, first_row: int, rows: int, first_column: int, columns: int) -> None:
        k, depth = self.sizes[1], self.tiles.depth
        same = first_row > 0 and not self.tiles.partial  # columns that the tile above has decoded already
        self.a.begin(rows)
        if not same:
            self.b.begin(columns)
        out = self.sums[: rows * columns].reshape(rows, columns)
        for start in range(0, max(k, 1), depth):
            terms = min(depth, k - start)
            x = self.a.decode(self.places[0], first_row, rows, start, terms)
            y = (
                self.b.values[: columns * terms].reshape(
                    (columns, terms) if self.b.inner == 1 else (terms, columns)
                )
                if same
                else self.b.decode(self.places[1], first_column, columns, start, terms)
            )
            if same and self.b.inner != 1:
                y = y.T
            if start == 0:
                self.gemm(x, y.T, out)
            else:
                more = self.partial[: rows * columns].reshape(rows, columns)
                self.gemm(x, y.T, more)
                out += more
        self.a.end(rows)
        if not same:
            self.b.end(columns)

    def _addend(self, first_row: int, rows: int, first_column: int, columns: int) -> tuple[Floats, int]:
        """Float64 addends of the tile and the step from row to row of them; NaN for NaR."""
        if self.addend is None:
            return self.sums[:0], 0
        part = self.addend[first_row : first_row + rows, first_column : first_column + columns]
        if self.addend.strides[0] == 0:
            part = part[:1]
        values: Floats = decode(np.ascontiguousarray(part), self.out_format).astype(np.float64, copy=False)
        return values.reshape(-1), columns if len(part) > 1 else 0

    def _certify(
        self, c: Floats, added: Floats, step: int, first_row: int, rows: int, first_column: int, columns: int
    ) -> int:
        """Round and prove; how many elements are left open."""
        n, es, rs, width = self.wanted.result
        kernel = product.certify(n, es, rs, width, self.addend is not None)
        _, k, all_columns = self.sizes
        longest = (
            min(self.tiles.depth, k) + -(-k // self.tiles.depth) + 4
        )  # operations that one term goes through
        gamma = self.slack * longest * _UNIT / (1 - longest * _UNIT) * _INFLATE
        a, b = self.a, self.b
        parts: list[Integers] = []

        def run(start: int, stop: int) -> None:
            counts = np.zeros(3, np.int64)
            kernel(
                start, stop, columns, c, added, step, a.norm, b.norm[:columns], a.lowest, b.lowest[:columns], gamma,
                a.nar, b.nar[:columns], self.out, first_row * all_columns + first_column, all_columns,
                self.wanted.mask, counts,
            )  # fmt: skip
            parts.append(counts)

        split(rows, c.size * 3, run)
        counts = np.sum(parts, axis=0)
        self.total[:2] += counts[:2]
        return int(counts[2])

    def _repair(
        self, c: Floats, count: int, added: Floats, step: int, first_row: int, first_column: int, columns: int
    ) -> Integers:
        found = _buffers.empty(count, np.int64)
        settle.find_open(c, found)
        rows, own = np.divmod(found, columns)
        order = np.argsort(own, kind="stable")
        rows, own = rows[order], own[order]
        addends = added[rows * step + own] if self.addend is not None else _buffers.zeros(count)
        all_columns = self.sizes[2]
        rows += first_row
        own += first_column
        places = rows * all_columns + own
        kernel = settle.repair(self.wanted.left, self.wanted.right, self.wanted.result)
        k = self.sizes[1]
        parts: list[Integers] = []

        def run(start: int, stop: int) -> None:
            counts = np.zeros(3, np.int64)
            kernel(
                self.a.factor.codes, self.places[0], self.a.outer, self.a.inner,
                self.b.factor.codes, self.places[1], self.b.outer, self.b.inner, k, start, stop, rows, own, addends,
                self.slack, np.empty(self.wanted.length, np.int64), self.wanted.base, self.out, places,
                self.wanted.mask, counts,
            )  # fmt: skip
            parts.append(counts)

        split(count, count * k * 2, run)
        self.total[2:] += np.sum(parts, axis=0)
        return places
