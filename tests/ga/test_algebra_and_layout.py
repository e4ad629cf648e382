"""Signatures, blades, names and layouts."""

import subprocess
import sys

import pytest

from ga import CGA3, PGA3, VGA2, VGA3, Algebra, AlgebraError, Layout, LayoutError


def test_an_algebra_is_a_value() -> None:
    assert Algebra(3, 0, 1) == PGA3
    assert len({Algebra(3), VGA3, Algebra(3, 0, 0)}) == 1


@pytest.mark.parametrize("algebra", [VGA2, VGA3, PGA3, CGA3, Algebra(1, 1, 2)], ids=str)
def test_names_and_bitmaps_are_inverse(algebra: Algebra) -> None:
    assert [algebra.blade(name) for name in algebra.names] == list(algebra.blades)
    assert sorted(algebra.blades) == list(range(algebra.size))


def test_only_a_single_null_generator_is_e0() -> None:
    assert PGA3.names[1] == "e0"
    assert Algebra(1, 1, 2).names[1] == "e1"


@pytest.mark.parametrize("counts", [(-1, 0, 0), (1.0, 0, 0), (True, 0, 0)])
def test_counts_must_be_integers(counts: tuple[int, int, int]) -> None:
    with pytest.raises(AlgebraError, match=r"three integers >= 0, got"):
        Algebra(*counts)


@pytest.mark.parametrize("counts", [(0, 0, 0), (5, 3, 1)])
def test_number_of_generators_is_limited(counts: tuple[int, int, int]) -> None:
    with pytest.raises(AlgebraError, match=r"Cl\(\d,\d,\d\) has \d generators, supported are 1 to 8"):
        Algebra(*counts)


def test_eight_generators_are_allowed() -> None:
    assert len(Algebra(8).blades) == 256


def test_unknown_names_and_bitmaps_are_refused() -> None:
    with pytest.raises(AlgebraError, match=r"Cl\(2,0,0\) has no blade 'e21'; its blades are e, e1, e2, e12"):
        VGA2.blade("e21")
    with pytest.raises(AlgebraError, match=r"blade 0b1000 is not in Cl\(3,0,0\)"):
        VGA3.name(8)


def test_layout_tells_grades_parity_and_slices() -> None:
    layout = Layout.of_grades(PGA3, (1, 3))
    assert (layout.grades, layout.parity, len(layout)) == ((1, 3), 1, 8)
    assert layout.slices == {1: slice(0, 4), 3: slice(4, 8)}
    assert Layout.full(PGA3).parity is None
    assert Layout.of_mask(PGA3, layout.mask) == layout


def test_layout_text_shows_grades_or_blades() -> None:
    assert str(Layout.of_grades(VGA3, (0, 2))) == "Cl(3,0,0)[0,2]"
    assert str(Layout.of_blades(PGA3, ["e12", "e"])) == "Cl(3,0,1){e, e12}"
    assert str(Layout(VGA3, ())) == "Cl(3,0,0){}"


def test_layout_refuses_disorder() -> None:
    with pytest.raises(
        LayoutError, match=r"distinct and in the algebra's order, got e2, e1; use Layout\.of_blades"
    ):
        Layout(VGA3, (2, 1))
    with pytest.raises(LayoutError, match="distinct"):
        Layout(VGA3, (1, 1))


@pytest.mark.parametrize("grades", [4, (0, -1), ()])
def test_grades_out_of_range_are_refused(grades: int | tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match=r"grades of Cl\(3,0,0\) are 0 to 3, got"):
        Layout.of_grades(VGA3, grades)


def test_ga_does_not_import_posit() -> None:
    probe = "import sys, ga; sys.exit(any(m.split('.')[0] in ('posit', 'postrain') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
