"""The table of a product: for each pair of basis blades the blade of their product and its sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ga.algebra import Algebra
from ga.layout import Layout, check_same_algebra
from ga.plan import blade_product, check_kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_READABLE = 32
"""Largest number of blades whose names are written into the cells of a picture."""


@dataclass(frozen=True)
class SignTable:
    """The sign structure of a product; made by :func:`sign_table`.

    ``str`` of it is a table for the terminal; :meth:`markdown` is one for a page, :meth:`picture` a figure.
    """

    product: str  #: name of the product
    left: Layout  #: its rows
    right: Layout  #: its columns
    entries: tuple[tuple[tuple[int, int], ...], ...]  #: of each row: blade (bitmap) and sign, 1, -1 or 0

    @property
    def nonzero(self) -> int:
        """How many pairs of blades have a product that is not 0: the terms that a kernel runs."""
        return sum(sign != 0 for row in self.entries for _, sign in row)

    @property
    def title(self) -> str:
        """The product, its layouts and its sparsity, in words."""
        pairs = len(self.left) * len(self.right)
        return f"{self.product} product of {self.left} and {self.right}: {self.nonzero} of {pairs} pairs"

    @property
    def cells(self) -> list[list[str]]:
        """The entries as texts: ``e12``, ``-e12``, ``1``, ``-1``, or ``0``."""
        return [[self._text(blade, sign) for blade, sign in row] for row in self.entries]

    def __str__(self) -> str:
        rows = [["", *self._names(self.right)]]
        rows += [[name, *row] for name, row in zip(self._names(self.left), self.cells, strict=True)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows
        )

    def markdown(self) -> str:
        """The table as Markdown.

        >>> from ga import VGA2
        >>> print(sign_table("outer", Layout.of_grades(VGA2, 1)).markdown())
        | | e1 | e2 |
        |---|---|---|
        | **e1** | 0 | e12 |
        | **e2** | -e12 | 0 |
        """
        lines = [f"| | {' | '.join(self._names(self.right))} |", "|---" * (len(self.right) + 1) + "|"]
        for name, row in zip(self._names(self.left), self.cells, strict=True):
            lines.append(f"| **{name}** | {' | '.join(row)} |")
        return "\n".join(lines)

    def picture(self, axes: Any = None) -> Figure:
        """A figure of matplotlib: blue cells are positive, orange ones negative, white ones zero.

        Products are written into the cells of tables with at most 32 rows and columns; lines part the grades.

        Args:
            axes: Axes to draw into; a new figure if left out.

        >>> from ga import PGA2
        >>> figure = sign_table("geometric", PGA2).picture()
        >>> figure.axes[0].get_title()
        'geometric product of Cl(2,0,1)[0,1,2,3] and Cl(2,0,1)[0,1,2,3]: 48 of 64 pairs'
        """
        readable = max(len(self.left), len(self.right)) <= _READABLE
        longest = max(len(text) for row in [*self.cells, [""]] for text in row)
        cell = (0.13 + 0.075 * longest if readable else 0.05, 0.3 if readable else 0.05)
        if axes is None:
            from matplotlib.figure import Figure

            wide, high = cell[0] * len(self.right) + 1.0, cell[1] * len(self.left) + 0.9
            axes = Figure(figsize=(max(wide, 4.5), high), dpi=130, layout="constrained").add_subplot()
        self._draw(axes, readable)
        figure: Figure = axes.figure
        return figure

    def _draw(self, axes: Any, readable: bool) -> None:
        from matplotlib.colors import ListedColormap

        signs = [[sign for _, sign in row] for row in self.entries]
        colours = ListedColormap(["#f6b489", "#ffffff", "#9fc9e8"])
        axes.imshow(signs, cmap=colours, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_title(self.title, fontsize=9, pad=10)
        axes.tick_params(length=0, labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.set_xticks(
            range(len(self.right)) if readable else [], self._names(self.right) if readable else []
        )
        axes.set_yticks(range(len(self.left)) if readable else [], self._names(self.left) if readable else [])
        if readable:
            for i, row in enumerate(self.cells):
                for j, text in enumerate(row):
                    style = {"fontsize": 7.5, "ha": "center", "va": "center"}
                    axes.text(
                        j, i, text.replace("-", "−"), color="#bbbbbb" if text == "0" else "#222222", **style
                    )
        for place in self.left.slices.values():
            axes.axhline(place.stop - 0.5, color="#555555", lw=0.6)
        for place in self.right.slices.values():
            axes.axvline(place.stop - 0.5, color="#555555", lw=0.6)
        for spine in axes.spines.values():
            spine.set(color="#555555", lw=0.6)

    def _text(self, blade: int, sign: int) -> str:
        name = self.left.algebra.name(blade) if blade else "1"
        return {1: name, -1: f"-{name}", 0: "0"}[sign]

    @staticmethod
    def _names(layout: Layout) -> list[str]:
        return [name if blade else "1" for blade, name in zip(layout.blades, layout.names, strict=True)]


def sign_table(product: str, left: Layout | Algebra, right: Layout | Algebra | None = None) -> SignTable:
    """The table of a product of two layouts.

    Args:
        product: ``"geometric"``, ``"outer"``, ``"left"``, ``"right"``, ``"inner"``, ``"scalar"``,
            ``"commutator"``, ``"anticommutator"`` or ``"regressive"``.
        left: Blades of the rows; of an algebra all.
        right: Blades of the columns; those of the rows if left out.

    Raises:
        ProductError: the product is unknown.
        AlgebraError: the layouts are of different algebras.

    >>> from ga import STA, VGA2
    >>> print(sign_table("geometric", VGA2))
           1    e1   e2  e12
      1    1    e1   e2  e12
     e1   e1     1  e12   e2
     e2   e2  -e12    1  -e1
    e12  e12   -e2   e1   -1
    >>> sign_table("geometric", Algebra(3, 0, 1)).nonzero, sign_table("geometric", STA).nonzero
    (192, 256)
    """
    check_kind(product)
    rows = Layout.full(left) if isinstance(left, Algebra) else left
    columns = rows if right is None else Layout.full(right) if isinstance(right, Algebra) else right
    check_same_algebra(f"table of the {product} product", rows, columns)
    entries = tuple(
        tuple(blade_product(product, rows.algebra, a, b) for b in columns.blades) for a in rows.blades
    )
    return SignTable(product, rows, columns, entries)
