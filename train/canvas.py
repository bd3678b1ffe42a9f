"""A page picture in the making: the words and shapes that are drawn on it, and where each word and letter stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from moca_rag.records import Floats, Pixels

from .faces import FINENESS, Glyph, Piece

Colour: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]
Sides: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""
FineBox: TypeAlias = tuple[int, int, int, int]
"""The same in quarters of a pixel."""


@dataclass(frozen=True, slots=True, eq=False)
class ComposedPage:
    """A page as pixels [H, W, 3], and all that is written on it, in reading order.

    `letters` are the code points of all words on end: the first `len(words[0])` of them are the first word.
    """

    pixels: Pixels
    words: tuple[str, ...]
    word_boxes: Floats
    """[N, 4] in pixels: left, top, right, bottom; from pen to pen, and from ascenders to descenders."""
    letters: NDArray[np.int32]
    letter_centres: Floats
    """[M, 2] in pixels: the middle of the letter's ink, and half the height of an x above the baseline."""
    text: str
    """The words and what parts them: spaces, tabs between cells, a line feed after a row or an item, two after a
    block."""
    kind: str


class Canvas:
    """Draws words and shapes on paper of one colour, each placed to a quarter of a pixel."""

    def __init__(self, width: int, height: int, paper: Colour) -> None:
        self.width, self.height, self.paper = width, height, paper
        self._image = Image.new("RGB", (width, height), paper)
        self._taken = np.zeros((height * FINENESS, width * FINENESS), bool)
        self._texts: list[str] = []
        self._words: list[str] = []
        self._boxes: list[FineBox] = []
        self._centres: list[Point] = []

    def write(
        self,
        pieces: Sequence[Piece],
        lefts: Sequence[float],
        baseline: float,
        size: float,
        ink: Colour,
        *,
        upward: bool = False,
    ) -> None:
        """Set words on one baseline, each from its left on; `size` is in whole quarters of a pixel.

        Upward, the line is turned a quarter about its first left and climbs from there. A word that would leave the
        picture or stand on another is neither drawn nor reported.
        """
        scale, base = size * FINENESS, round(baseline * FINENESS)
        pivot = (round(lefts[0] * FINENESS), base) if upward and lefts else None
        inked: list[tuple[int, Glyph]] = []
        for piece, left in zip(pieces, lefts, strict=True):
            start, face = left * FINENESS, piece.face
            top, bottom = base - round(face.ascent * scale), base + round(face.descent * scale)
            box = (round(start), top, round(start + piece.width * scale), bottom)
            if not piece.text or not self._take(_turn(box, pivot)):
                continue
            glyphs = face.glyphs(size)
            middle = base - face.x_height * scale / 2
            for pen, letter in zip(piece.pens, piece.text, strict=False):
                glyph = glyphs[letter]
                x = round(start + pen * scale) + glyph.left
                inked.append((x, glyph))
                centre = x + glyph.ink.shape[1] / 2
                self._centres.append((centre, middle) if pivot is None else _turn_point(centre, middle, pivot))
            self._words.append(piece.text)
            self._texts += (piece.joint, piece.text)
        if inked:
            self._stamp_glyphs(inked, base, pivot, ink)

    def fill(self, points: Sequence[Point], ink: Colour) -> None:
        """A filled polygon."""
        self._draw_shape(points, ink, None)

    def stroke(self, points: Sequence[Point], ink: Colour, width: float) -> None:
        """A line through the points, `width` pixels wide."""
        self._draw_shape(points, ink, width)

    def rectangle(self, box: Sides, ink: Colour) -> None:
        """A filled rectangle."""
        left, top, right, bottom = (round(side * FINENESS) for side in box)
        self._stamp(np.full((max(bottom - top, 1), max(right - left, 1)), 255, np.uint8), left, top, ink)

    def rule(self, start: Point, length: float, ink: Colour, width: float = 1.0) -> None:
        """A line to the right; down where the length is negative."""
        x, y, half = *start, width / 2
        self.rectangle((x, y - half, x + length, y + half) if length > 0 else (x - half, y, x + half, y - length), ink)

    def frame(self, box: Sides, ink: Colour, width: float = 1.0) -> None:
        """The edge of a rectangle."""
        left, top, right, bottom = box
        for y in (top, bottom):
            self.rule((left - width / 2, y), right - left + width, ink, width)
        for x in (left, right):
            self.rule((x, top), top - bottom, ink, width)

    def paste(self, picture: Pixels, left: float, top: float) -> None:
        """A picture [h, w, 3], from this corner on."""
        self._image.paste(Image.fromarray(picture), (round(left), round(top)))

    def finish(self, kind: str) -> ComposedPage:
        """What was drawn."""
        letters = np.array([ord(letter) for word in self._words for letter in word], np.int32)
        return ComposedPage(
            pixels=np.array(self._image),
            words=tuple(self._words),
            word_boxes=np.array(self._boxes, np.float32).reshape(-1, 4) / np.float32(FINENESS),
            letters=letters,
            letter_centres=np.array(self._centres, np.float32).reshape(-1, 2) / np.float32(FINENESS),
            text="".join(self._texts).strip(),
            kind=kind,
        )

    def _take(self, box: FineBox) -> bool:
        """Whether a word has room in that box, in quarters of a pixel; the box is its own from now on."""
        left, top, right, bottom = box
        area = self._taken[top:bottom, left:right]
        if min(left, top) < 0 or area.shape != (bottom - top, right - left) or area.any():
            return False
        area[...] = True
        self._boxes.append(box)
        return True

    def _stamp_glyphs(
        self, inked: Sequence[tuple[int, Glyph]], base: int, pivot: tuple[int, int] | None, ink: Colour
    ) -> None:
        left = min(x for x, _ in inked)
        top = min(glyph.top for _, glyph in inked)
        right = max(x + glyph.ink.shape[1] for x, glyph in inked)
        bottom = max(glyph.top + glyph.ink.shape[0] for _, glyph in inked)
        mask = np.zeros((bottom - top, right - left), np.uint8)
        for x, glyph in inked:
            height, width = glyph.ink.shape
            place = mask[glyph.top - top : glyph.top - top + height, x - left : x - left + width]
            np.maximum(place, glyph.ink, out=place)
        if pivot is None:
            self._stamp(mask, left, base + top, ink)
        else:
            turned = _turn((left, base + top, right, base + bottom), pivot)
            self._stamp(np.rot90(mask), turned[0], turned[1], ink)

    def _draw_shape(self, points: Sequence[Point], ink: Colour, width: float | None) -> None:
        """Drawn large on a slip of its own, which is averaged down onto the page."""
        margin = width or 1.0
        (left, right), (top, bottom) = ((min(axis) - margin, max(axis) + margin) for axis in zip(*points, strict=True))
        x0, y0 = round(left * FINENESS), round(top * FINENESS)
        slip = Image.new("L", (round(right * FINENESS) - x0, round(bottom * FINENESS) - y0))
        moved = [(x * FINENESS - x0, y * FINENESS - y0) for x, y in points]
        pen = ImageDraw.Draw(slip)
        if width is None:
            pen.polygon(moved, fill=255)
        else:
            pen.line(moved, fill=255, width=max(1, round(width * FINENESS)), joint="curve")
        self._stamp(np.asarray(slip), x0, y0, ink)

    def _stamp(self, mask: Pixels, left: int, top: int, ink: Colour) -> None:
        """Average a mask in quarters of a pixel down onto the page."""
        (x, shift), (y, drop) = divmod(left, FINENESS), divmod(top, FINENESS)
        rows, columns = -(-(mask.shape[0] + drop) // FINENESS), -(-(mask.shape[1] + shift) // FINENESS)
        slip = np.zeros((rows * FINENESS, columns * FINENESS), np.uint8)
        slip[drop : drop + mask.shape[0], shift : shift + mask.shape[1]] = mask
        self._image.paste(ink, (x, y), Image.fromarray(slip).reduce(FINENESS))


def _turn(box: FineBox, pivot: tuple[int, int] | None) -> FineBox:
    """The box after a quarter turn against the clock about the pivot."""
    if pivot is None:
        return box
    left, top, right, bottom = box
    x, y = pivot
    return x + top - y, y + x - right, x + bottom - y, y + x - left


def _turn_point(x: float, y: float, pivot: tuple[int, int]) -> Point:
    return pivot[0] + y - pivot[1], pivot[1] + pivot[0] - x
