"""Fonts of a folder, their families, and how their letters are measured and left out."""

from pathlib import Path

import numpy as np
import pytest
from moca_rag.train.faces import Faces, group_families
from PIL import ImageFont

from moca_rag.errors import ConfigError
from tests.fonts import write_fonts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fonts(tmp_path_factory.mktemp("fonts"))


@pytest.fixture(scope="module")
def faces(folder: Path) -> Faces:
    return Faces.open(folder)


def test_files_are_grouped_into_families_by_what_they_say_of_themselves(faces: Faces) -> None:
    assert [family.name for family in faces.proportional] == ["Nimbus Roman", "Nimbus Sans"]
    assert [family.name for family in faces.mono] == ["Nimbus Mono PS"]
    roman = faces.proportional[0]
    styles = [face.style for face in (roman.regular, roman.bold, roman.italic, roman.bold_italic)]
    assert styles == ["Regular", "Bold", "Italic", "Bold Italic"]


def test_a_missing_face_is_stood_in_for_and_such_a_family_is_not_for_running_text(folder: Path) -> None:
    faces = Faces.open(folder)
    regular, bold = faces.proportional[1].regular, faces.proportional[0].bold
    (sans, lone_bold) = sorted(group_families([regular, bold]), key=lambda family: family.name, reverse=True)
    assert sans.bold is sans.italic is sans.bold_italic is regular
    assert lone_bold.regular is bold
    assert not sans.is_text
    assert all(family.is_text for family in faces.text)


def test_another_width_is_a_family_of_its_own(faces: Faces) -> None:
    regular, bold = faces.proportional[1].regular, faces.proportional[1].bold
    bold.style = "Condensed Bold"
    names = [family.name for family in group_families([regular, bold])]
    bold.style = "Bold"
    assert names == ["Nimbus Sans", "Nimbus Sans Condensed"]


def test_files_that_are_no_fonts_are_passed_over_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    write_fonts(tmp_path / "sub")
    (tmp_path / "broken.ttf").write_bytes(b"no font at all")
    (tmp_path / "readme.txt").write_text("words")
    assert len(Faces.open(tmp_path).text) == 2
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match=r"none holds no fonts that can be used: put \.ttf"):
        Faces.open(tmp_path / "none")
    with pytest.raises(ConfigError, match="none of them with proportional letters"):
        Faces(Faces.open(tmp_path).mono)


def test_letters_without_a_glyph_and_scripts_that_need_shaping_are_left_out_of_a_word(faces: Faces) -> None:
    face = faces.text[0].regular
    assert face.shape("a漢b\u0301c\u200bd").text == "abcd"
    assert face.shape("שלום").text == ""
    assert face.shape("co\u00adoperate").text == "cooperate"  # a soft hyphen, for which there is a glyph
    assert face.has("é€§") and not face.has("\ue000")
    assert face.shape("漢").pens == (0.0,)


def test_the_box_that_stands_for_a_missing_glyph_is_never_set(tmp_path: Path) -> None:
    font = ImageFont.load_default(20)
    assert font.getbbox("漢")[2] > 5  # it draws that box, and so does not just leave the letter blank
    (tmp_path / "default.ttf").write_bytes(font.font_bytes)
    assert Faces.open(tmp_path).proportional[0].regular.shape("a漢b").text == "ab"


def test_pens_add_up_the_advances_that_the_font_states(faces: Faces) -> None:
    sans = next(family for family in faces.proportional if family.name == "Nimbus Sans").regular
    # Helvetica's own metrics, in thousandths of an em.
    assert np.diff(sans.shape("Will").pens) == pytest.approx([0.944, 0.222, 0.222, 0.222], abs=0.001)
    assert sans.space == pytest.approx(0.278, abs=0.001)
    assert sans.shape("Will").width == pytest.approx(1.610, abs=0.002)
    assert (sans.ascent, sans.descent, sans.x_height) == pytest.approx((0.73, 0.22, 0.53), abs=0.03)
    mono = faces.mono[0].regular
    assert mono.is_mono and not sans.is_mono
    assert set(np.diff(mono.shape("iWm.").pens).round(3)) == {0.6}


def test_pages_are_set_in_different_families_and_code_in_mono(faces: Faces) -> None:
    drawn = [faces.draw(np.random.default_rng(seed)) for seed in range(200)]
    bodies = [types.body.name for types in drawn]
    assert 60 < bodies.count("Nimbus Roman") < 140
    assert 0 < bodies.count("Nimbus Mono PS") < 30
    assert all(types.mono.regular.is_mono for types in drawn)
    assert any(types.heading is not types.body for types in drawn)
