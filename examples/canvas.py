"""Shapes and words on one page: the pen that every chart, table and drawing of the demo corpus is drawn with."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import pymupdf

Point = tuple[float, float]
Box = tuple[float, float, float, float]

INK = "#1d2429"
GREY = "#6f7b83"
RULE = "#b9c2c8"
PAPER = "#ffffff"


@lru_cache
def load_font(name: str) -> pymupdf.Font:
    """One of the fonts inside pymupdf, by its short name (`helv`, `hebo`, `tiro`, `cour`, `cjk` ...)."""
    return pymupdf.Font(name)


@lru_cache(maxsize=100_000)
def choose_font(text: str, font: str) -> str:
    """The font itself, or `cjk` where only that one has all the characters.

    Raises ValueError on a character that neither can draw: it would print as an empty box.
    """
    for name in (font, "cjk"):
        missing = [c for c in text if not load_font(name).has_glyph(ord(c))]
        if not missing:
            return name
    raise ValueError(f"no font has a glyph for {missing} in {text!r}: write it otherwise")


@lru_cache(maxsize=100_000)
def measure(text: str, font: str, size: float) -> float:
    """Width of a line of text in points."""
    return load_font(choose_font(text, font)).text_length(text, fontsize=size)


def parse_colour(colour: str) -> tuple[float, float, float]:
    """`#rrggbb` as the three numbers in 0..1 that pymupdf wants."""
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))  # type: ignore[return-value]


def blend(colour: str, other: str = PAPER, share: float = 0.5) -> str:
    """A colour moved towards another one; share 1 is all of the other.

    >>> blend("#000000", "#ffffff", 0.2)
    '#333333'
    """
    pairs = zip(parse_colour(colour), parse_colour(other), strict=True)
    return "#" + "".join(f"{round(255 * (a + (b - a) * share)):02x}" for a, b in pairs)


def wrap(text: str, font: str, size: float, width: float) -> list[str]:
    """Lines of at most `width` points; a line break in the text stays one, a single long word stands alone."""
    lines = []
    for part in text.split("\n"):
        line = ""
        for word in part.split():
            longer = f"{line} {word}".strip()
            if line and measure(longer, font, size) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def arc(center: Point, radius: float, start: float, sweep: float, squash: float = 1.0) -> list[Point]:
    """Points along a circle's arc; angles in degrees, clockwise from twelve o'clock as a reader sees it."""
    steps = max(2, int(abs(sweep) / 5) + 1)
    angles = [math.radians(start - 90 + sweep * i / steps) for i in range(steps + 1)]
    return [(center[0] + radius * math.cos(a), center[1] + radius * squash * math.sin(a)) for a in angles]


def smooth(points: Sequence[Point], steps: int = 8) -> list[Point]:
    """A soft curve through the points (Catmull-Rom), as a finer polyline."""
    padded = [points[0], *points, points[-1]]
    curve = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for step in range(steps):
            t = step / steps
            curve.append(
                tuple(
                    0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)
                    for a, b, c, d in zip(p0, p1, p2, p3, strict=True)
                )
            )
    return [*curve, points[-1]]  # type: ignore[list-item]


class Canvas:
    """One page while it is drawn: shapes lie under all words, and both keep their order. `finish` writes them down.

    The order of the words is that of the text layer, so what belongs together has to be written together.
    """

    def __init__(self, page: pymupdf.Page) -> None:
        self.page = page
        self.shape = page.new_shape()
        self.words: list[tuple[pymupdf.TextWriter, str, Point, float]] = []

    def line(
        self, points: Sequence[Point], colour: str = INK, width: float = 0.8, dashes: str = "", closed: bool = False
    ) -> None:
        """An open line through the points, or a closed outline."""
        self.shape.draw_polyline([pymupdf.Point(p) for p in points])
        self.shape.finish(
            color=parse_colour(colour), width=width, dashes=dashes or None, closePath=closed, lineJoin=1, lineCap=1
        )

    def area(self, points: Sequence[Point], fill: str, colour: str = "", width: float = 0.8) -> None:
        """A filled outline, with a drawn edge where `colour` is given."""
        self.shape.draw_polyline([pymupdf.Point(p) for p in points])
        edge = parse_colour(colour) if colour else None
        self.shape.finish(fill=parse_colour(fill), color=edge, width=width if colour else 0, closePath=True, lineJoin=1)

    def rect(self, box: Box, fill: str = "", colour: str = "", width: float = 0.8, radius: float = 0) -> None:
        """A rectangle; `radius` rounds its corners and is given in points."""
        x0, y0, x1, y1 = box
        share = min(radius / max(1e-6, min(x1 - x0, y1 - y0)), 0.5) if radius else None
        self.shape.draw_rect(pymupdf.Rect(box), radius=share)
        self.shape.finish(
            fill=parse_colour(fill) if fill else None,
            color=parse_colour(colour) if colour else None,
            width=width if colour else 0,
        )

    def circle(
        self, center: Point, radius: float, fill: str = "", colour: str = "", width: float = 0.8, squash: float = 1.0
    ) -> None:
        """A circle, or an ellipse whose height is `squash` times its width."""
        points = arc(center, radius, 0, 360, squash)
        if fill:
            self.area(points, fill, colour, width)
        else:
            self.line(points, colour or INK, width, closed=True)

    def arrow(self, points: Sequence[Point], colour: str = INK, width: float = 1.0, head: float = 5.0) -> None:
        """A line through the points that ends in a filled head."""
        (x0, y0), (x1, y1) = points[-2], points[-1]
        angle = math.atan2(y1 - y0, x1 - x0)
        base = (x1 - head * math.cos(angle), y1 - head * math.sin(angle))
        side = (head * 0.45 * math.sin(angle), -head * 0.45 * math.cos(angle))
        self.line([*points[:-1], base], colour, width)
        self.area([(x1, y1), (base[0] + side[0], base[1] + side[1]), (base[0] - side[0], base[1] - side[1])], colour)

    def text(
        self,
        at: Point,
        text: str,
        size: float = 9,
        font: str = "helv",
        colour: str = INK,
        align: str = "left",
        angle: float = 0,
    ) -> float:
        """Write one line with its baseline at `at` and return its width; a positive angle turns it upwards."""
        width = measure(text, font, size)
        shift = {"left": 0.0, "center": width / 2, "right": width}[align]
        if angle or not self.words or self.words[-1][1] != colour or self.words[-1][3]:
            self.words.append((pymupdf.TextWriter(self.page.rect), colour, at, angle))
        if text:
            writer = self.words[-1][0]
            writer.append((at[0] - shift, at[1]), text, font=load_font(choose_font(text, font)), fontsize=size)
        return width

    def lines(
        self,
        at: Point,
        lines: Iterable[str],
        size: float = 9,
        font: str = "helv",
        colour: str = INK,
        align: str = "left",
        leading: float = 1.3,
    ) -> float:
        """Write lines under one another, the first baseline at `at`; returns the baseline that would come next."""
        x, y = at
        for line in lines:
            self.text((x, y), line, size, font, colour, align)
            y += size * leading
        return y

    def finish(self) -> None:
        """Write all that was gathered to the page, shapes first."""
        self.shape.commit()
        for writer, colour, pivot, angle in self.words:
            turn = (pymupdf.Point(pivot), pymupdf.Matrix(angle)) if angle else None
            writer.write_text(self.page, color=parse_colour(colour), morph=turn)
