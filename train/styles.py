"""How one page looks: its size, columns, type, colours and habits, drawn at random within what real pages do."""

import colorsys
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from moca_rag.pixels import target_size
from moca_rag.records import PixelBudget

from .canvas import Colour, Sides
from .faces import draw_item
from .strips import Voice, round_size

Layout: TypeAlias = Literal["flow", "source", "slide"]
Insert: TypeAlias = Literal["none", "table", "chart", "form", "picture"]
TableRules: TypeAlias = Literal["grid", "lines", "bands", "none"]

TINY_PIXELS = PixelBudget(max_pixels=664 * 28 * 28)
"""Of a composed page at most 0.52 megapixels, at which 10 points on A4 are 10 pixels: small type is learnt at little cost."""

# Points, and how often of a hundred. The last two are a leaflet's column and a sheet turned.
SHEETS = (((595, 842), 36), ((612, 792), 36), ((432, 648), 10), ((420, 595), 8), ((300, 720), 4), ((842, 595), 6))
SLIDES = ((720, 540), (960, 540), (363, 272))
SMALLEST_BODY, LARGEST_BODY = 7.0, 16.0
BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
INKS: tuple[Colour, ...] = (BLACK, BLACK, BLACK, (35, 31, 32), (51, 51, 51), (20, 25, 60), (70, 70, 70))
PAPERS: tuple[Colour, ...] = ((253, 250, 240), (247, 247, 247), (240, 244, 248), (250, 240, 225), (228, 228, 228))
NIGHTS: tuple[Colour, ...] = ((20, 24, 40), (0, 0, 0), (13, 59, 102), (45, 45, 48), (60, 20, 40), (10, 70, 60))
BULLETS = ("•", "•", "•", "–", "*", "▪", "◦", "›")


@dataclass(frozen=True, slots=True)
class HeadingStyle:
    """How headings stand out. A band is a box in the accent's colour with white letters."""

    scale: float
    bold: bool
    italic: bool
    capitals: bool
    numbered: bool
    centred: bool
    ink: Colour
    trim: Literal["plain", "rule", "band"]


@dataclass(frozen=True, slots=True)
class PageStyle:
    """All that is decided about a page before its words are known; lengths are in pixels."""

    width: int
    height: int
    layout: Layout
    insert: Insert
    """What is made up and set among the blocks."""
    margins: Sides
    columns: int
    gutter: float
    body: Voice
    indent: float
    """Of a paragraph's first line."""
    gap: float
    """Between paragraphs."""
    heading: HeadingStyle
    paper: Colour
    accent: Colour
    table_rules: TableRules
    bullet: str
    emphasis: float
    """How often a paragraph has words in italics, bold or mono."""
    box_rate: float
    """How often a short block stands in a box of its own."""
    header: bool
    footer: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, pixels: PixelBudget = TINY_PIXELS) -> "PageStyle":
        """A sheet of text, or one time in eight a slide, at the size at which an indexer would see it."""
        is_slide = rng.random() < 0.125
        points = draw_item(rng, SLIDES) if is_slide else _draw_sheet(rng)
        height, width = target_size(*points, pixels)
        scale = width / (720 if is_slide else points[0])
        is_night = rng.random() < (0.3 if is_slide else 0.015)
        paper = draw_item(rng, NIGHTS) if is_night else WHITE if rng.random() < 0.85 else draw_item(rng, PAPERS)
        ink: Colour = (245, 245, 245) if is_night else draw_item(rng, INKS)
        accent = _draw_accent(rng, is_night)
        columns = 1 if is_slide else _draw_columns(rng, points[0])
        # An indexer may cut a page to its ink before it is sized: then the margins are gone and the type is larger.
        is_cut = not is_slide and rng.random() < 0.25
        body = _draw_body(rng, scale * (1.3 if is_cut else 1.0), columns, is_slide, ink)
        margins = _draw_margins(rng, width, height, is_cut)
        ragged = is_slide or rng.random() < 0.4 or width / columns < 26 * body.size
        indented = not is_slide and rng.random() < 0.4
        layout: Layout = "slide" if is_slide else "source" if rng.random() < 0.5 else "flow"
        return cls(
            width=width,
            height=height,
            layout=layout,
            insert="none" if layout == "source" else _draw_insert(rng, is_slide),
            margins=margins,
            columns=columns,
            gutter=width * float(rng.uniform(0.025, 0.045)),
            body=Voice(body.size, body.leading, ink, "left" if ragged else "justified"),
            indent=body.size * float(rng.uniform(1, 2)) if indented else 0.0,
            gap=body.leading * (0.0 if indented else float(rng.uniform(0.3, 1.0))),
            heading=_draw_heading(rng, ink, accent, is_slide),
            paper=paper,
            accent=accent,
            table_rules=draw_item(rng, ("grid", "lines", "lines", "bands", "none")),
            bullet=draw_item(rng, BULLETS),
            emphasis=float(rng.choice((0.0, 0.15, 0.4))),
            box_rate=float(rng.choice((0.0, 0.0, 0.05, 0.15))),
            header=not is_cut and not is_slide and rng.random() < 0.5,
            footer=not is_cut and rng.random() < 0.6,
        )


def _draw_sheet(rng: np.random.Generator) -> tuple[int, int]:
    weights = np.array([weight for _, weight in SHEETS])
    return SHEETS[int(rng.choice(len(SHEETS), p=weights / weights.sum()))][0]


def _draw_columns(rng: np.random.Generator, points_wide: float) -> int:
    share = rng.random()
    if points_wide > 500 and share < 0.32:
        return 3 if share < 0.05 or (points_wide > 800 and share < 0.2) else 2
    return 1


def _draw_body(rng: np.random.Generator, scale: float, columns: int, is_slide: bool, ink: Colour) -> Voice:
    """Type of 8 to 13 points, less in columns, more on a slide, as it comes out in pixels."""
    if is_slide:
        size = round_size(scale * float(rng.uniform(15, 24)))
    else:
        points = float(rng.normal(10.4 if columns == 1 else 9.4, 1.1))
        size = round_size(min(max(scale * points, SMALLEST_BODY), LARGEST_BODY))
    return Voice(size, size * float(rng.uniform(1.12, 1.45)), ink)


def _draw_margins(rng: np.random.Generator, width: int, height: int, is_cut: bool) -> Sides:
    if is_cut:
        left, top, right, bottom = (float(margin) for margin in rng.uniform(0.008, 0.02, 4))
    else:
        left, top, bottom = (
            float(rng.uniform(0.06, 0.15)),
            float(rng.uniform(0.06, 0.11)),
            float(rng.uniform(0.06, 0.1)),
        )
        right = left if rng.random() < 0.7 else float(rng.uniform(0.06, 0.15))
    return left * width, top * height, right * width, bottom * height


def _draw_insert(rng: np.random.Generator, is_slide: bool) -> Insert:
    share = rng.random()
    if share < 0.35:
        return "none"
    if share < 0.6:
        return "chart"
    if share < 0.8:
        return "table"
    return "picture" if is_slide or share < 0.9 else "form"


def _draw_heading(rng: np.random.Generator, ink: Colour, accent: Colour, is_slide: bool) -> HeadingStyle:
    share = rng.random()
    return HeadingStyle(
        scale=float(rng.uniform(1.3, 1.8) if is_slide else rng.uniform(1.05, 1.65)),
        bold=rng.random() < 0.8,
        italic=rng.random() < 0.1,
        capitals=rng.random() < 0.08,
        numbered=not is_slide and rng.random() < 0.4,
        centred=rng.random() < 0.12,
        ink=accent if rng.random() < 0.3 else ink,
        trim="band" if share < 0.06 else "rule" if share < 0.16 else "plain",
    )


def _draw_accent(rng: np.random.Generator, is_night: bool) -> Colour:
    """A colour of any hue that is read easily: dark on paper, light on a dark page."""
    saturation, value = (rng.uniform(0.2, 0.5), 0.95) if is_night else (rng.uniform(0.6, 1.0), rng.uniform(0.3, 0.62))
    red, green, blue = colorsys.hsv_to_rgb(float(rng.random()), float(saturation), float(value))
    return round(255 * red), round(255 * green), round(255 * blue)


def blend(one: Colour, other: Colour, share: float) -> Colour:
    """A colour between two, `share` of the way to the other.

    >>> blend((0, 0, 0), (255, 255, 255), 0.2)
    (51, 51, 51)
    """
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
