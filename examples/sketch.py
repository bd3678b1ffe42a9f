"""A drawing in its own units, scaled into a box on the page: the base of plans, maps and machine drawings."""

from collections.abc import Iterable, Sequence

from .canvas import GREY, INK, PAPER, Box, Canvas, Point, arc


class Sketch:
    """A sheet of `width` by `height` units, as large as fits into the box, in its middle."""

    def __init__(self, canvas: Canvas, box: Box, width: float, height: float) -> None:
        self.canvas = canvas
        self.scale = min((box[2] - box[0]) / width, (box[3] - box[1]) / height)
        self.left = (box[0] + box[2] - width * self.scale) / 2
        self.top = (box[1] + box[3] - height * self.scale) / 2

    def at(self, x: float, y: float) -> Point:
        """Where a point of the sheet lies on the page."""
        return self.left + x * self.scale, self.top + y * self.scale

    def place(self, points: Iterable[Point]) -> list[Point]:
        """Where points of the sheet lie on the page."""
        return [self.at(x, y) for x, y in points]

    def line(self, points: Sequence[Point], colour: str = INK, width: float = 0.9, dashes: str = "") -> None:
        """A line through points of the sheet; its width is in points of the page."""
        self.canvas.line(self.place(points), colour, width, dashes)

    def arrow(self, points: Sequence[Point], colour: str = INK, width: float = 1.1) -> None:
        """A line with a head."""
        self.canvas.arrow(self.place(points), colour, width)

    def area(self, points: Sequence[Point], fill: str, colour: str = INK, width: float = 0.9) -> None:
        """A filled outline."""
        self.canvas.area(self.place(points), fill, colour, width)

    def rect(
        self, x: float, y: float, wide: float, tall: float, fill: str = PAPER, colour: str = INK, width: float = 0.9
    ) -> None:
        """A rectangle from its corner, width and height."""
        self.canvas.rect((*self.at(x, y), *self.at(x + wide, y + tall)), fill, colour, width)

    def circle(
        self,
        x: float,
        y: float,
        radius: float,
        fill: str = PAPER,
        colour: str = INK,
        squash: float = 1,
        width: float = 0.9,
    ) -> None:
        """A circle or an upright ellipse."""
        self.canvas.circle(self.at(x, y), radius * self.scale, fill, colour, width, squash)

    def arc(self, x: float, y: float, radius: float, start: float, sweep: float, colour: str = INK) -> None:
        """A part of a circle, clockwise from the top."""
        self.canvas.line(arc(self.at(x, y), radius * self.scale, start, sweep), colour)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 8,
        font: str = "helv",
        colour: str = INK,
        align: str = "center",
        angle: float = 0,
    ) -> None:
        """Words, one line under the other; their size is in points of the page."""
        px, py = self.at(x, y)
        size *= max(1, 0.85 * self.scale)
        for line in text.split("\n"):
            self.canvas.text((px, py), line, size, font, colour, align, angle)
            py += size * 1.2

    def call_out(self, number: str, x: float, y: float, to_x: float, to_y: float, colour: str = INK) -> None:
        """A number in a ring at (x, y) with a thin line to the part at (to_x, to_y)."""
        self.line([(x, y), (to_x, to_y)], GREY, 0.6)
        self.canvas.circle(self.at(to_x, to_y), 1.4, fill=INK)
        self.canvas.circle(self.at(x, y), 7.5, fill=PAPER, colour=colour, width=1)
        px, py = self.at(x, y)
        self.canvas.text((px, py + 3), number, 8.5, "hebo", colour, "center")

    def measure(self, start: Point, end: Point, text: str, offset: float = 0) -> None:
        """A dimension line with a head at both ends; `offset` moves the words off the line, in points."""
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        self.arrow([middle, start], INK, 0.6)
        self.arrow([middle, end], INK, 0.6)
        px, py = self.at(*middle)
        if abs(end[0] - start[0]) > abs(end[1] - start[1]):
            self.canvas.text((px, py - 3 + offset), text, 8, "helv", INK, "center")
        else:
            self.canvas.text((px - 3 + offset, py), text, 8, "helv", INK, "center", 90)
