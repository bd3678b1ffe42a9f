"""Fonts cut to Latin letters: which faces are taken, and what is left of one."""

import sys
from pathlib import Path
from typing import Any

import pytest
from moca_rag.train.fontfiles import LATIN, cut_fonts, is_text_style

from moca_rag.errors import ConfigError
from tests.small_font import MODIFIED, make_font

pytest.importorskip("fontTools", reason="fonts are cut by fonttools")


def open_font(path: Path) -> Any:
    from fontTools.ttLib import TTFont

    return TTFont(path)


def test_a_face_keeps_its_name_and_its_latin_letters_only(tmp_path: Path) -> None:
    (tmp_path / "Harbour-Bold.ttf").write_bytes(make_font("Bold"))
    (font,) = cut_fonts(tmp_path, ["*"], tmp_path / "out")
    assert font == (tmp_path / "out" / "Harbour-Bold.ttf", "Harbour", "Bold")
    assert font.path.stat().st_size < (tmp_path / "Harbour-Bold.ttf").stat().st_size / 2
    with open_font(font.path) as cut:
        assert cut.getBestCmap().keys() == LATIN & set(range(0x20, 0x500))
        assert cut["hmtx"][cut.getBestCmap()[ord("A")]][0] == 600
        assert cut["head"].modified == MODIFIED
    assert cut_fonts(tmp_path, ["*"], tmp_path / "again")[0].path.read_bytes() == font.path.read_bytes()


def test_only_text_faces_that_can_write_english_are_taken(tmp_path: Path) -> None:
    files = {
        "Light.ttf": make_font("Light"),
        "Greek.ttf": make_font(codes=range(0x370, 0x500)),
        "Broken.ttf": b"no font",
        "Whole.ttf": make_font("Italic"),
        "Whole.txt": make_font("Italic"),
        "Narrow.ttf": make_font("Regular", typographicSubfamily="Condensed"),
        "Other.otf": make_font("Bold"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    fonts = cut_fonts(tmp_path, ["*.ttf"], tmp_path / "out")
    assert [font.path.name for font in fonts] == ["Whole.ttf"]


@pytest.mark.parametrize(
    ("style", "told"),
    [
        ("10 Bold Italic", True),
        ("Book", True),
        ("BoldOblique", True),
        ("Medium", False),
        ("Condensed Bold", False),
        ("", False),
    ],
)
def test_running_text_is_upright_bold_or_italic(style: str, told: bool) -> None:
    assert is_text_style(style) is told


def test_without_fonttools_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fontTools.ttLib", None)
    with pytest.raises(ConfigError, match="pip install fonttools"):
        cut_fonts(tmp_path, ["*"], tmp_path / "out")
