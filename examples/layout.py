"""Blocks to pages: a flow of headings, paragraphs, lists, tables and figures through columns and pages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pymupdf

from .canvas import GREY, INK, PAPER, Box, Canvas, blend, measure, wrap
from .markup import Word, split_signs, split_words
from .tables import Table, draw_rows, measure_table

FAMILIES = {
    "sans": {"": "helv", "b": "hebo", "i": "heit"},
    "serif": {"": "tiro", "b": "tibo", "i": "tiit"},
    "mono": {"": "cour", "b": "cobo", "i": "coit"},
    "cjk": {"": "cjk", "b": "cjk", "i": "cjk"},
}
PALETTES = {
    "teal": ("#14666b", "#e09f3e", "#6fa8a0", "#9e2a2b", "#34495e", "#c7b8a3", "#7d8f69"),
    "brick": ("#9c3d2a", "#2f5d73", "#d9a35f", "#6b7a4b", "#4a4453", "#c98f82", "#8fb0bd"),
    "indigo": ("#2b3a8c", "#e4572e", "#76b0d8", "#f3a712", "#5b6478", "#a8c686", "#7a4f9a"),
    "moss": ("#4a6b2a", "#c9772b", "#9dbb6e", "#2e5266", "#8a5a44", "#d8c27a", "#6e7f80"),
    "plum": ("#6d2e5b", "#2f7f79", "#d98cb3", "#e0b04c", "#4b4e6d", "#9fb8ad", "#b0522c"),
    "slate": ("#33475b", "#d1603d", "#8aa4b8", "#dab15b", "#5d737e", "#a63d40", "#6a994e"),
}


@dataclass(frozen=True)
class Look:
    """The typographic dress of a document; lengths in points, margins as left, top, right, bottom."""

    paper: tuple[float, float] = (595, 842)
    margins: Box = (64, 78, 64, 70)
    columns: int = 1
    gap: float = 18
    family: str = "sans"
    head_family: str = "sans"
    size: float = 10
    leading: float = 1.42
    justify: bool = False
    table: str = "zebra"
    accent: str = "teal"
    page_per_heading: bool = False
    dress: str = "report"
    head: dict[str, Any] = field(default_factory=dict)

    @property
    def palette(self) -> tuple[str, ...]:
        """The colours of charts, the first one also that of headings and rules."""
        return PALETTES[self.accent]


Figure = Callable[[Canvas, Box, tuple[str, ...]], None]


class Flow:
    """A document while it is filled from top to bottom; `doc` holds the finished pages after `finish`."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.doc = pymupdf.open()
        self.outline: list[list[Any]] = []
        self.bare: set[int] = set()
        self.canvas: Canvas | None = None
        self.waiting: list[tuple[float, Figure, str]] = []
        self.break_page()

    def break_page(self) -> None:
        """Finish the page and start the next one at its first column, with the figures that found no room before."""
        if self.canvas:
            self.canvas.finish()
        width, height = self.look.paper
        self.canvas = Canvas(self.doc.new_page(width=width, height=height))
        self.y = self.top = self.look.margins[1]
        self.column = 0
        self.inset = 0.0
        self.floor = 0.0
        self.place_waiting()

    @property
    def pen(self) -> Canvas:
        """The page that is being written."""
        assert self.canvas is not None, "the flow is finished"
        return self.canvas

    @property
    def frame(self) -> tuple[float, float, float]:
        """Left edge, width and bottom of the column that is being filled."""
        left, _, right, bottom = self.look.margins
        inner = self.look.paper[0] - left - right
        width = (inner - self.look.gap * (self.look.columns - 1)) / self.look.columns
        x = left + self.column * (width + self.look.gap)
        return x, width - self.inset, self.look.paper[1] - bottom

    @property
    def is_fresh(self) -> bool:
        """True while nothing stands in the column yet."""
        return self.y <= self.top

    def take(self, height: float) -> float:
        """Room for something that tall: the y of its top, in the next column or page where this one is full."""
        if self.inset and self.floor and self.y + height > self.floor:
            self.inset, self.floor = 0.0, 0.0
        while self.y + height > self.frame[2] and not self.is_fresh:
            self.advance()
        y = self.y
        self.y += height
        return y

    def advance(self) -> None:
        """Go on in the next column, or on the next page after the last one."""
        if self.column + 1 == self.look.columns:
            self.break_page()
        else:
            self.column += 1
            self.y = self.top
            self.place_waiting()

    def place_waiting(self) -> None:
        """Draw the figures that did not fit where the text called for them."""
        waiting, self.waiting = self.waiting, []
        for height, draw, caption in waiting:
            self.figure(height, draw, caption)

    def skip(self, height: float) -> None:
        """White space, dropped at the top of a column."""
        if not self.is_fresh:
            self.y += height

    def heading(self, text: str, level: int, room: float = 0) -> None:
        """A heading and its entry in the outline; it stays with the next lines, or with `room` points of what follows."""
        look = self.look
        if look.page_per_heading and level == 1 and not (self.is_fresh and self.column == 0):
            self.break_page()
        size = look.size * {1: 1.75, 2: 1.28}.get(level, 1.06)
        font = FAMILIES[look.head_family]["b"]
        lines = wrap(text, font, size, self.frame[1])
        self.skip(size * (1.1 if level < 3 else 0.7))
        room = max(room, look.size * 4.5)
        y = self.take(size * 1.25 * len(lines) + size * 0.35 + room) + size
        self.y -= room
        colour = look.palette[0] if level < 3 else INK
        self.pen.lines((self.frame[0], y), lines, size, font, colour, leading=1.2)
        self.outline.append([min(level, 1 + (self.outline[-1][0] if self.outline else 0)), text, len(self.doc)])

    def paragraph(self, text: str, **how: Any) -> None:
        """Text with **bold** and *italic* words; `how` goes to `write`, a line break in the text stays one."""
        for part in text.split("\n"):
            self.write(split_signs(part) if self.look.family == "cjk" else split_words(part), **how)
        self.skip(self.look.size * how.get("after", 0.6))

    def write(
        self, words: list[Word], size: float = 0, indent: float = 0, mark: str = "", colour: str = INK, after: float = 0
    ) -> None:
        """Set words in lines, justified where the look says so; a mark hangs left of the first line."""
        size = size or self.look.size
        fonts = FAMILIES[self.look.family]
        space = 0 if self.look.family == "cjk" else measure(" ", fonts[""], size)
        while words:
            y = self.take(size * self.look.leading) + size
            x, width, _ = self.frame
            line, used = [], 0.0
            while words:
                wide = sum(measure(text, fonts[style], size) for text, style in words[0])
                if line and indent + used + space * len(line) + wide > width:
                    break
                line.append(words.pop(0))
                used += wide
            if mark:
                self.pen.text((x + indent - 5, y), mark, size, fonts[""], self.look.palette[0], "right")
                mark = ""
            slack = width - indent - used - space * (len(line) - 1)
            stretch = slack / (len(line) - 1) if self.look.justify and words and len(line) > 1 else 0
            self.write_line((x + indent, y), line, size, space + stretch, stretch == 0, colour)

    def write_line(
        self, at: tuple[float, float], line: list[Word], size: float, space: float, whole: bool, colour: str
    ) -> None:
        """One line: in runs as long as their style (`whole`), or word by word with the given space."""
        fonts = FAMILIES[self.look.family]
        x, y = at
        gap = "" if self.look.family == "cjk" else " "
        runs: list[tuple[str, str]] = []
        for index, word in enumerate(line):
            for text, style in word:
                if whole and runs and runs[-1][1] == style:
                    runs[-1] = (runs[-1][0] + text, style)
                else:
                    runs.append((text, style))
            if whole and index + 1 < len(line):
                runs[-1] = (runs[-1][0] + gap, runs[-1][1])
            elif not whole:
                runs.append((gap, ""))
        for text, style in runs:
            if whole or text != gap:
                self.pen.text((x, y), text, size, fonts[style], colour)
                x += measure(text, fonts[style], size)
            else:
                x += space

    def item(self, text: str, mark: str, after: float = 0.25) -> None:
        """A list entry; `-` prints as a bullet, anything else as itself."""
        self.paragraph(text, indent=self.look.size * 1.7, mark="•" if mark == "-" else mark, after=after)

    def note(self, text: str, warning: bool = False) -> None:
        """A tinted box with a bar at its left; a warning also carries a triangle."""
        look, size = self.look, self.look.size * 0.95
        colour = "#b3261e" if warning else look.palette[0]
        font = FAMILIES[look.family][""]
        left, width = 44 if warning else 16, self.frame[1]
        lines = wrap(text, font, size, width - left - 12)
        inner = size * 1.35 * len(lines)
        height = max(inner + 16, 40 if warning else 0)
        self.skip(4)
        y = self.take(height + 8)
        x, middle = self.frame[0], y + height / 2
        self.pen.rect((x, y, x + width, y + height), fill=blend(colour, PAPER, 0.88))
        self.pen.rect((x, y, x + 3.5, y + height), fill=colour)
        if warning:
            self.pen.area([(x + 24, middle - 13), (x + 38, middle + 11), (x + 10, middle + 11)], "#f6c445", INK, 1.2)
            self.pen.text((x + 24, middle + 8), "!", 15, "hebo", INK, "center")
        self.pen.lines((x + left, middle - inner / 2 + size), lines, size, font, INK, leading=1.35)
        self.skip(6)

    def figure(self, height: float, draw: Figure, caption: str = "", side: float = 0) -> None:
        """A drawing with a caption below it.

        One that does not fit waits for the next column while the text runs on. `side` is the share of the width that
        it takes at the right, beside the text.
        """
        look = self.look
        width = self.frame[1]
        own = width * side if side else width
        lines = wrap(caption, "heit", look.size * 0.88, own) if caption else []
        tail = len(lines) * look.size * 1.15 + (12 if lines else 6)
        self.skip(6)
        full = self.y + height + tail > self.frame[2] and not self.is_fresh
        if not side and (full or self.waiting):
            self.waiting.append((height, draw, caption))
            return
        y = self.take(height + tail)
        x = self.frame[0] + (width - own if side else 0)
        draw(self.pen, (x, y, x + own, y + height), look.palette)
        self.pen.lines((x, y + height + 13), lines, look.size * 0.88, "heit", GREY)
        if side:
            self.floor, self.y, self.inset = self.y, y, own + 18
        else:
            self.skip(10)

    def table(self, rows: list[list[str]], caption: str = "") -> None:
        """A table; a short one stays whole, a long one repeats its head row on every page."""
        width = self.frame[1]
        table = measure_table(rows, width, self.look.size * 0.9, self.look.table, self.look.palette)
        kept = sum(table.heights) if len(table.heights) < 12 else sum(table.heights[:3])
        size = self.look.size * 0.9
        lines = wrap(caption, "hebo", size, width) if caption else []
        self.skip(6 if caption else 0)
        y = self.take(len(lines) * size * 1.25 + (4 if caption else 0) + kept)
        self.y -= kept
        self.pen.lines((self.frame[0], y + size), lines, size, "hebo", INK, leading=1.25)
        self.place_rows(table)
        self.skip(self.look.size * 1.1)

    def place_rows(self, table: Table) -> None:
        """The rows of a measured table, as many at a time as fit."""
        start = 1
        while start < len(table.rows):
            while self.y + table.heights[0] + table.heights[start] > self.frame[2] and not self.is_fresh:
                self.advance()
            room = self.frame[2] - self.y - table.heights[0]
            stop = start
            while stop < len(table.rows) and sum(table.heights[start : stop + 1]) <= room:
                stop += 1
            stop = max(stop, start + 1)
            y = self.take(table.heights[0] + sum(table.heights[start:stop]))
            draw_rows(self.pen, (self.frame[0], y), table, [0, *range(start, stop)])
            start = stop

    def finish(self) -> pymupdf.Document:
        """Write the last page and hand out the document."""
        while self.waiting:
            self.advance()
        self.pen.finish()
        self.canvas = None
        return self.doc
