"""Fonts out of a folder of files, grouped into families; measures words and draws letters, so that each one's place is known."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moca_rag.errors import ConfigError
from moca_rag.records import Pixels

Item = TypeVar("Item")

FINENESS = 4
"""Letters are drawn so many times larger and averaged down: they stand on quarters of a pixel, as a PDF renderer
sets them, and hinting leaves no trace."""

DESIGN_SIZE = 1000  # at which a face is measured: what hinting rounds is lost in it
MISSING = "\U0010ffff"  # no font has it: what is drawn for it is the box that stands for a missing glyph
# Letters that need shaping, or stand on the letter before them, cannot be set one after another.
UNSET_DIRECTIONS = frozenset({"R", "AL", "AN", "NSM", "BN"})
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,"
PLAIN_WORDS = frozenset({"regular", "book", "roman", "normal", "text", "medium"})
BOLD_WORDS = frozenset({"bold", "demi", "semibold", "demibold"})
ITALIC_WORDS = frozenset({"italic", "oblique"})
MAX_INKS = 768  # faces at one size each, whose drawn letters are kept: about 40 MB
OPEN_FONTS = "put .ttf or .otf files with Latin letters there"


@dataclass(frozen=True, slots=True, eq=False)
class Glyph:
    """A letter's ink at `FINENESS` times its size, its left top corner seen from the pen on the baseline."""

    ink: Pixels
    left: int
    top: int


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A word in its face: where the pen stands before each letter and after the last, in ems.

    `joint` is what stands before it in the text: a space, a tab, line feeds.
    """

    text: str
    face: "Face"
    pens: tuple[float, ...]
    joint: str = " "

    @property
    def width(self) -> float:
        """In ems."""
        return self.pens[-1]


class Face:
    """One font file. Letters are set by their advances alone, without kerning, as most word processors do."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file is no font that FreeType reads."""
        self.path = str(path)
        font = open_font(self.path, DESIGN_SIZE)
        self.family, self.style = (name or path.stem for name in font.getname())
        self.advances = _Advances(font)
        self.space = font.getlength(" ") / DESIGN_SIZE or 0.25
        self.ascent = -font.getbbox("d", anchor="ls")[1] / DESIGN_SIZE
        self.descent = font.getbbox("p", anchor="ls")[3] / DESIGN_SIZE
        self.x_height = -font.getbbox("x", anchor="ls")[1] / DESIGN_SIZE
        self.is_mono = abs(self.advances["i"] - self.advances["M"]) < 0.01

    def has(self, text: str) -> bool:
        """Whether the face can set every letter of a text; there is no glyph for a space."""
        return all(self.advances[letter] for letter in text)

    def shape(self, word: str, joint: str = " ") -> Piece:
        """The word without the letters that the face lacks."""
        text = word if self.has(word) else "".join(letter for letter in word if self.advances[letter])
        pens, pen = [0.0], 0.0
        for letter in text:
            pen += self.advances[letter]
            pens.append(pen)
        return Piece(text, self, tuple(pens), joint)

    def glyphs(self, size: float) -> dict[str, Glyph]:
        """The letters' ink at a size in pixels, each drawn when it is first asked for."""
        return _open_glyphs(self.path, round(size * FINENESS))


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """The four faces of a family; one that it lacks is stood in for by the nearest."""

    name: str
    regular: Face
    bold: Face
    italic: Face
    bold_italic: Face

    @property
    def is_text(self) -> bool:
        """Whether it has a bold face of its own, as families for running text do."""
        return self.bold is not self.regular


@dataclass(frozen=True, slots=True, eq=False)
class TypeSet:
    """What one page is set in."""

    body: Family
    heading: Family
    mono: Family


class Faces:
    """The families of a folder. Workers open it themselves: it is not sent between processes."""

    def __init__(self, families: Sequence[Family]) -> None:
        """Raises ConfigError where none has proportional letters."""
        self.mono = tuple(family for family in families if family.regular.is_mono)
        self.proportional = tuple(family for family in families if not family.regular.is_mono)
        if not self.proportional:
            raise ConfigError(f"{len(families)} font families, none of them with proportional letters: {OPEN_FONTS}")
        self.text = tuple(family for family in self.proportional if family.is_text) or self.proportional

    @classmethod
    def open(cls, folder: Path) -> "Faces":
        """The fonts below a folder: files that cannot be read or lack Latin letters are passed over.

        Raises ConfigError where none is left.
        """
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf"))
        faces = [face for path in paths if (face := _open_face(path)) is not None]
        if not faces:
            raise ConfigError(f"{folder} holds no fonts that can be used: {OPEN_FONTS}")
        return cls(group_families(faces))

    def draw(self, rng: np.random.Generator) -> TypeSet:
        """A family for the page's text, one for its headings (half the time the same) and one for code."""
        body = self.draw_body(rng)
        heading = body if rng.random() < 0.5 else draw_item(rng, self.proportional)
        return TypeSet(body, heading, draw_item(rng, self.mono or (body,)))

    def draw_body(self, rng: np.random.Generator) -> Family:
        """A family to read in: mostly one for text, sometimes any with proportional letters, seldom a typewriter's."""
        share = rng.random()
        if share < 0.06 and self.mono:
            return draw_item(rng, self.mono)
        return draw_item(rng, self.text if share < 0.85 else self.proportional)


def draw_item(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """One of them, all alike."""
    return items[int(rng.integers(len(items)))]


def group_families(faces: Iterable[Face]) -> list[Family]:
    """Families by name; a width, or a weight besides bold, such as "Condensed" or "Light", makes one of its own."""
    groups: dict[str, dict[tuple[bool, bool], Face]] = {}
    for face in faces:
        words = face.style.replace("BoldItalic", "Bold Italic").replace("BoldOblique", "Bold Oblique").split()
        lower = {word.lower() for word in words}
        rest = [word for word in words if word.lower() not in PLAIN_WORDS | BOLD_WORDS | ITALIC_WORDS]
        role = (bool(lower & BOLD_WORDS), bool(lower & ITALIC_WORDS))
        groups.setdefault(" ".join([face.family, *rest]), {}).setdefault(role, face)
    return [_make_family(name, roles) for name, roles in sorted(groups.items())]


@lru_cache(maxsize=64)
def open_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    """A font file at a size in pixels, laid out letter by letter."""
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


class _Advances(dict[str, float]):
    """Advances in ems; 0 for a letter that cannot be set."""

    def __init__(self, font: ImageFont.FreeTypeFont) -> None:
        super().__init__()
        self._font = font
        self._missing = self._picture(MISSING)

    def __missing__(self, letter: str) -> float:
        is_set = unicodedata.bidirectional(letter) not in UNSET_DIRECTIONS and not letter.isspace()
        picture = self._picture(letter) if is_set else (b"", 0.0)
        self[letter] = picture[1] if picture[0].strip(b"\0") and picture != self._missing else 0.0
        return self[letter]

    def _picture(self, letter: str) -> tuple[bytes, float]:
        small = open_font(str(self._font.path), 32)
        return bytes(small.getmask(letter, mode="L")), self._font.getlength(letter) / DESIGN_SIZE


class _Glyphs(dict[str, Glyph]):
    """Letters drawn at one size."""

    def __init__(self, font: ImageFont.FreeTypeFont) -> None:
        super().__init__()
        self._font = font

    def __missing__(self, letter: str) -> Glyph:
        left, top, right, bottom = (round(side) for side in self._font.getbbox(letter, anchor="ls"))
        picture = Image.new("L", (max(right - left, 1), max(bottom - top, 1)))
        ImageDraw.Draw(picture).text((-left, -top), letter, fill=255, font=self._font, anchor="ls")
        ink = picture.getbbox() or (0, 0, 1, 1)  # the font's own box reaches to the next pen
        self[letter] = Glyph(np.asarray(picture.crop(ink)), left + ink[0], top + ink[1])
        return self[letter]


@lru_cache(maxsize=MAX_INKS)
def _open_glyphs(path: str, size: int) -> _Glyphs:
    return _Glyphs(open_font(path, size))


def _open_face(path: Path) -> Face | None:
    try:
        face = Face(path)
    except (OSError, ValueError):
        return None
    return face if face.has(ALPHABET) and face.x_height > 0 else None


def _make_family(name: str, roles: dict[tuple[bool, bool], Face]) -> Family:
    regular = roles.get((False, False)) or next(iter(roles.values()))
    bold, italic = roles.get((True, False), regular), roles.get((False, True), regular)
    return Family(name, regular, bold, italic, roles.get((True, True), bold))
