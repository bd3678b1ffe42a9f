"""Composes text blocks into a page picture on which the place of every word and letter is known, in one of many styles.

The same blocks, faces and random generator give the same bytes. Text that finds no room is left out of the picture, and
of what is said to be on it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .canvas import Canvas, ComposedPage, Sides
from .charts import set_chart
from .documents import Block
from .faces import Faces, TypeSet, draw_item
from .forms import FormSetter, set_picture
from .invention import Invention
from .strips import LabelPen, Strip, Voice, round_size, set_text, stack_strips
from .styles import INKS, NIGHTS, PAPERS, WHITE, PageStyle
from .typesetting import Typesetter

__all__ = ["ComposedPage", "PageStyle", "compose_crop", "compose_page"]

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
CROP_SIZES = (8.0, 24.0)  # pixels
SMALLEST_IN_BOX = 6.0  # pixels
MOST_SPANNED = 0.3  # of the height, by a head across several columns
SOURCE_LEADING = 1.2  # line height of type in a source whose boxes tell how large the type must be


def compose_page(
    blocks: Sequence[Block],
    faces: Faces,
    rng: np.random.Generator,
    style: PageStyle | None = None,
    types: TypeSet | None = None,
) -> ComposedPage:
    """A page of the blocks, in a style and faces drawn at random where none are given.

    With the layout `source` each block that has a box is set into it; blocks without boxes flow.
    """
    style = style or PageStyle.draw(rng)
    types = types or faces.draw(rng)
    canvas = Canvas(style.width, style.height, style.paper)
    setter, invention = Typesetter(style, types, rng), Invention(blocks, rng)
    boxed = [block for block in blocks if block.box is not None]
    if style.layout == "source" and boxed:
        _place_in_boxes(boxed, canvas, setter)
        return canvas.finish("source")
    number = int(rng.integers(1, 400))
    if style.header:
        _draw_header(canvas, style, types, invention, number)
    columns = Columns(canvas, _frame_columns(style))
    if style.columns > 1 and blocks and rng.random() < 0.6:
        full = style.width - style.margins[0] - style.margins[2]
        if columns.span(setter.set_block(blocks[0], full)):
            blocks = blocks[1:]
    if style.layout == "slide":
        blocks = _shorten(blocks, invention)
    kind = _fill_columns(columns, blocks, setter, invention)
    if style.footer:
        _draw_footer(canvas, style, types, invention, number)
    return canvas.finish(kind)


def compose_crop(
    words: Sequence[str],
    faces: Faces,
    rng: np.random.Generator,
    width: int = 448,
    height: int = 112,
    sizes: tuple[float, float] = CROP_SIZES,
) -> ComposedPage:
    """A picture full of as many of the words as it holds, in one of the sizes in pixels, small type more often: to learn
    letters from.
    """
    size = round_size(float(np.exp(rng.uniform(np.log(sizes[0]), np.log(sizes[1])))))
    paper, ink = (draw_item(rng, (WHITE, WHITE, *PAPERS)), draw_item(rng, INKS))
    if rng.random() < 0.1:
        paper, ink = draw_item(rng, NIGHTS), WHITE
    family = faces.draw_body(rng)
    faces_of_words = [family.regular, family.regular, family.bold, family.italic]
    if rng.random() < 0.5:
        faces_of_words = [draw_item(rng, faces_of_words)]
    leading = size * float(rng.uniform(1.05, 1.5))
    left, top = float(rng.uniform(0, size)), float(rng.uniform(0, 0.6 * size))
    enough = 8 + int(width * height / (size * leading))
    pieces = [draw_item(rng, faces_of_words).shape(word) for word in words[:enough]]
    canvas = Canvas(width, height, paper)
    for strip in set_text(pieces, width - left, Voice(size, leading, ink)):
        if top + strip.height > height:
            break
        strip.draw(canvas, left, top)
        top += strip.height
    return canvas.finish("crop")


class Columns:
    """Fills frames of one width with strips, one after another."""

    def __init__(self, canvas: Canvas, frames: Sequence[Sides]) -> None:
        self._canvas, self._frames = canvas, list(frames)
        self.width = frames[0][2] - frames[0][0]
        self._y, self._below = frames[0][1], 0.0
        self._held: list[Strip] = []

    def span(self, strips: Sequence[Strip]) -> bool:
        """Set strips across all the columns, at the head of the page, unless they would fill much of it."""
        left, top, _, bottom = self._frames[0]
        head = stack_strips(strips)
        if not strips or head.height > MOST_SPANNED * (bottom - top):
            return False
        head.draw(self._canvas, left, top)
        self._y = top + head.height + strips[-1].height
        self._frames = [(left, self._y, right, bottom) for left, _, right, bottom in self._frames]
        return True

    def add(self, strips: Sequence[Strip]) -> bool:
        """Set strips below the last; false once there is no room left. What binds waits for what it stays with."""
        for strip in strips:
            self._held.append(strip)
            if not strip.binds and not self._set_held():
                return False
        return True

    def finish(self) -> None:
        """Set what waited in vain."""
        if self._held:
            self._set_held()

    def _set_held(self) -> bool:
        group, self._held = stack_strips(self._held), []
        while self._frames:
            left, top, _, bottom = self._frames[0]
            if group.height > bottom - top:
                return True  # no column could hold it: left out
            y = self._y + max(group.gap, self._below) if self._y > top else top
            if y + group.height <= bottom:
                group.draw(self._canvas, left, y)
                self._y, self._below = y + group.height, group.below
                return True
            del self._frames[0]
            self._y = self._frames[0][1] if self._frames else 0.0
        return False


def _frame_columns(style: PageStyle) -> list[Sides]:
    left, top, right, bottom = style.margins
    each = (style.width - left - right - (style.columns - 1) * style.gutter) / style.columns
    lefts = [left + number * (each + style.gutter) for number in range(style.columns)]
    return [(x, top, x + each, style.height - bottom) for x in lefts]


def _fill_columns(columns: Columns, blocks: Sequence[Block], setter: Typesetter, invention: Invention) -> str:
    """Set the blocks, and what is made up before one of the first of them; returns what kind of page came of it."""
    is_slide = setter.style.layout == "slide"
    kind, first = ("slide", 1) if is_slide else ("flow", 0)
    place = int(setter.rng.integers(first, max(first + 1, min(len(blocks) - 1, 3))))
    for number, block in enumerate(blocks):
        if number == place and (made_up := _set_insert(setter, invention, columns.width)) and columns.add(made_up):
            kind = setter.style.insert
        if not columns.add(setter.set_block(block, columns.width)):
            break
    columns.finish()
    return kind


def _set_insert(setter: Typesetter, invention: Invention, width: float) -> list[Strip]:
    """A chart, table or picture with its caption, or a form."""
    style, rng = setter.style, setter.rng
    if style.insert == "none" or not invention.words:
        return []
    if style.insert == "form":
        return FormSetter(invention, style, setter.types).set_form(width)
    if style.insert == "table":
        caption, rows = setter.set_block(invention.caption("Table"), width), setter.set_block(invention.table(), width)
        return [*(replace(line, binds=True) for line in caption), *rows] if rows else []
    height = min(width * float(rng.uniform(0.45, 0.8)), style.height * float(rng.uniform(0.22, 0.45)))
    if style.insert == "chart":
        figure = set_chart(invention, style, setter.types.body.regular, width, height)
    else:
        figure = [set_picture(style, rng, width, height)]
    if not figure:
        return []
    return [*figure, *setter.set_block(invention.caption(draw_item(rng, ("Figure", "Fig."))), width)]


def _shorten(blocks: Sequence[Block], invention: Invention) -> list[Block]:
    """What of a page stands on a slide: a title and a few blocks, the sentences of paragraphs as items of lists."""
    kept = [block for block in blocks if block.kind != "caption"][: int(invention.rng.integers(2, 6))]
    title = [] if kept and kept[0].kind == "heading" else [Block("heading", invention.label(5))]
    return title + [_list_sentences(block) if block.kind == "paragraph" else block for block in kept]


def _list_sentences(block: Block) -> Block:
    return replace(block, kind="list", text="\n".join(SENTENCE_END.split(block.text)))


def _place_in_boxes(blocks: Sequence[Block], canvas: Canvas, setter: Typesetter) -> None:
    """Each block from the corner of its box on, its lines as wide as it; lines that would leave it are left out."""
    scale = _find_scale(blocks, setter.style)
    heading = replace(setter.style.heading, scale=1.0, numbered=False, trim="plain")
    setter = Typesetter(
        replace(setter.style, heading=heading, box_rate=0.0, table_rules="none"), setter.types, setter.rng
    )
    for block in blocks:
        assert block.box is not None
        left, top, right, bottom = (
            share * side for share, side in zip(block.box, 2 * (canvas.width, canvas.height), strict=True)
        )
        size = round_size(max(scale * block.size, SMALLEST_IN_BOX) if block.size else setter.style.body.size)
        voice = replace(setter.style.body, size=size, leading=SOURCE_LEADING * size)
        y = top
        for number, strip in enumerate(setter.set_block(block, right - left, voice)):
            y += strip.gap if number else 0.0
            if y + strip.height > max(bottom + 0.5 * voice.leading, top + 1.3 * voice.leading):
                break
            strip.draw(canvas, left, y)
            y += strip.height


def _find_scale(blocks: Sequence[Block], style: PageStyle) -> float:
    """Pixels to a point of the source: what fills the boxes of most blocks, since its sheet's size is not known."""
    scales = []
    for block in blocks:
        assert block.box is not None
        width, height = (block.box[2] - block.box[0]) * style.width, (block.box[3] - block.box[1]) * style.height
        if block.size and block.kind == "paragraph" and len(block.text) > 150:
            fits = (width * height / (0.5 * len(block.text) * SOURCE_LEADING)) ** 0.5
            scales.append(fits / block.size)
    return float(np.quantile(scales, 0.3)) if scales else style.width / 612


def _draw_header(canvas: Canvas, style: PageStyle, types: TypeSet, invention: Invention, number: int) -> None:
    """A running title, alone or with the page's number or a few words at the other side, over a rule or not."""
    rng, left, right = invention.rng, style.margins[0], style.width - style.margins[2]
    size = round_size(0.85 * style.body.size)
    baseline = style.margins[1] - 1.6 * size
    face = draw_item(rng, (types.body.regular, types.body.italic, types.heading.bold))
    pen = LabelPen(canvas, face, size, style.body.ink)
    width = pen.write(invention.label(6), (left, baseline), room=0.6 * (right - left))
    if rng.random() < 0.6:
        other = str(number) if rng.random() < 0.6 else invention.label(3)
        pen.write(other, (right, baseline), "right", right - left - width - 2 * size)
    if rng.random() < 0.4:
        canvas.rule((left, baseline + 0.5 * size), right - left, style.body.ink, 0.6)


def _draw_footer(canvas: Canvas, style: PageStyle, types: TypeSet, invention: Invention, number: int) -> None:
    """The page's number in one of its usual forms."""
    rng, left, right = invention.rng, style.margins[0], style.width - style.margins[2]
    size = round_size(0.85 * style.body.size)
    baseline = style.height - style.margins[3] + 2.6 * size
    pen = LabelPen(canvas, types.body.regular, size, style.body.ink if rng.random() < 0.7 else style.accent)
    share = rng.random()
    if share < 0.6:
        text = draw_item(
            rng, (f"{number}", f"{number}", f"- {number} -", f"Page {number}", f"Page {number} of {number + 7}")
        )
        pen.write(text, ((left + right) / 2, baseline), "centre")
    else:
        width = pen.write(invention.label(5), (left, baseline), room=0.7 * (right - left))
        pen.write(str(number), (right, baseline), "right", right - left - width - 2 * size)
