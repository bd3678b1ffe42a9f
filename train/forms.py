"""Forms that somebody has filled in, or not yet: labels, lines, boxes and ticks; and pictures without a word."""

from functools import partial

import numpy as np
from PIL import Image

from moca_rag.records import Pixels

from .canvas import Canvas, Colour
from .faces import Face, TypeSet, draw_item
from .invention import Invention
from .strips import Strip, Voice, enclose, measure_words, part_strips, set_beside, set_text, shape_words
from .styles import PageStyle, blend

PENS: tuple[Colour, ...] = ((20, 40, 140), (0, 0, 0), (0, 0, 0), (40, 40, 90))
FILLED = 0.7  # of the fields


class FormSetter:
    """Sets the fields of one form in one way: labels beside lines, or above them in boxes."""

    def __init__(self, invention: Invention, style: PageStyle, types: TypeSet) -> None:
        self.invention, self.rng = invention, invention.rng
        self.voice = Voice(style.body.size, 1.25 * style.body.size, style.body.ink)
        self.label_face = draw_item(self.rng, (types.body.regular, types.body.bold))
        self.value_face: Face = draw_item(self.rng, (types.mono.regular, types.body.regular, types.heading.italic))
        dark = sum(style.paper) > 384
        self.pen = draw_item(self.rng, PENS) if dark else style.body.ink
        self.rule = blend(style.paper, style.body.ink, 0.6)
        self.boxed = self.rng.random() < 0.5

    def set_form(self, width: float) -> list[Strip]:
        """Rows of fields, a few of them with ticks, and a line to sign on; nothing where no words are at hand."""
        if not self.invention.words:
            return []
        strips: list[Strip] = []
        for _ in range(int(self.rng.integers(4, 13))):
            share = self.rng.random()
            if share < 0.18:
                strips.append(self._set_ticks(width))
            else:
                strips.append(self._set_fields(width, 1 if share < 0.5 else 2 if share < 0.85 else 3))
        if self.rng.random() < 0.5:
            strips.append(self._set_fields(width, 2, ("Signature", "Date")))
        return part_strips(strips, 0.8 * self.voice.leading, 0.8 * self.voice.leading)

    def _set_fields(self, width: float, count: int, names: tuple[str, ...] = ()) -> Strip:
        gap = 0.0 if self.boxed else self.voice.size
        each = (width - (count - 1) * gap) / count
        labels = names or tuple(self.invention.label(3) for _ in range(count))
        cells = [self._set_box(label, each) if self.boxed else self._set_line(label, each) for label in labels]
        row = set_beside([(number * (each + gap), [cell]) for number, cell in enumerate(cells)])
        return Strip(row.height, row.draw, gap=0.0 if self.boxed else 0.45 * self.voice.size)

    def _set_line(self, label: str, width: float) -> Strip:
        """`Label: value` over a rule that fills the width."""
        size, most = self.voice.size, 0.6 * width
        names = set_text(shape_words(f"{label}:", self.label_face, "\n"), most, self.voice)[:1]
        left = min(measure_words(f"{label}:", self.label_face) * size, most) + 0.5 * size
        strip = set_beside([(0.0, names), (left + 0.3 * size, self._set_value(width - left - 0.3 * size))])
        height = max(strip.height, self.voice.leading)
        return Strip(height + 2, partial(_draw_ruled, strip, (left, width), height + 0.5, self.rule))

    def _set_box(self, label: str, width: float) -> Strip:
        """A small label in the corner of a box, the value below it."""
        small = self.voice.sized(0.75)
        padding = 0.25 * self.voice.size
        inside = width - 2 * padding
        names = set_text(shape_words(label, self.label_face, "\n"), inside, small)[:1]
        blank = Strip(1.35 * self.voice.size, _draw_nothing)
        values = self._set_value(inside) or [blank]
        return enclose([*names, *values], width, padding, None, self.rule)

    def _set_value(self, width: float) -> list[Strip]:
        if self.rng.random() > FILLED:
            return []
        ink = Voice(self.voice.size, 1.35 * self.voice.size, self.pen)
        return set_text(shape_words(self.invention.value(), self.value_face, " "), width, ink)[:1]

    def _set_ticks(self, width: float) -> Strip:
        """Two to four choices in a row, each behind a box, some ticked."""
        count = int(self.rng.integers(2, 5))
        each, side = width / count, 0.8 * self.voice.size
        cells: list[tuple[float, list[Strip]]] = []
        for number in range(count):
            ticked = bool(self.rng.random() < 0.4)
            box = Strip(self.voice.leading, partial(_draw_tick, side, ticked, self.rule, self.pen))
            words = shape_words(self.invention.label(2), self.label_face, " " if number else "\n")
            lines = set_text(words, each - 2.2 * side, self.voice)[:1]
            cells += [(number * each, [box]), (number * each + 1.6 * side, lines)]
        row = set_beside(cells)
        return Strip(row.height + 0.6 * self.voice.size, row.draw, gap=0.5 * self.voice.size)


def set_picture(style: PageStyle, rng: np.random.Generator, width: float, height: float) -> Strip:
    """Something like a photograph, without a word on it; it stays with its caption."""
    picture = make_picture(rng, round(width), round(height))
    return Strip(height, partial(_paste, picture), gap=0.7 * style.body.leading, binds=True)


def make_picture(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """Soft light and dark, coarse to fine, over one colour that turns into another towards the bottom."""
    low, high = rng.uniform(40, 215, (2, 3)).astype(np.float32)
    pixels = low + (high - low) * np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    for cells, strength in ((3, 45), (9, 30), (50, 14)):
        size = (cells, max(2, cells * width // height))
        coarse = rng.normal(128, strength, size).clip(0, 255).astype(np.uint8)
        light = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        pixels = pixels + (np.asarray(light, np.float32)[..., None] - 128)
    if rng.random() < 0.3:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    return np.asarray(pixels.clip(0, 255), np.uint8)


def _draw_nothing(canvas: Canvas, left: float, top: float) -> None:
    """An empty field."""


def _draw_ruled(
    inner: Strip, span: tuple[float, float], drop: float, ink: Colour, canvas: Canvas, left: float, top: float
) -> None:
    inner.draw(canvas, left, top)
    canvas.rule((left + span[0], top + drop), span[1] - span[0], ink, 0.75)


def _draw_tick(side: float, ticked: bool, ink: Colour, pen: Colour, canvas: Canvas, left: float, top: float) -> None:
    top += 0.25 * side
    canvas.frame((left, top, left + side, top + side), ink, 0.75)
    if ticked:
        for ends in (((0.15, 0.15), (0.85, 0.85)), ((0.85, 0.15), (0.15, 0.85))):
            canvas.stroke([(left + x * side, top + y * side) for x, y in ends], pen, 1.0)


def _paste(picture: Pixels, canvas: Canvas, left: float, top: float) -> None:
    canvas.paste(picture, left, top)
