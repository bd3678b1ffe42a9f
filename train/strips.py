"""Lines of words as strips that stack into columns: what a page is built of, from a line of text to a table's row."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from .canvas import Canvas, Colour, Point
from .faces import FINENESS, Face, Piece

Align: TypeAlias = Literal["left", "right", "centre", "justified"]
MAX_STRETCH = 0.8  # of a space, in ems: a line that would need more is left ragged


@dataclass(frozen=True, slots=True)
class Strip:
    """A slice of a column that is never split: its height in pixels, and how it is drawn from its left top corner."""

    height: float
    draw: Callable[[Canvas, float, float], None]
    gap: float = 0.0
    """White above it, which is dropped at the top of a column."""
    below: float = 0.0
    """White that it wants before the next, whose own gap counts towards it."""
    binds: bool = False
    """Whether it stays with the strip after it, as a heading does."""


@dataclass(frozen=True, slots=True)
class Voice:
    """How words are set: size and line height in pixels, ink, and how lines fill the width."""

    size: float
    leading: float
    ink: Colour
    align: Align = "left"

    def sized(self, factor: float) -> "Voice":
        """The same, so many times as large."""
        return replace(self, size=round_size(self.size * factor), leading=self.leading * factor)


def round_size(size: float) -> float:
    """A type size that a canvas draws: whole quarters of a pixel.

    >>> round_size(10.4)
    10.5
    """
    return max(1, round(size * FINENESS)) / FINENESS


def shape_words(text: str, face: Face, joint: str) -> list[Piece]:
    """The words of a text in one face; `joint` stands before the first. A word of which nothing can be set is gone."""
    return join_pieces([face.shape(word) for word in text.split()], joint)


def join_pieces(pieces: Iterable[Piece], joint: str) -> list[Piece]:
    """Those that have letters, the first of them behind this joint."""
    kept = [piece for piece in pieces if piece.text]
    return [replace(kept[0], joint=joint), *kept[1:]] if kept else []


def set_text(pieces: Sequence[Piece], width: float, voice: Voice, indent: float = 0.0) -> list[Strip]:
    """A paragraph's lines, the first one indented; a word that is wider than a line is left out."""
    lines = list(_break_lines(pieces, width, voice.size, indent))
    ascent = max((piece.face.ascent for piece in pieces), default=0.0) * voice.size
    descent = max((piece.face.descent for piece in pieces), default=0.0) * voice.size
    height = max(voice.leading, ascent + descent + 2 / FINENESS)  # lines that are rounded never touch
    drop = (height - ascent - descent) / 2 + ascent
    strips = []
    for number, (line, lefts, right) in enumerate(lines):
        align = "left" if voice.align == "justified" and number == len(lines) - 1 else voice.align
        placed = _align_line(lefts, width - right, align, voice.size)
        strips.append(Strip(height, partial(_write_line, line, placed, drop, voice.size, voice.ink)))
    return strips


def part_strips(strips: Sequence[Strip], above: float, below: float = 0.0) -> list[Strip]:
    """Strips with at least so much white above the first and below the last."""
    parted = list(strips)
    if parted:
        parted[0] = replace(parted[0], gap=max(parted[0].gap, above))
        parted[-1] = replace(parted[-1], below=max(parted[-1].below, below))
    return parted


def stack_strips(strips: Sequence[Strip]) -> Strip:
    """Strips under one another as one that is not split."""
    tops, y = [], 0.0
    for number, strip in enumerate(strips):
        y += max(strip.gap, strips[number - 1].below) if number else 0.0
        tops.append(y)
        y += strip.height
    draw = partial(_draw_stack, strips, tops)
    return Strip(y, draw, strips[0].gap, strips[-1].below) if strips else Strip(y, draw)


def set_beside(cells: Sequence[tuple[float, Sequence[Strip]]]) -> Strip:
    """Stacks side by side, their tops in line: each with its left edge, seen from the column's."""
    stacks = [(left, stack_strips(strips)) for left, strips in cells]
    height = max((stack.height for _, stack in stacks), default=0.0)
    gap = max((stack.gap for _, stack in stacks), default=0.0)
    return Strip(height, partial(_draw_beside, stacks), gap)


def enclose(
    strips: Sequence[Strip], width: float, padding: float, paper: Colour | None = None, edge: Colour | None = None
) -> Strip:
    """Strips that were set `padding` narrower at each side, in a box of that width, tinted or framed or both."""
    inner = stack_strips(strips)
    return Strip(inner.height + 2 * padding, partial(_draw_enclosed, inner, width, padding, paper, edge))


def set_rule(width: float, height: float, ink: Colour) -> Strip:
    """A line across the column, in the middle of a strip of that height."""
    return Strip(height, partial(_draw_rule, width, height / 2, ink))


def measure_words(text: str, face: Face) -> float:
    """The width of a text on one line, in ems."""
    pieces = [face.shape(word) for word in text.split()]
    return sum(piece.width for piece in pieces) + face.space * max(len(pieces) - 1, 0)


class LabelPen:
    """Writes labels wherever they belong, each a line of the page's text; the first opens a block."""

    def __init__(self, canvas: Canvas, face: Face, size: float, ink: Colour) -> None:
        self.canvas, self.face, self.size, self.ink = canvas, face, size, ink
        self._joint = "\n\n"

    def write(
        self, text: str, at: Point, align: Align = "left", room: float = math.inf, *, upward: bool = False
    ) -> float:
        """A label whose baseline starts, has its middle or ends there, cut to the words that `room` holds; its width."""
        lines = list(_break_lines(shape_words(text, self.face, self._joint), room, self.size, 0.0))
        if not lines:
            return 0.0
        pieces, lefts, width = lines[0]
        shift = {"centre": width / 2, "right": width}.get(align, 0.0)
        start, baseline = (at[0], at[1] + shift) if upward else (at[0] - shift, at[1])
        self.canvas.write(pieces, [start + left for left in lefts], baseline, self.size, self.ink, upward=upward)
        self._joint = "\n"
        return width


def _break_lines(
    pieces: Sequence[Piece], width: float, size: float, indent: float
) -> Iterable[tuple[list[Piece], list[float], float]]:
    """Each line's words, their lefts, and where the last of them ends."""
    line: list[Piece] = []
    lefts: list[float] = []
    right, x = 0.0, indent
    for piece in pieces:
        reach = piece.width * size
        if reach > width:
            continue
        if x + reach > width:
            if line:
                yield line, lefts, right
            line, lefts, x = [], [], 0.0
        line.append(piece)
        lefts.append(x)
        right = x + reach
        x = right + piece.face.space * size
    if line:
        yield line, lefts, right


def _align_line(lefts: list[float], free: float, align: Align, size: float) -> list[float]:
    if align == "justified" and len(lefts) > 1:
        stretch = free / (len(lefts) - 1)
        return [left + number * stretch for number, left in enumerate(lefts)] if stretch < MAX_STRETCH * size else lefts
    shift = {"centre": free / 2, "right": free}.get(align, 0.0)
    return [left + shift for left in lefts]


def _write_line(
    pieces: Sequence[Piece],
    lefts: Sequence[float],
    drop: float,
    size: float,
    ink: Colour,
    canvas: Canvas,
    left: float,
    top: float,
) -> None:
    canvas.write(pieces, [left + x for x in lefts], top + drop, size, ink)


def _draw_rule(width: float, drop: float, ink: Colour, canvas: Canvas, left: float, top: float) -> None:
    canvas.rule((left, top + drop), width, ink)


def _draw_stack(strips: Sequence[Strip], tops: Sequence[float], canvas: Canvas, left: float, top: float) -> None:
    for strip, y in zip(strips, tops, strict=True):
        strip.draw(canvas, left, top + y)


def _draw_beside(stacks: Sequence[tuple[float, Strip]], canvas: Canvas, left: float, top: float) -> None:
    for shift, stack in stacks:
        stack.draw(canvas, left + shift, top)


def _draw_enclosed(
    inner: Strip,
    width: float,
    padding: float,
    paper: Colour | None,
    edge: Colour | None,
    canvas: Canvas,
    left: float,
    top: float,
) -> None:
    box = (left, top, left + width, top + inner.height + 2 * padding)
    if paper is not None:
        canvas.rectangle(box, paper)
    if edge is not None:
        canvas.frame(box, edge)
    inner.draw(canvas, left + padding, top + padding)
